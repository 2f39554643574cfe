"""Gather matters for the pages: flags that tell of one forgery, and how much it may hide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine

from stackwitness.console import facts
from stackwitness.console.views import FlagView, StationView, severity
from stackwitness.flags import matters
from stackwitness.flags.domain import FlagState, sseq_of
from stackwitness.readings import flow as readings
from stackwitness_detectors.attribution import rank_kinds
from stackwitness_detectors.mass_units import KG_M3, M3_H
from stackwitness_detectors.matters import Member, group
from stackwitness_detectors.severity import Hidden, largest_of
from stackwitness_detectors.severity import severity as gravity

# engine -> (station, from, to) -> mean flow in m3/h, None without one; intervals of the past do not change.
_FLOWS: WeakKeyDictionary[Engine, dict[tuple[str, int, int], float | None]] = WeakKeyDictionary()
_MOST_FLOWS = 5_000
_MOST_DAYS = 400
DAY_MS = 86_400_000
MOST_KINDS = 5


@dataclass(frozen=True)
class Mass:
    """Weigh what a matter hides: kg, low <= kg <= high."""

    kg: float
    low: float
    high: float


@dataclass(frozen=True)
class MatterView:
    """A matter as lists need it: its flags strongest first, what it may hide, and which forgeries all of them together fit best."""

    flags: tuple[FlagView, ...]
    hidden: Hidden | None
    mass: Mass | None
    gravity: float
    kinds: tuple[str, ...] = ()

    @property
    def lead(self) -> FlagView:
        """Return the strongest flag: its verdict and sentence speak for all."""
        return self.flags[0]

    @property
    def opens(self) -> FlagView:
        """Return the flag whose page is the matter's: the strongest open one, else the strongest."""
        return next((flag for flag in self.flags if flag.decision is None), self.flags[0])

    @property
    def stands(self) -> bool:
        """Tell whether readings still bear out any flag of it."""
        return any(flag.lapsed_ms is None for flag in self.flags)

    @property
    def verdict(self) -> str:
        """Return the gravest verdict."""
        return self.lead.verdict

    @property
    def tone(self) -> str:
        """Return the CSS name of the verdict, quiet where all of it has lapsed."""
        return self.lead.tone if self.stands else "quiet"

    @property
    def matter_id(self) -> str:
        """Return the id of the flag that was raised first."""
        return min(self.flags, key=lambda flag: sseq_of(flag.flag_id)).flag_id

    @property
    def stn(self) -> str:
        """Return the station."""
        return self.lead.stn

    @property
    def channels(self) -> tuple[str, ...]:
        """Return all channels, those of the stronger flags first."""
        return tuple(dict.fromkeys(name for flag in self.flags for name in flag.channels))

    @property
    def from_ms(self) -> int:
        """Return where the earliest flag begins."""
        return min(flag.from_ms for flag in self.flags)

    @property
    def to_ms(self) -> int:
        """Return where the latest flag ends."""
        return max(flag.to_ms for flag in self.flags)

    @property
    def open_flags(self) -> tuple[FlagView, ...]:
        """Return the flags that wait for a decision."""
        return tuple(flag for flag in self.flags if flag.decision is None)

    @property
    def lapsed_flags(self) -> tuple[FlagView, ...]:
        """Return the flags that readings which came late no longer bear out."""
        return tuple(flag for flag in self.flags if flag.lapsed_ms is not None)

    @property
    def decision(self) -> str | None:
        """Return the decision on the strongest flag; None while any flag is open."""
        return None if self.open_flags else self.lead.decision

    @property
    def order(self) -> tuple[float, tuple[int, float, int, str]]:
        """Order matters, gravest first: words times hidden mass, then the strongest flag."""
        return -self.gravity, severity(self.lead)


