"""Freeze a log for ever, and say how it ended: see docs/decisions/0009-shards.md."""

from dataclasses import dataclass

import sqlalchemy as sa

from emdi.checkpoint import parse_checkpoint
from emdi.errors import HeadError, NoteError
from emdi.event import parse_event
from emdi.head import format_head, head_root, parse_head
from emdi.keys import Signer
from emdi.note import check_name, parse_note
from emdi.shard import FREEZE, Freeze, Previous, final_lines, read_freeze
from stackwitness.db.roles import EVERY_AGENCY
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Conflict, LogFrozen, LogUnavailable
from stackwitness.log.disk import Disk
from stackwitness.log.events import append_explained, lock_subject
from stackwitness.log.genesis import read_genesis
from stackwitness.log.heads import DailyHead, add_waiting, find_newest, read_lines, seal_head
from stackwitness.log.previous import read_previous
from stackwitness.log.queries import count_pending, find_successor
from stackwitness.log.reader import LogReader
from stackwitness.log.sequencer import lock_log, read_head
from stackwitness.log.service_keys import live_key

FINAL_WITHIN_S = 60.0


@dataclass(frozen=True)
class Final:
    """How a shard ended: its last note, and the file of its final head."""

    previous: Previous
    note: bytes
    head: bytes


@dataclass(frozen=True)
class End:
    """The end of a frozen log: the head that covers it, and the event behind that head."""

    head: DailyHead
    freeze: Freeze
    event_id: bytes


def freeze(engine: sa.Engine, disk: Disk, service_key: Signer, *, successor_origin: str, why: str) -> bytes:
    """Append a last head over all there is, then the last event this log will ever hold; return that one's id.

    Raises LogFrozen, OSError; Conflict("log.successor") for a name that no log after this one can have.
    """
    with unit_of_work(engine, "sw_seq") as conn:
        lock_log(conn)
        check_successor(conn, successor_origin)
        # Before the table, as everybody who appends does: the other way round two wait for each other.
        lock_subject(conn, "log")
        # Whoever is about to queue a leaf waits, and is refused once the row below is committed.
        conn.execute(sa.text("LOCK TABLE log_pending IN SHARE ROW EXCLUSIVE MODE"))
        if (successor := find_successor(conn)) is not None:
            raise LogFrozen(successor)
        as_of = read_head(conn).size + count_pending(conn)
        # Nobody can add an entry before these two: the head covers all but itself and the freeze.
        seal_head(conn, disk, service_key, as_of, add_waiting(conn, read_lines(conn, as_of)))
        data = {"final_size_before": as_of + 1, "successor_origin": successor_origin}
        act = f"service:{live_key(conn, service_key).kid}"
        event = append_explained(conn, service_key, typ=FREEZE, subj="log", act=act, why=why, data=data)
        conn.execute(
            sa.text("INSERT INTO log_freeze (event_id, successor_origin) VALUES (:id, :origin)"),
            {"id": event.event_id, "origin": successor_origin},
        )
    return event.event_id


def check_successor(conn: sa.Connection, origin: str) -> None:
    """Raise Conflict("log.successor") for a name that is malformed, or of this log or the one before: none would go on."""
    try:
        check_name(origin)
    except NoteError as error:
        raise Conflict("log.successor", f"The successor cannot have this name: {error.message}") from None
    genesis, before = read_genesis(conn), read_previous(conn)
    if origin in (genesis and genesis.origin, before and before[0].origin):
        raise Conflict("log.successor", f"{origin} is this log or one before it: give --successor-origin")


def find_end(conn: sa.Connection) -> End | None:
    """Return how a frozen log ended; None where no head covers it, as in logs frozen long ago."""
    query = "SELECT event_id, w.jws FROM log_freeze f JOIN event w USING (event_id)"
    row = conn.execute(sa.text(query)).one_or_none()
    head = find_newest(conn)
    if row is None or head is None:
        return None
    event = parse_event(bytes(row.jws))
    try:
        freeze = read_freeze(event.data.get("final_size_before", -1), event)
    except HeadError:  # a row that somebody else put there: fsck names it
        return None
    return End(head, freeze, bytes(row.event_id)) if head.as_of == freeze.head_as_of else None


def find_freeze(engine: sa.Engine, successor_origin: str | None = None) -> bytes | None:
    """Return the id of the event that froze this log; None while it grows.

    Raises LogFrozen when it names another successor than `successor_origin`.
    """
    with unit_of_work(engine, "sw_seq") as conn:
        row = conn.execute(sa.text("SELECT event_id, successor_origin FROM log_freeze")).one_or_none()
    if row is None:
        return None
    if successor_origin not in (None, row.successor_origin):
        raise LogFrozen(row.successor_origin)
    return bytes(row.event_id)


def read_final(
    engine: sa.Engine, reader: LogReader, event_id: bytes, seconds: float = FINAL_WITHIN_S
) -> Final:
    """Wait for the checkpoint that covers the freeze and return how the shard ended; raises LogUnavailable."""
    if reader.await_receipt(event_id, seconds) is None:
        raise LogUnavailable("log.behind", "The final checkpoint does not come: is the log process running?")
    note = reader.checkpoint()
    checkpoint = parse_checkpoint(parse_note(note).text)
    with unit_of_work(engine, "sw_export", EVERY_AGENCY) as conn:
        before = read_previous(conn)
        lines = final_lines(read_lines(conn, checkpoint.size), parse_head(before[1]) if before else ())
    previous = Previous(checkpoint.origin, checkpoint.size, checkpoint.root, head_root(lines))
    return Final(previous, note, format_head(lines))
