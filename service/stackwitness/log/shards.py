"""Freeze a log for ever, and make its successor: see docs/decisions/0009-shards.md."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from emdi.checkpoint import parse_checkpoint
from emdi.event import Event, parse_event
from emdi.head import format_head, head_root
from emdi.keys import Signer
from emdi.note import parse_note
from emdi.shard import Previous
from stackwitness.db.roles import EVERY_AGENCY
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Conflict, LogUnavailable
from stackwitness.log.disk import Disk
from stackwitness.log.events import append_event
from stackwitness.log.fsck.records import MAKERS
from stackwitness.log.heads import read_lines
from stackwitness.log.previous import store_previous
from stackwitness.log.reader import LogReader
from stackwitness.log.rebuild.records import Shape, read_shape
from stackwitness.log.sequencer import lock_log, read_head

FREEZE = "log.freeze"
# What is in force goes on; what was done (flags, decisions, exports, epochs, losses) stays where it was signed.
CARRIED = (
    "access.grant",
    "station.register",
    "channel.set",
    "limit.change",
    "key.request",
    "key.register",
    "key.rotate",
    "key.revoke",
    "key.compromise",
)
FINAL_WITHIN_S = 60.0


@dataclass(frozen=True)
class Final:
    """How a shard ended: its last note, and the file of its final head."""

    previous: Previous
    note: bytes
    head: bytes


def freeze(engine: sa.Engine, service_key: Signer, *, successor_origin: str, why: str) -> bytes:
    """Append the last event this log will ever hold and return its id; raises Conflict("log.frozen")."""
    with unit_of_work(engine, "sw_seq") as conn:
        lock_log(conn)
        # Whoever is about to queue a leaf waits, and is refused once the row below is committed.
        conn.execute(sa.text("LOCK TABLE log_pending IN SHARE ROW EXCLUSIVE MODE"))
        if conn.execute(sa.text("SELECT EXISTS (SELECT FROM log_freeze)")).scalar_one():
            raise Conflict("log.frozen", "This log is frozen already")
        waiting = conn.execute(sa.text("SELECT count(*) FROM log_pending")).scalar_one()
        data = {
            "final_size_before": read_head(conn).size + waiting,
            "successor_origin": successor_origin,
            "why": why,
        }
        act = f"service:{service_key.kid}"
        event = append_event(conn, service_key, typ=FREEZE, subj="log", act=act, data=data)
        conn.execute(
            sa.text("INSERT INTO log_freeze (event_id, successor_origin, why) VALUES (:id, :origin, :why)"),
            {"id": event.event_id, "origin": successor_origin, "why": why},
        )
    return event.event_id


def find_freeze(engine: sa.Engine) -> bytes | None:
    """Return the id of the event that froze this log; None while it grows."""
    with unit_of_work(engine, "sw_seq") as conn:
        event_id = conn.execute(sa.text("SELECT event_id FROM log_freeze")).scalar_one_or_none()
    return None if event_id is None else bytes(event_id)


def read_final(
    engine: sa.Engine, reader: LogReader, event_id: bytes, seconds: float = FINAL_WITHIN_S
) -> Final:
    """Wait for the checkpoint that covers the freeze and return how the shard ended; raises LogUnavailable."""
    if reader.await_receipt(event_id, seconds) is None:
        raise LogUnavailable("log.behind", "The final checkpoint does not come: is the log process running?")
    note = reader.checkpoint()
    checkpoint = parse_checkpoint(parse_note(note).text)
    with unit_of_work(engine, "sw_export", EVERY_AGENCY) as conn:
        lines = read_lines(conn, checkpoint.size)
    previous = Previous(checkpoint.origin, checkpoint.size, checkpoint.root, head_root(lines))
    return Final(previous, note, format_head(lines))


def seed_successor(
    old: sa.Engine, new: sa.Engine, service_key: Signer, final: Final, log_dir: Path
) -> dict[str, int]:
    """Fill the empty database of the successor: the shard before it, the governance in force, the stations' heads.

    Both engines log in as owner. Returns how many events of each type were stated again; raises
    Conflict("log.successor") when the new database already holds a log.
    """
    disk = Disk(log_dir)
    disk.write("previous/checkpoint", final.note)
    disk.write("previous/head", final.head)
    stated: dict[str, int] = {}
    with unit_of_work(old) as before, unit_of_work(new) as conn:
        for each in (before, conn):
            each.execute(sa.text("SELECT set_config('stackwitness.agency', '*', true)"))
        lock_log(conn)
        if conn.execute(sa.text("SELECT EXISTS (SELECT FROM station)")).scalar_one() or read_head(conn).size:
            raise Conflict("log.successor", "The successor's database is not empty")
        store_previous(conn, final.previous, final.note, final.head)
        renamed: dict[str, str] = {}
        copier = _Copier(before, conn)
        for event in _events_in_force(before):
            made = append_event(
                conn,
                service_key,
                typ=event.typ,
                subj=event.subj,
                act=event.act,
                ref=[event.event_id.hex()],
                data=_data_of(event, renamed),
            )
            renamed[event.event_id.hex()] = made.event_id.hex()
            copier.copy(event, made)
            stated[event.typ] = stated.get(event.typ, 0) + 1
        heads = before.execute(sa.text("SELECT stn, ep, seq, env_id, last_at FROM station_head")).all()
        for head in heads:
            conn.execute(
                sa.text("INSERT INTO station_head VALUES (:stn, :ep, :seq, :env_id, :last_at)"),
                dict(head._mapping),
            )
    return stated


def _events_in_force(conn: sa.Connection) -> Iterator[Event]:
    rows = conn.execute(
        sa.text(
            "SELECT w.jws FROM event w JOIN log_entry e ON e.kind = 2 AND e.entry_id = w.event_id"
            " WHERE w.typ = ANY(:types) ORDER BY e.idx"
        ),
        {"types": list(CARRIED)},
    )
    for row in rows.all():
        yield parse_event(bytes(row.jws))


def _data_of(event: Event, renamed: Mapping[str, str]) -> dict[str, Any]:
    """Return an event's data as the new shard means it: ids of requests are new, suspicion starts at leaf 0."""
    data: dict[str, Any] = _plain(event.data)
    if data.get("request") in renamed:
        data["request"] = renamed[data["request"]]
    if "suspect_from_idx" in data:
        data["suspect_from_idx"] = 0
    return data


def _plain(value: Any) -> Any:
    """Return parsed JSON with its decimals as the doubles they were written from."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, Decimal) else value


class _Copier:
    """Copy the rows an event made, with the id of the event that states them again."""

    def __init__(self, before: sa.Connection, conn: sa.Connection) -> None:
        self._before = before
        self._conn = conn
        self._shapes: dict[str, Shape] = {}
        self._copied: set[tuple[str, str]] = set()

    def copy(self, event: Event, made: Event) -> None:
        """Copy what the maker of this event names, each row once: the first event that names it made it."""
        make = MAKERS.get(event.typ)
        for table, key, columns in make(event) if make else ():
            if (table, key) in self._copied:
                continue
            self._copied.add((table, key))
            if table not in self._shapes:
                self._shapes[table] = read_shape(self._conn, table)
            shape = self._shapes[table]
            row = self._before.execute(
                sa.text(f"SELECT * FROM {table} WHERE {shape.key} = :key"), {"key": key}
            ).one()
            values = {**row._mapping, "event_id": made.event_id}
            values = {name: values[name] for name in shape.types if name in values and name != "channel_no"}
            if "suspect_from_idx" in columns:
                values["suspect_from_idx"] = 0
            names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
            self._conn.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)
