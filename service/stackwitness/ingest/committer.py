"""Group commit: one thread takes what waits, decides each submission by itself, commits once for all."""

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import psycopg
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, IntegrityError

from emdi.envelope import Envelope, Skip
from stackwitness import clock
from stackwitness.db.timescale import ensure_months
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import (
    DatabaseUnavailable,
    LogFrozen,
    StackwitnessError,
    TooManyPending,
    Unprocessable,
)
from stackwitness.ingest import queries
from stackwitness.ingest.domain import Checked, Roster, Verdict
from stackwitness.ingest.judge import Judge, Plan
from stackwitness.ingest.rosters import Rosters
from stackwitness.ingest.rows import copy_file, joined, pack_envelope
from stackwitness.log.events import append_event
from stackwitness.stations.domain import subject_of
from stackwitness.wiring import Wiring

DAY_MS = 86_400_000
MAX_GROUP_ROWS = 60_000
MAX_WAITING_ROWS = 400_000
PENDING_CHECK_S = 1.0
STOP_TIMEOUT_S = 30.0
SWITCH_S = 0.0005
AWAY = (psycopg.OperationalError, psycopg.InterfaceError, DatabaseUnavailable)
UNSTORABLE = (psycopg.DataError, psycopg.IntegrityError, DataError, IntegrityError)

log = structlog.get_logger("stackwitness.ingest")


@dataclass(frozen=True, slots=True)
class Submission:
    """The checked envelopes of one request, one station, and the future its handler waits on."""

    envelopes: tuple[Checked, ...]
    rows: int
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[Verdict]"


