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
from stackwitness.detection import queries
from stackwitness.detection.frames import make_context, make_frame
from stackwitness.flags import flow as flags
from stackwitness.flags.domain import Provenance
from stackwitness.log.events import append_event, lock_subject
from stackwitness.stations.queries import list_channels
from stackwitness.wiring import Wiring
from stackwitness_detectors import DetectorError, Finding, config_hash, run, state_hash
from stackwitness_detectors.config import DEFAULT
from stackwitness_detectors.contract import Context, Frame

CHUNK = timedelta(days=31)
DETECTOR_SUBJECT = "detector"
log = structlog.get_logger("detection")


@dataclass(frozen=True)
class Chunk:
    """Hold what one step judges: readings up to `upto`, after the memory that ended at `before` or None."""

    context: Context
    frame: Frame
    state: bytes | None
    before: datetime | None
    upto: datetime


def scan(wiring: Wiring, stn: str) -> int:
    """Judge everything of a station that is stored and lies before its last full hour.

    Returns how many flags were raised or extended. Each chunk is one transaction: flags, their events and the
    detectors' memory, or nothing. Raises what the detectors or the database raise: then the memory has not
    moved, and the next scan begins at the same reading.
    """
    log_config(wiring)
    count = 0
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
        moved, raised = store(wiring, stn, chunk, result.state, result.findings)
        if not moved:
            log.info("detection.overtaken", stn=stn)
            return count
        count += raised
        fresh = False
    if count:
        log.info("detection.flags", stn=stn, count=count)
    return count


def load_chunk(wiring: Wiring, stn: str, *, fresh: bool = False) -> Chunk | None:
    """Load the next piece to judge, at most 31 days of readings; None when all is judged.

    `fresh` forgets the memory and begins at the first reading.
    """
    with unit_of_work(wiring.engine, "sw_detect") as conn:
        progress = queries.find_progress(conn, stn)
        if progress is None or (progress.upto is not None and progress.upto >= progress.closed and not fresh):
            return None
        memory = None if fresh else queries.find_memory(conn, stn)
        after = memory.upto if memory else datetime.min.replace(tzinfo=UTC)
        # Years without readings are stepped over, not walked through.
        start = queries.next_reading_at(conn, stn, after) or progress.closed
        start = min(max(hour_of(start), after), progress.closed)
        upto = min(start + CHUNK, progress.closed)
        if memory is None and start == upto:
            return None
        frame = make_frame(queries.load_series(conn, stn, start, upto))
        context = make_context(stn, list_channels(conn, stn))
    return Chunk(context, frame, memory.state if memory else None, progress.upto, upto)


def store(
    wiring: Wiring, stn: str, chunk: Chunk, state: bytes, findings: tuple[Finding, ...]
) -> tuple[bool, int]:
    """Store memory and flags of a chunk in one transaction; (False, 0) when another scan was faster."""
    known_hash = state_hash(chunk.state) if chunk.state is not None else ""
    with unit_of_work(wiring.engine, "sw_detect") as conn:
        moved = queries.save_memory(
            conn,
            stn,
            before=chunk.before,
            upto=chunk.upto,
            state=state,
            state_hash=bytes.fromhex(state_hash(state)),
        )
        if not moved:
            return False, 0
        raised = sum(raise_one(conn, wiring.service_key, stn, finding, known_hash) for finding in findings)
    return True, raised


def raise_one(conn: Connection, signer: Signer, stn: str, finding: Finding, known_hash: str) -> bool:
    """Raise or extend the flag of one finding; False when it says nothing new."""
    source = queries.find_input(conn, stn, flags.at_of(finding.from_ms), flags.at_of(finding.to_ms))
    provenance = Provenance(
        stn=stn,
        ep=source.ep if source else 0,
        seq_first=source.seq_first if source else 0,
        seq_last=source.seq_last if source else 0,
        state_hash=known_hash,
        config_hash=config_hash(),
    )
    return flags.raise_flag(conn, signer, finding, provenance) is not None


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
                    "config": flags.plain(asdict(DEFAULT)),
                    "numpy": np.__version__,
                },
            )
    _logged.add((id(wiring.engine), current))


_logged: set[tuple[int, str]] = set()


def hour_of(at: datetime) -> datetime:
    """Return the beginning of the UTC hour."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
