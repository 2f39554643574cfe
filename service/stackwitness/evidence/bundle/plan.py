"""Choose what goes into a bundle: a head of the log that ends it, runs of envelopes, subjects, strays."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import Connection

from emdi.entry import Entry
from emdi.envelope import Envelope, parse_envelope
from emdi.errors import EmdiError
from emdi.event import parse_event
from emdi.scope import COMMON_SUBJECTS, Run, StationScope, head_to_json, officers_of, parse_head
from emdi.tiles import TileReader
from stackwitness.evidence.bundle import queries
from stackwitness.evidence.bundle.published import Concern, find_strays
from stackwitness.evidence.bundle.queries import Choice, Touching
from stackwitness.evidence.domain import Export, ms_of
from stackwitness.log.heads import DailyHead, list_heads

# Two parts of the period with more envelopes than this between them are two runs.
BETWEEN = 1000
MANY_HEADS = 10_000
WHOLE_LOG = (0, 2**63 - 1)
PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """The choice, fixed before the first byte is written: a build that goes on after a crash keeps to it."""

    size: int
    head_idx: int
    heads: tuple[int, ...]
    stations: tuple[StationScope, ...]
    subjects: tuple[str, ...]
    strays: tuple[int, ...]

    @property
    def head_as_of(self) -> int:
        """Return the log size of the head that ends the exported part of the log."""
        return self.heads[-1]

    @property
    def choice(self) -> Choice:
        """Return what the queries need."""
        return Choice(self.subjects, self.stations, self.head_as_of, self.head_idx)


def concern_of(export: Export, subjects: Iterable[str]) -> Concern:
    """Return whom an export is about and which envelopes it wants."""
    from_ms, to_ms = ms_of(export.from_at), ms_of(export.to_at)
    first_idx, end_idx = export.entries or WHOLE_LOG

    def holds(envelope: Envelope, idx: int, recv_ms: int) -> bool:
        times = [record.at_ms for record in envelope.records]
        touches = min(times) < to_ms and max(times) >= from_ms
        return first_idx <= idx < end_idx and (touches or from_ms <= recv_ms < to_ms)

    return Concern(frozenset(export.stns), frozenset(subjects), holds)


def find_subjects(conn: Connection, export: Export, below: int) -> tuple[str, ...]:
    """Return the stations' subjects, the common ones, and those of every officer they name, sorted."""
    subjects: set[str] = set()
    fresh = {f"station:{stn}" for stn in export.stns}
    while fresh:
        subjects |= fresh
        officers: set[str] = set()
        for jws in queries.read_events(conn, sorted(fresh), below):
            try:
                officers |= officers_of(parse_event(jws))
            except EmdiError:  # named by the verifier
                continue
        fresh = {f"account:{name}" for name in officers} - subjects
    return tuple(sorted(subjects | set(COMMON_SUBJECTS)))


def make_plan(conn: Connection, export: Export, tiles: TileReader, head: DailyHead, head_idx: int) -> Plan:
    """Choose everything below `head`, and the log's own events up to `head_idx`, where the head's event stands or, in
    a frozen log, log.freeze behind it; raises LogUnavailable.
    """
    subjects = find_subjects(conn, export, head.as_of)
    concern = concern_of(export, subjects)
    earlier = list_heads(conn, head.as_of, MANY_HEADS)
    since = next((item.as_of for item in earlier if item.date < head.date), 0)
    strays = dict(find_strays(conn, tiles, concern, since, head.as_of))
    stations = tuple(_choose_station(conn, export, stn, head.as_of, strays) for stn in export.stns)
    heads = _choose_heads(conn, stations, head.as_of, [item.as_of for item in earlier])
    return Plan(tiles.size, head_idx, heads, stations, subjects, tuple(sorted(strays)))


def _choose_station(
    conn: Connection, export: Export, stn: str, as_of: int, strays: dict[int, Entry]
) -> StationScope:
    period_ms = (ms_of(export.from_at), ms_of(export.to_at))
    places = queries.find_touching(
        conn, stn, export.from_at, export.to_at, period_ms, export.entries or WHOLE_LOG, as_of
    )
    places = sorted({*places, *_places_of(strays, stn)})
    runs = [_widen(conn, stn, run, as_of) for run in runs_of(places)]
    return StationScope(stn, tuple(merge_runs(runs)), queries.find_head(conn, stn, as_of))


def _places_of(strays: dict[int, Entry], stn: str) -> list[Touching]:
    places = []
    for idx, entry in strays.items():
        try:
            envelope = parse_envelope(entry.body)
        except EmdiError:
            continue
        if envelope.stn == stn:
            places.append(Touching(envelope.ep, envelope.seq, idx))
    return places


def runs_of(places: list[Touching]) -> list[Run]:
    """Return the runs that hold these places of a chain: a new one where over BETWEEN envelopes lie between."""
    runs: list[Run] = []
    for place in places:
        last = runs[-1] if runs else None
        if last is not None and (place.ep != last.ep_last or place.seq - last.seq_last <= BETWEEN):
            runs[-1] = Run(last.ep_first, last.seq_first, place.ep, place.seq)
        else:
            runs.append(Run(place.ep, place.seq, place.ep, place.seq))
    return runs


def merge_runs(runs: list[Run]) -> list[Run]:
    """Join runs that meet or overlap."""
    merged: list[Run] = []
    for run in runs:
        last = merged[-1] if merged else None
        if last is not None and (run[:2] <= last[2:] or run[:2] == (last.ep_last, last.seq_last + 1)):
            merged[-1] = Run(*last[:2], *max(last[2:], run[2:]))
        else:
            merged.append(run)
    return merged


def _widen(conn: Connection, stn: str, run: Run, as_of: int) -> Run:
    """Add the envelope before and the one after: they show that the run leaves out nothing of the period."""
    first = queries.find_beside(conn, stn, run[:2], as_of, after=False) or run[:2]
    last = queries.find_beside(conn, stn, run[2:], as_of, after=True) or run[2:]
    return Run(*first, *last)


def _choose_heads(
    conn: Connection, stations: tuple[StationScope, ...], as_of: int, sizes: list[int]
) -> tuple[int, ...]:
    """Return the sizes of the last head before the envelopes, the first after them, and the one that ends all."""
    spans = [queries.find_span(conn, station.stn, station.runs) for station in stations if station.runs]
    if not spans:
        return (as_of,)
    first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    before = max((size for size in sizes if size <= first), default=as_of)
    after = min((size for size in sizes if size > last), default=as_of)
    return tuple(sorted({before, after, as_of}))


def save_plan(plan: Plan, folder: Path) -> None:
    """Write the plan beside the members."""
    members = asdict(plan)
    members["stations"] = [
        {"stn": station.stn, "runs": station.runs, "head": head_to_json(station.head)}
        for station in plan.stations
    ]
    draft = folder / f"{PLAN}.part"
    draft.write_text(json.dumps(members), "utf-8")
    draft.replace(folder / PLAN)


def load_plan(folder: Path) -> Plan | None:
    """Return the plan of an interrupted build; None when there is none that can be kept."""
    try:
        members = json.loads((folder / PLAN).read_text("utf-8"))
        stations = tuple(
            StationScope(item["stn"], tuple(Run(*run) for run in item["runs"]), parse_head(item["head"]))
            for item in members["stations"]
        )
        lists = {name: tuple(members[name]) for name in ("heads", "subjects", "strays")}
        return Plan(members["size"], members["head_idx"], stations=stations, **lists)
    except (OSError, ValueError, KeyError, TypeError, EmdiError):
        return None