def list_matters(
    conn: Connection, *, state: FlagState | None = None, stn: str | None = None
) -> list[MatterView]:
    """Return matters, gravest first; one is open while any of its flags is."""
    if state == "open":
        stns = sorted({flag.stn for flag in facts.list_flags(conn, state="open", stn=stn)})
        flags = [flag for one in stns for flag in facts.list_flags(conn, stn=one)]
    else:
        flags = facts.list_flags(conn, stn=stn)
    found = _gather(flags)
    chosen = [own for own in found if state is None or _state(own) == state]
    told = matters.read_told(conn, [flag.flag_id for own in chosen for flag in own])
    stations = {one: facts.find_station(conn, one) for one in {own[0].stn for own in chosen}}
    return sorted(
        (_weigh(conn, stations[own[0].stn], own, told) for own in chosen), key=lambda view: view.order
    )


def find_matter(conn: Connection, flag: FlagView) -> MatterView:
    """Return the matter of a flag."""
    own = next(own for own in _gather(facts.list_flags(conn, stn=flag.stn)) if flag in own)
    told = matters.read_told(conn, [one.flag_id for one in own])
    return _weigh(conn, facts.find_station(conn, flag.stn), own, told)


def _gather(flags: Sequence[FlagView]) -> list[tuple[FlagView, ...]]:
    by_id = {flag.flag_id: flag for flag in flags}
    found = [[by_id[one.key] for one in matter.members] for matter in group(map(_member, flags))]
    # What lapsed is no evidence: the strongest flag that stands speaks for the matter.
    return [tuple(sorted(own, key=lambda flag: flag.lapsed_ms is not None)) for own in found]


def _member(flag: FlagView) -> Member:
    return Member(
        flag.flag_id, flag.stn, flag.kind, flag.verdict, flag.from_ms, flag.to_ms, flag.channels, flag.e_value,
        sseq_of(flag.flag_id),
    )  # fmt: skip


def _state(flags: tuple[FlagView, ...]) -> FlagState:
    return "open" if any(flag.decision is None for flag in flags) else "decided"


def _weigh(
    conn: Connection,
    station: StationView,
    flags: tuple[FlagView, ...],
    told: Mapping[str, matters.Told],
) -> MatterView:
    standing = [flag for flag in flags if flag.lapsed_ms is None]
    said = [told[flag.flag_id] for flag in standing or flags if flag.flag_id in told]
    hidden = largest_of(one.hidden for one in said)
    from_ms, to_ms = min(flag.from_ms for flag in flags), max(flag.to_ms for flag in flags)
    mass = None if hidden is None else _mass(conn, station, hidden, from_ms, to_ms)
    weight = gravity(flags[0].verdict, hidden, from_ms, to_ms) if standing else 0.0
    return MatterView(flags, hidden, mass, weight, rank_kinds(said)[:MOST_KINDS])


def _mass(conn: Connection, station: StationView, hidden: Hidden, from_ms: int, to_ms: int) -> Mass | None:
    """Turn what is missing into kg by the mean flow of the time; None where the station measures no flow."""
    unit = next((c.unit for c in station.channels if c.name == hidden.channel), "")
    if unit not in KG_M3:
        return None
    flow = _flow(conn, station, from_ms, to_ms)
    if flow is None:
        return None
    kg = hidden.missing * KG_M3[unit] * flow * hidden.hours
    return Mass(kg, kg * hidden.low / hidden.share, kg * hidden.high / hidden.share)


def _flow(conn: Connection, station: StationView, from_ms: int, to_ms: int) -> float | None:
    channel = next((c for c in station.channels if c.role == "flow" and c.unit in M3_H), None)
    if channel is None:
        return None
    kept = _FLOWS.setdefault(conn.engine, {})
    key = (station.stn, from_ms, to_ms)
    if key not in kept:
        first_ms = max(from_ms, to_ms - _MOST_DAYS * DAY_MS)
        at = facts.at_of(first_ms), facts.at_of(max(to_ms, first_ms + 1))
        rows = readings.read_page(
            conn, station.stn, *at, channels=[channel.name], aggregate="day", limit=_MOST_DAYS + 2
        ).rows
        means = [row["mean"] for row in rows if row["mean"] is not None]
        if len(kept) > _MOST_FLOWS:
            kept.clear()
        kept[key] = sum(means) / len(means) * M3_H[channel.unit] if means else None
    return kept[key]
