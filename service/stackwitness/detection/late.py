"""Readings that come late: logged by name, and judged by going back to a memory from before them.

Each step back is paid for by waiting, so that a station which is late all the time costs a bounded share of a core.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from sqlalchemy import Connection

from emdi.event import Event
from emdi.runs import LATE, RUN, RunChain, parse_run
from emdi.standing import FLAGS, LAPSED, Standing, lapse_of
from stackwitness import clock
from stackwitness.db.unit import unit_of_work
from stackwitness.detection import queries
from stackwitness.detection.keeping import may_step
from stackwitness.detection.queries import Memory
from stackwitness.flags import flow as flags
from stackwitness.log.events import append_event, lock_subject
from stackwitness.stations.domain import subject_of
from stackwitness.stations.flow import to_ms as ms_of
from stackwitness.wiring import Wiring
from stackwitness_detectors import DetectorError, state_hash

log = structlog.get_logger("detection")
BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Base:
    """Where judging goes on: at `upto` with `state`; both None at the station's first reading."""

    upto: datetime | None
    state: bytes | None


def find_base(conn: Connection, stn: str, memory: Memory) -> Base | None:
    """Return the newest memory from before the late readings, or the beginning; None when nothing is late or
    detection rests.

    Only where the log names late readings, and only to a memory that a run in force left, as the log says.
    """
    if memory.late_from is None or memory.late_from >= memory.upto:
        return None
    first = queries.next_reading_at(conn, stn, BEGINNING) or memory.upto
    found = Base(None, None)
    chain = _follow_runs(conn, stn)
    if chain.late_ms is None or chain.late_ms > ms_of(memory.late_from):
        log.error("detection.late_foreign", stn=stn, alarm=True)
        return None
    for upto, state in queries.list_kept(conn, stn, memory.late_from):
        try:
            if chain.ended(ms_of(upto), state_hash(state)):
                found = Base(upto, state)
                break
        except DetectorError:  # of another version
            break
    hours = (memory.upto - (found.upto or first)).total_seconds() / 3600
    return found if may_step(clock.now_utc(), memory.stepped_at, hours) else None


def _follow_runs(conn: Connection, stn: str) -> RunChain:
    chain = RunChain(complete=False)
    for event in queries.list_events(conn, subject_of(stn), (RUN, LATE)):
        chain.take_event(event)
    return chain


def note_late(wiring: Wiring, stn: str) -> None:
    """Log readings of a time already judged that came since the last run."""
    with unit_of_work(wiring.engine, "sw_detect") as conn:
        memory = queries.find_memory(conn, stn)
        if memory is None or not queries.list_late(conn, stn, memory.looked, memory.upto):
            return
        queries.lock_station(conn, stn)
        lock_subject(conn, subject_of(stn))
        memory = queries.find_memory(conn, stn)
        if memory is not None:
            append_late(conn, wiring, stn, memory.looked, memory.upto, memory.upto)


def append_late(
    conn: Connection, wiring: Wiring, stn: str, looked: tuple[int, int], cursor: datetime, start: datetime
) -> None:
    """Log which envelopes behind `looked` brought readings before the cursor; the station is locked.

    Those with readings before `start`, where the next run begins, wait until one goes back to them.
    """
    late_from: datetime | None = None
    for late in queries.list_late(conn, stn, looked, cursor):
        append_event(
            conn,
            wiring.service_key,
            typ=LATE,
            subj=subject_of(stn),
            act=flags.DETECTION,
            data={
                "ep": late.ep,
                "seq": late.seq,
                "seq_last": late.seq_last,
                "envelopes": late.envelopes,
                "from_ms": ms_of(late.first_at),
                "to_ms": ms_of(cursor),
            },
        )
        if late.first_at < start:
            late_from = min(late.first_at, late_from or late.first_at)
    progress = queries.find_progress(conn, stn)
    if progress is not None:
        queries.note_looked(conn, stn, progress.head, late_from)


def note_step(conn: Connection, stn: str, former: datetime, upto: datetime) -> None:
    """Remember that this run goes back to what came late, and how far judging had been; the next waits its turn."""
    queries.note_step(conn, stn, clock.now_utc(), former, upto)


def load_standing(conn: Connection, stn: str, *, always: bool) -> Standing | None:
    """Return which flags stand, from the station's events; without `always` only when any has ever lapsed."""
    subject = subject_of(stn)
    if not always and not queries.list_events(conn, subject, (LAPSED,)):
        return None
    standing = Standing()
    for event in queries.list_events(conn, subject, (RUN, LATE, LAPSED, *sorted(FLAGS))):
        _hand_to(standing, event)
    return standing


def _hand_to(standing: Standing, event: Event) -> None:
    if event.typ == RUN:
        run = parse_run(event)
        standing.begin(run.from_ms)
        standing.end(run)
    else:
        standing.take(event)


def append_lapses(conn: Connection, wiring: Wiring, stn: str, standing: Standing, upto: datetime) -> int:
    """Say which flags the runs over late readings did not find again; returns how many."""
    lapsing = standing.lapsing(ms_of(upto))
    for told in lapsing:
        flags.lapse_flag(conn, wiring.service_key, stn, told.event_id, lapse_of(told))
    return len(lapsing)
