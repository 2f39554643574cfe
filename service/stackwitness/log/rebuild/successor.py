"""Fill the empty database of a frozen log's successor, as the owner: see docs/decisions/0009-shards.md."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from emdi.event import Event, parse_event
from emdi.keys import Signer
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Conflict
from stackwitness.log.disk import Disk
from stackwitness.log.events import append_event
from stackwitness.log.fsck.history import at_of
from stackwitness.log.fsck.records import rows_for
from stackwitness.log.previous import read_previous, store_previous
from stackwitness.log.rebuild.records import Shape, read_shape
from stackwitness.log.sequencer import lock_log, read_head
from stackwitness.log.shards import Final

# What is in force goes on; what was done (flags, decisions, exports, epochs, losses) stays where it was signed.
CARRIED = (
    "access.grant",
    "access.revoke",
    "station.register",
    "channel.set",
    "limit.change",
    "key.request",
    "key.register",
    "key.rotate",
    "key.revoke",
    "key.compromise",
)


def seed_successor(
    old: sa.Engine, new: sa.Engine, service_key: Signer, final: Final, log_dir: Path
) -> dict[str, int]:
    """Fill the empty database of the successor: the shard before it, the governance in force, the stations' heads.

    Both engines log in as owner. Returns how many events of each type were stated again, none where it was done
    before and nobody has started the successor; raises Conflict("log.successor") when its database holds a log.
    """
    disk = Disk(log_dir)
    stated: dict[str, int] = {}
    with unit_of_work(old) as before, unit_of_work(new) as conn:
        for each in (before, conn):
            each.execute(sa.text("SELECT set_config('stackwitness.agency', '*', true)"))
        lock_log(conn)
        known, started = read_previous(conn), read_head(conn).size > 0
        if known is not None and known[0] == final.previous and not started:
            return stated  # what follows is one transaction: all of it is there
        _check_empty(conn)
        disk.write("previous/checkpoint", final.note)
        disk.write("previous/head", final.head)
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


def check_empty(new: sa.Engine) -> None:
    """Raise Conflict("log.successor") unless this database can become a successor's."""
    with unit_of_work(new) as conn:
        conn.execute(sa.text("SELECT set_config('stackwitness.agency', '*', true)"))
        _check_empty(conn)


def _check_empty(conn: sa.Connection) -> None:
    held = conn.execute(sa.text("SELECT EXISTS (SELECT FROM station)")).scalar_one()
    if held or read_previous(conn) is not None or read_head(conn).size > 0:
        raise Conflict("log.successor", "The successor's database is not empty")


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
        for table, key, columns in rows_for(event):
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
            if "created_at" in columns:
                values["created_at"] = at_of(made.ts_ms)
            if "suspect_from_idx" in columns:
                values["suspect_from_idx"] = 0
            names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
            self._conn.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)