class Committer:
    """Store submissions in groups: entering the context starts the thread, leaving drains what waits."""

    def __init__(self, wiring: Wiring) -> None:
        self.rosters = Rosters(wiring.engine)
        self.large = asyncio.Semaphore(1)
        self.max_future_ms = wiring.settings.max_future_ms
        self._engine = wiring.engine
        self._signer = wiring.service_key
        self._pending_limit = wiring.settings.pending_limit
        self._waiting: deque[Submission] = deque()
        self._waiting_rows = 0
        self._stopping = False
        self._behind = False
        self._frozen: LogFrozen | None = None
        self._pending_due_s = 0.0
        self._months: set[tuple[int, int]] = set()
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ingest-committer", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        # Woken by the database, the thread waits this long for the interpreter's lock, eight times a group.
        sys.setswitchinterval(SWITCH_S)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Store what waits, then end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(STOP_TIMEOUT_S)

    async def submit(self, envelopes: Sequence[Checked]) -> Verdict:
        """Wait for the verdict on envelopes of one station; stored means committed.

        Raises TooManyPending log.backpressure | ingest.busy, DatabaseUnavailable.
        """
        if self._behind:
            raise TooManyPending("log.backpressure", "Too many leaves wait for the log; try again")
        loop = asyncio.get_running_loop()
        rows = sum(len(checked.rows) for checked in envelopes)
        submission = Submission(tuple(envelopes), rows, loop, loop.create_future())
        with self._wake:
            if self._stopping or self._waiting_rows > MAX_WAITING_ROWS:
                raise TooManyPending("ingest.busy", "Too many readings wait to be stored; try again")
            self._waiting.append(submission)
            self._waiting_rows += rows
            self._wake.notify()
        return await submission.answer

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._waiting and not self._stopping:
                    self._wake.wait(PENDING_CHECK_S)
                if self._stopping and not self._waiting:
                    return
                group = self._take_group()
            if group:
                self._settle(group)
            if time.monotonic() >= self._pending_due_s:
                self._check_pending()

    def _take_group(self) -> list[Submission]:
        group: list[Submission] = []
        rows = 0
        while self._waiting and (not group or rows + self._waiting[0].rows <= MAX_GROUP_ROWS):
            submission = self._waiting.popleft()
            group.append(submission)
            rows += submission.rows
        self._waiting_rows -= rows
        return group

    def _settle(self, group: list[Submission]) -> None:
        """Store a group and answer every waiter; what cannot be stored must not take its neighbours along."""
        try:
            if self._frozen is None:
                self._make_months(group)
            with unit_of_work(self._engine, "sw_ingest") as conn:
                verdicts = self._store(conn, group)
        except LogFrozen as error:
            if self._frozen is not None:
                _answer([(submission, error) for submission in group])
                return
            self._frozen = error  # for ever: from now on only what is known already is acknowledged
            self._settle(group)
        except AWAY as error:
            log.warning("ingest.database_away", submissions=len(group), error=str(error.__cause__ or error))
            _answer([(submission, DatabaseUnavailable()) for submission in group])
        except Exception as error:
            self._months.clear()
            if len(group) > 1:
                for submission in group:
                    self._settle([submission])
                return
            # No traceback: rendering one with its locals would hold up every station for seconds.
            log.error("ingest.unstorable", error=repr(error))
            refusal: Exception = error
            if isinstance(error, UNSTORABLE):
                refusal = Unprocessable("ingest.unstorable", "The database refuses these readings")
            _answer([(group[0], refusal)])
        else:
            _answer(list(zip(group, verdicts, strict=True)))

    def _store(self, conn: Connection, group: list[Submission]) -> list[Verdict]:
        """Lock, decide, write: the caller's transaction commits."""
        raw = queries.raw_of(conn)
        stns = {submission.envelopes[0].envelope.stn for submission in group}
        standings, numbers = queries.lock_stations(raw, stns, sum(len(s.envelopes) for s in group))
        rosters: dict[str, Roster] = {}
        for stn, standing in standings.items():
            roster = self.rosters.current(conn, stn, standing)
            if roster is not None:
                rosters[stn] = roster
        behind = set()
        for submission in group:
            for envelope in (checked.envelope for checked in submission.envelopes):
                place = standings.get(envelope.stn)
                if (
                    place is not None
                    and place.head is not None
                    and (envelope.ep, envelope.seq) <= place.head[:2]
                ):
                    behind.add((envelope.stn, envelope.ep, envelope.seq))
        kept = queries.find_positions(raw, behind) if behind else {}
        judge = Judge(standings, rosters, kept, self._frozen)
        verdicts = [judge.judge(submission.envelopes) for submission in group]
        self._write(conn, judge.plan, numbers)
        return verdicts

    def _write(self, conn: Connection, plan: Plan, numbers: Sequence[int]) -> None:
        raw, recv_ms = queries.raw_of(conn), clock.now_ms()
        if plan.accepted:
            numbered = list(zip(plan.accepted, numbers, strict=False))
            queries.copy_envelopes(
                raw, copy_file(pack_envelope(c, number, recv_ms) for c, number in numbered)
            )
            queries.copy_readings(raw, copy_file(joined(c.rows, number) for c, number in numbered))
            queries.store_heads(raw, plan.heads)
        for envelope, here in plan.equivocations:
            if queries.insert_quarantine(raw, envelope, "equivocation", recv_ms):
                self._append(
                    conn,
                    envelope.stn,
                    "equivocation",
                    {
                        "stn": envelope.stn,
                        "ep": envelope.ep,
                        "seq": envelope.seq,
                        "kid": envelope.kid,
                        "env_id": envelope.env_id.hex(),
                        "kept": here.env_id.hex(),
                    },
                )
        for envelope, prev_ep in plan.epochs:
            queries.insert_epoch(raw, envelope, prev_ep, self._append_epoch(conn, envelope, prev_ep))
        for envelope in (checked.envelope for checked in plan.accepted):
            if envelope.skip is not None:
                queries.insert_gap(
                    raw, envelope, envelope.skip, self._append_gap(conn, envelope, envelope.skip)
                )
        if plan.closed:
            queries.defer_scans(raw, list(plan.closed))

    def _append_epoch(self, conn: Connection, envelope: Envelope, prev_ep: int) -> bytes:
        data = {"ep": envelope.ep, "prev_ep": prev_ep, "env_id": envelope.env_id.hex()}
        return self._append(conn, envelope.stn, "epoch.open", data)

    def _append_gap(self, conn: Connection, envelope: Envelope, skip: Skip) -> bytes:
        data = {"ep": envelope.ep, "from": skip.first, "to": skip.last, "why": skip.why}
        return self._append(conn, envelope.stn, "gap.opened", {**data, "env_id": envelope.env_id.hex()})

    def _append(self, conn: Connection, stn: str, typ: str, data: dict[str, object]) -> bytes:
        subj, act = subject_of(stn), self._signer.kid
        return append_event(conn, self._signer, typ=typ, subj=subj, act=act, data=data).event_id

    def _make_months(self, group: list[Submission]) -> None:
        """Make partitions before the transaction: it must not hold the stations meanwhile."""
        for submission in group:
            for first_ms, last_ms in (span for checked in submission.envelopes for span in checked.spans):
                months = months_of(first_ms, last_ms)
                if months <= self._months:
                    continue
                with unit_of_work(self._engine, "sw_ingest") as conn:
                    ensure_months(conn, queries.to_instant(first_ms), queries.to_instant(last_ms))
                self._months |= months

    def _check_pending(self) -> None:
        self._pending_due_s = time.monotonic() + PENDING_CHECK_S
        try:
            with unit_of_work(self._engine, "sw_ingest") as conn:
                waiting = queries.count_pending(conn, self._pending_limit + 1)
        except StackwitnessError:
            return
        self._behind = waiting > self._pending_limit


def months_of(first_ms: int, last_ms: int) -> set[tuple[int, int]]:
    """Return (year, month) of every UTC month between two times; a step of 27 days misses none."""
    samples = (*range(first_ms, last_ms, 27 * DAY_MS), last_ms)
    return {(at.year, at.month) for at in map(queries.to_instant, samples)}


def _answer(answers: Sequence[tuple[Submission, Verdict | Exception]]) -> None:
    """Hand each waiter its own answer, waking its loop once per group."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Verdict], Verdict | Exception]]] = {}
    for submission, answer in answers:
        by_loop.setdefault(submission.loop, []).append((submission.answer, answer))
    for loop, pairs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, pairs)
        except RuntimeError:
            log.info("ingest.loop_closed", answers=len(pairs))  # nobody is left to hear it


def _resolve(pairs: Sequence[tuple["asyncio.Future[Verdict]", Verdict | Exception]]) -> None:
    for future, answer in pairs:
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
