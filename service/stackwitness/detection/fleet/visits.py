"""Whom to inspect first: what stands open and what sets a station apart from its neighbours, at a false discovery rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from stackwitness.detection.fleet import queries
from stackwitness.detection.fleet.domain import Candidate, FleetFinding
from stackwitness.flags.domain import Flag
from stackwitness.flags.queries import list_standing
from stackwitness.stations.flow import to_ms as ms_of
from stackwitness_detectors.ranking import FDR, MONTH_MS, Spoken, choose_stations, evidence_of


@dataclass(frozen=True)
class Compared:
    """What the last comparisons of neighbours found, by station, over how many stations, up to when (the oldest; None: never)."""

    findings: Mapping[str, tuple[FleetFinding, ...]]
    stations: int
    upto: datetime | None


@dataclass(frozen=True)
class Visit:
    """A station to inspect: its e-value, how many open flags of the last month speak against it, and what sets it apart."""

    station: Candidate
    e_value: float
    flags: int
    apart: tuple[FleetFinding, ...]


@dataclass(frozen=True)
class Choice:
    """The stations to inspect first, strongest evidence first, and what they were chosen from."""

    visits: tuple[Visit, ...]
    stations: int
    flags: int
    compared: Compared


def read_choice(conn: Connection) -> Choice:
    """Choose the stations to inspect first from what stands in the database."""
    return choose_visits(queries.list_candidates(conn), list_standing(conn), read_compared(conn))


def read_compared(conn: Connection) -> Compared:
    """Return what the last comparison of each agency's stations found."""
    runs = queries.list_runs(conn)
    found: dict[str, tuple[FleetFinding, ...]] = {}
    for run in runs:
        for one in run.findings:
            found[one.stn] = (*found.get(one.stn, ()), one)
    return Compared(found, sum(len(run.heads) for run in runs), min((run.upto for run in runs), default=None))


def choose_visits(stations: Sequence[Candidate], standing: Iterable[Flag], compared: Compared) -> Choice:
    """Choose the stations to inspect first by e-BH, so that at most FDR of them are expected innocent.

    What counts are `standing` flags (open, not lapsed) and findings beside the neighbours that reach into the month before a
    station's last reading. Strongest first; the same rows give the same choice.
    """
    named = {station.stn: station for station in stations}
    last_ms = {stn: ms_of(one.last_at) if one.last_at else 0 for stn, one in named.items()}
    spoken: dict[str, list[Spoken]] = {stn: [] for stn in named}
    for flag in standing:
        if flag.stn in named and ms_of(flag.to_at) > last_ms[flag.stn] - MONTH_MS:
            spoken[flag.stn].append(Spoken(flag.detector, flag.channels, ms_of(flag.to_at), flag.e_value))
    apart = {
        stn: tuple(one for one in compared.findings.get(stn, ()) if one.to_ms > last_ms[stn] - MONTH_MS)
        for stn in named
    }
    e_values = {
        stn: evidence_of(
            [
                *spoken[stn],
                *(Spoken(one.detector, one.channels, one.to_ms, one.e_value) for one in apart[stn]),
            ],
            named[stn].judged,
            last_ms[stn],
        )
        for stn in named
    }
    return Choice(
        tuple(
            Visit(named[stn], e_values[stn], len(spoken[stn]), apart[stn])
            for stn in choose_stations(e_values, FDR)
        ),
        len(named),
        sum(map(len, spoken.values())),
        compared,
    )
