"""Scan a station: what is stored and not yet judged goes through the detectors, findings become flags.

What is still to be judged follows from the data (the station's head against the detectors' memory), never
from a job: a lost job loses nothing. Only the worker imports this module: it loads numpy and the detectors.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import structlog
from sqlalchemy import Connection

from emdi.keys import Signer
from stackwitness.db.unit import unit_of_work
from stackwitness.detection import late, queries
from stackwitness.detection.domain import Unjudged
from stackwitness.detection.frames import make_context, make_frame
from stackwitness.detection.gaps import raise_gaps
from stackwitness.detection.keeping import until_ms
from stackwitness.detection.runs import digest_of, input_of
from stackwitness.flags import flow as flags
from stackwitness.flags.domain import Provenance
from stackwitness.log.events import append_event, lock_subject
from stackwitness.stations.domain import subject_of
from stackwitness.stations.flow import to_ms as ms_of
from stackwitness.stations.queries import list_channels, list_limits
from stackwitness.wiring import Wiring
from stackwitness_detectors import CODE_VERSION, DetectorError, Finding, config_hash, run, state_hash
from stackwitness_detectors.config import DEFAULT
from stackwitness_detectors.contract import Context, Frame, Result

CHUNK = timedelta(days=31)
DETECTOR_SUBJECT = "detector"
log = structlog.get_logger("detection")


@dataclass(frozen=True)
class Chunk:
    """Hold what one step judges: readings of [start, upto), after the memory that ended at `before` or None.

    `head` is the station's last envelope among those that were read, `looked` the last one that was looked at
    for late readings before. `stepped`: it goes back to what came late; `late`: so did a run before, and judging is
    not yet as far again.
    """

    context: Context
    frame: Frame
    count: int
    state: bytes | None
    before: datetime | None
    start: datetime
    upto: datetime
    head: tuple[int, int]
    looked: tuple[int, int]
    stepped: bool
    late: bool


class _Overtaken(Exception):
    """What was judged is no longer all there is: load it again."""


def scan(wiring: Wiring, stn: str) -> int:
    """Judge everything of a station that is stored and lies before its last full hour.

    Returns how many flags were raised or extended. Each chunk is one transaction: flags, the detectors' memory
    and the event detector.run over them, or nothing. A run judges exactly the readings of its period that stand
    before it in the log: whoever has the log runs it again. Raises what the detectors or the database raise: then
    the memory has not moved, and the next scan begins at the same reading.
    """
    log_config(wiring)
    count = raise_gaps(wiring, stn)
    late.note_late(wiring, stn)
    fresh = False
    while (chunk := load_chunk(wiring, stn, fresh=fresh)) is not None:
        try:
            result = run(chunk.context, chunk.state, chunk.frame)
        except DetectorError as error:
            if chunk.state is None or not error.code.startswith("state."):
                raise
            # Other detectors wrote this memory: judge all anew; episodes known keep their flags.
            log.warning("detection.memory_unreadable", stn=stn, code=error.code)
            fresh = True
            continue
        try:
            moved, raised = store(wiring, stn, chunk, result)
        except _Overtaken:
            continue
        if not moved:
            log.info("detection.overtaken", stn=stn)
            return count
        count += raised
        fresh = False
    late.note_late(wiring, stn)
    if count:
        log.info("detection.flags", stn=stn, count=count)
    return count


def load_chunk(wiring: Wiring, stn: str, *, fresh: bool = False) -> Chunk | None:
    """Load the next piece to judge, at most 31 days of readings, from one snapshot; None when all is judged.

    `fresh` forgets the memory and begins at the first reading; so does a memory that the last run in the log does
    not vouch for.
    """
    with unit_of_work(
        wiring.engine.execution_options(isolation_level="REPEATABLE READ"), "sw_detect"
    ) as conn:
        progress = queries.find_progress(conn, stn)
        memory = None if fresh else queries.find_memory(conn, stn)
        if progress is None:
            return None
        if memory is not None and not vouched(conn, stn, memory):
            log.error("detection.memory_foreign", stn=stn, alarm=True)
            memory = None
        base = late.find_base(conn, stn, memory) if memory is not None else None
        if memory is not None and base is None:
            base = late.Base(memory.upto, memory.state)
            if memory.upto >= progress.closed:
                return None
        base = base or late.Base(None, None)
        after = base.upto or late.BEGINNING
        # Years without readings are stepped over, not walked through.
        start = queries.next_reading_at(conn, stn, after) or progress.closed
        start = min(max(hour_of(start), after), progress.closed)
        upto = min(start + CHUNK, progress.closed)
        if base.upto is None and start == upto:
            return None
        series = queries.load_series(conn, stn, start, upto)
        # Nothing lies between the memory's end and the first reading: the period takes it in, without a hole.
        start = base.upto or start
        context = load_context(conn, stn, start)
    return Chunk(
        context=context,
        frame=make_frame(series),
        count=sum(len(one.at_ms) for one in series),
        state=base.state,
        before=progress.upto,
        start=start,
        upto=upto,
        head=progress.head,
        looked=memory.looked if memory else progress.head,
        stepped=memory is not None and base.upto != memory.upto,
        late=memory is not None and memory.former is not None,
    )


def vouched(conn: Connection, stn: str, memory: queries.Memory) -> bool:
    """Tell whether the last run in the log left exactly this memory."""
    last = queries.find_run(conn, subject_of(stn))
    try:
        return last is not None and (last["upto_ms"], last["state_after"]) == (
            ms_of(memory.upto),
            state_hash(memory.state),
        )
    except DetectorError:
        # A memory of another version of the detectors: `run` says so itself.
        return last is not None and last["upto_ms"] == ms_of(memory.upto)


def load_context(conn: Connection, stn: str, at: datetime) -> Context:
    """Describe a station to the detectors, with the limits in force at a time."""
    return make_context(stn, list_channels(conn, stn), list_limits(conn, stn, reasons=False), at)


def store(wiring: Wiring, stn: str, chunk: Chunk, result: Result) -> tuple[bool, int]:
    """Store memory, flags and the run of a chunk in one transaction; (False, 0) when another scan was faster.

    Raises _Overtaken when readings of the period, or a channel, came in meanwhile.
    """
    state, findings = result.state, result.findings
    known_hash = state_hash(chunk.state) if chunk.state is not None else ""
    after_hash = state_hash(state)
    with unit_of_work(wiring.engine, "sw_detect") as conn:
        # 1 The memory: the heaviest write, before the station is locked.
        moved = queries.save_memory(
            conn,
            stn,
            before=chunk.before,
            upto=chunk.upto,
            state=state,
            state_hash=bytes.fromhex(after_hash),
            looked=chunk.head,
            stepped=chunk.stepped or chunk.state is None,
        )
        if not moved:
            return False, 0
        # 2 From here on no envelope and no act comes in between: what stands before the run in the log is fixed.
        queries.lock_station(conn, stn)
        lock_subject(conn, subject_of(stn))
        since = chunk.start if chunk.state is not None else late.BEGINNING
        if queries.came_since(conn, stn, chunk.head, since, chunk.upto) or (
            load_context(conn, stn, chunk.start) != chunk.context
        ):
            raise _Overtaken
        # 3 Readings that came too late for an earlier run; where this one goes back to them.
        if chunk.before is not None and (chunk.state is not None or chunk.stepped):
            late.append_late(conn, wiring, stn, chunk.looked, chunk.before, chunk.start)
        if chunk.stepped and chunk.before is not None:
            late.note_step(conn, stn, chunk.before, chunk.upto)
        queries.save_kept(conn, stn, since, chunk.upto, kept_until(chunk), state)
        notes = [Unjudged.of(note) for note in result.notes]
        queries.save_judgement(conn, stn, chunk.upto, bytes.fromhex(after_hash), notes)
        # 4 Flags, those that lapse, and the run that names them.
        raised = tell(conn, wiring, stn, chunk, findings, known_hash)
        covering = queries.find_covering(conn, stn, chunk.start, chunk.upto) or (chunk.head, chunk.head)
        append_event(
            conn,
            wiring.service_key,
            typ="detector.run",
            subj=subject_of(stn),
            act=flags.DETECTION,
            data={
                "config_hash": config_hash(),
                "version": CODE_VERSION,
                "from_ms": ms_of(chunk.start),
                "upto_ms": ms_of(chunk.upto),
                "input": input_of(*covering, chunk.count),
                "state_before": known_hash,
                "state_after": after_hash,
                "findings": len(findings),
                "digest": digest_of(findings),
            },
        )
    return True, raised


def kept_until(chunk: Chunk) -> datetime | None:
    """Return how far judging may come before the memory after a chunk is dropped; None: it is not kept."""
    until = until_ms(ms_of(chunk.start), ms_of(chunk.upto))
    return None if until is None else flags.at_of(until)


def tell(
    conn: Connection,
    wiring: Wiring,
    stn: str,
    chunk: Chunk,
    findings: tuple[Finding, ...],
    known_hash: str,
) -> int:
    """Raise and extend flags, say which lapse; returns how many flags were told.

    What a run over late readings finds again is told again, for what it was made of has changed.
    """
    always = chunk.stepped or chunk.late or chunk.state is None
    standing = late.load_standing(conn, stn, always=always) if always or findings else None
    if standing is not None:
        standing.begin(ms_of(chunk.start))
    raised = 0
    for finding in findings:
        known = standing.told.get(finding.episode) if standing is not None else None
        again = known is not None and known.open
        raised += raise_one(conn, wiring.service_key, stn, finding, known_hash, again=again)
        if standing is not None:
            standing.note(finding.episode)
    if standing is not None:
        raised += late.append_lapses(conn, wiring, stn, standing, chunk.upto)
    return raised


def raise_one(
    conn: Connection, signer: Signer, stn: str, finding: Finding, known_hash: str, *, again: bool
) -> bool:
    """Raise or extend the flag of one finding, `again` also when it is no longer; False when it says nothing new."""
    source = queries.find_input(conn, stn, flags.at_of(finding.from_ms), flags.at_of(finding.to_ms))
    provenance = Provenance(
        stn=stn,
        ep=source.ep if source else 0,
        seq_first=source.seq_first if source else 0,
        seq_last=source.seq_last if source else 0,
        state_hash=known_hash,
        config_hash=config_hash(),
    )
    return flags.raise_flag(conn, signer, finding, provenance, again=again) is not None


def log_config(wiring: Wiring) -> None:
    """Log the detectors' configuration as an event, once for each that was ever used."""
    current = config_hash()
    if (id(wiring.engine), current) in _logged:
        return
    with unit_of_work(wiring.engine, "sw_detect") as conn:
        lock_subject(conn, DETECTOR_SUBJECT)
        if not queries.config_logged(conn, DETECTOR_SUBJECT, current):
            append_event(
                conn,
                wiring.service_key,
                typ="detector.config",
                subj=DETECTOR_SUBJECT,
                act=flags.DETECTION,
                data={
                    "config_hash": current,
                    "version": CODE_VERSION,
                    "config": flags.plain(asdict(DEFAULT)),
                    "numpy": np.__version__,
                },
            )
    _logged.add((id(wiring.engine), current))


_logged: set[tuple[int, str]] = set()


def hour_of(at: datetime) -> datetime:
    """Return the beginning of the UTC hour."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
