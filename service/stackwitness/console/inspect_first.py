"""Whom to inspect first: what stands open and what sets a station apart from its neighbours, at a false discovery rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from stackwitness.console.facts import ms_of
from stackwitness.console.views import FlagView, StationView
from stackwitness.detection.fleet import queries
from stackwitness.detection.fleet.domain import FleetFinding
from stackwitness_detectors.ranking import FDR, MONTH_MS, Spoken, choose_stations, evidence_of

JUDGED = ("pollutant", "diluent", "flow")


@dataclass(frozen=True)
class Compared:
    """What the last comparisons of neighbours found, by station, over how many stations, up to when (the oldest; None: never)."""

    findings: Mapping[str, tuple[FleetFinding, ...]]
    stations: int
    upto_ms: int | None


@dataclass(frozen=True)
class Visit:
    """A station to inspect: how many open flags of the last month speak against it, and what sets it apart from its neighbours."""

    station: StationView
    flags: int
    apart: tuple[FleetFinding, ...]


@dataclass(frozen=True)
class Choice:
    """The stations to inspect first, strongest evidence first, and what they were chosen from."""

    visits: tuple[Visit, ...]
    stations: int
    flags: int
    compared: Compared


def read_compared(conn: Connection) -> Compared:
    """Return what the last comparison of each agency's stations found."""
    runs = queries.list_runs(conn)
    found: dict[str, tuple[FleetFinding, ...]] = {}
    for run in runs:
        for one in run.findings:
            found[one.stn] = (*found.get(one.stn, ()), one)
    ends = [ms_of(run.upto) for run in runs]
    return Compared(found, sum(len(run.heads) for run in runs), min(ends, default=None))


def choose_visits(
    stations: Sequence[StationView], open_flags: Iterable[FlagView], compared: Compared
) -> Choice:
    """Choose the stations to inspect first by e-BH, so that at most FDR of them are expected innocent.

    What counts are open flags and findings beside the neighbours that reach into the month before a station's last reading.
    A flag that lapsed is no evidence. Strongest first; the same rows give the same choice.
    """
    named = {station.stn: station for station in stations}
    since = {stn: (station.last_at_ms or 0) - MONTH_MS for stn, station in named.items()}
    flags: dict[str, list[FlagView]] = {stn: [] for stn in named}
    for flag in open_flags:
        if flag.lapsed_ms is None and flag.stn in named and flag.to_ms > since[flag.stn]:
            flags[flag.stn].append(flag)
    apart = {
        stn: tuple(one for one in compared.findings.get(stn, ()) if one.to_ms > since[stn]) for stn in named
    }
    chosen = choose_stations({stn: _evidence(named[stn], flags[stn], apart[stn]) for stn in named}, FDR)
    return Choice(
        tuple(Visit(named[stn], len(flags[stn]), apart[stn]) for stn in chosen),
        len(named),
        sum(map(len, flags.values())),
        compared,
    )


def _evidence(station: StationView, flags: Iterable[FlagView], apart: Iterable[FleetFinding]) -> float:
    spoken = [Spoken(one.detector, one.channels, one.to_ms, one.e_value) for one in flags]
    spoken += [Spoken(one.detector, one.channels, one.to_ms, one.e_value) for one in apart]
    judged = sum(channel.role in JUDGED for channel in station.channels)
    return evidence_of(spoken, judged, station.last_at_ms or 0)
