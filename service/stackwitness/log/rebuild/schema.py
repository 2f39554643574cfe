"""Changes of the schema: each row the log has an event of comes back under its number, those of this database stay."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from stackwitness.db.catalog import hash_catalog, join_catalog, read_catalog
from stackwitness.errors import Unavailable
from stackwitness.log.fsck.records import Expected
from stackwitness.log.fsck.report import Report
from stackwitness.log.rebuild.guards import opened_tables

DDL = "ddl_seen"
# What the running service sends, as PostgreSQL writes it down: a log without readings makes months too.
RUNNING = ("SELECT make_month($1)",)
_ROWS = (
    "SELECT s.seen_no, s.at_ms, s.tag, s.identity, s.role, s.statement, e.event_id FROM ddl_seen s"
    " LEFT JOIN ddl_event e USING (seen_no) ORDER BY s.seen_no"
)
_INSERT = (
    "INSERT INTO ddl_seen (seen_no, at_ms, tag, identity, role, statement) OVERRIDING SYSTEM VALUE"
    " VALUES (:seen_no, :at_ms, :tag, :identity, :role, :statement)"
)
# The number of a row that stays must be beyond every number the log has spoken of.
_ADVANCE = (
    "SELECT setval(s, greatest(:most, (SELECT coalesce(max(seen_no), 1) FROM ddl_seen)))"
    " FROM pg_get_serial_sequence('ddl_seen', 'seen_no') s"
)


def read_known(conn: sa.Connection) -> dict[bytes, str]:
    """Return SHA-256 -> text of this database's own catalog: the lines of the baseline, where the schema is the signed one."""
    try:
        lines = read_catalog(conn)
    except Unavailable:  # for the checker to name
        return {}
    return {hash_catalog(lines): join_catalog(lines)}


@dataclass
class _Differences:
    """Numbers of rows: gone, edited, named by an event the log has not, and of this database under a number of the log's."""

    gone: list[int] = field(default_factory=list)
    edited: list[int] = field(default_factory=list)
    unlogged: list[int] = field(default_factory=list)
    own: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.gone or self.edited or self.unlogged or self.own)


def repair_ddl(
    conn: sa.Connection, expected: Mapping[str, Expected], report: Report
) -> tuple[int, list[str]]:
    """Put the rows of `ddl_seen` and `ddl_event` right; return how many rows, and whose statement is lost.

    No row is taken out: one without an event of the log was written by this database itself, and the log process signs
    it at its next turn, under a number of its own. The log holds the SHA-256 of a statement: its text is taken from
    whichever row has it, as the same migrations and commands ran here again.
    """
    wanted = {int(key): row for key, row in expected.items()}
    found = _compare(_read(conn), wanted)
    if not found:
        return 0, []
    with opened_tables(conn, ["ddl_seen", "ddl_event"]):
        rows = _read(conn)  # with those that opening made
        known = {_sha256(text): text for text in (*RUNNING, *(row["statement"] for row in rows.values()))}
        found = _compare(rows, wanted)
        conn.execute(sa.text(_ADVANCE), {"most": max(wanted, default=1)})
        for no in found.own:
            conn.execute(sa.text("UPDATE ddl_seen SET seen_no = DEFAULT WHERE seen_no = :no"), {"no": no})
        for no in found.unlogged:
            text = "its event is taken off: the log has none that calls for it"
            report.tamper("ddl_seen.surplus", "ddl_event", str(no), text)
            conn.execute(sa.text("DELETE FROM ddl_event WHERE seen_no = :no"), {"no": no})
        lost = []
        for no in sorted((*found.gone, *found.edited)):
            statement = known.get(wanted[no].columns["statement"])
            _write(conn, no, wanted[no], statement or "")
            if no in found.gone:
                report.miss("ddl_seen.missing", "ddl_seen", str(no), "put back", wanted[no].idx)
            else:
                report.tamper("ddl_seen.edited", "ddl_seen", str(no), "put right", wanted[no].idx)
            if statement is None:
                lost.append(f"ddl_seen {no}: statement")
    return len(found.gone) + len(found.edited) + len(found.unlogged) + len(found.own), lost


def _read(conn: sa.Connection) -> dict[int, dict[str, Any]]:
    return {row.seen_no: dict(row._mapping) for row in conn.execute(sa.text(_ROWS))}


def _compare(rows: Mapping[int, Mapping[str, Any]], wanted: Mapping[int, Expected]) -> _Differences:
    found = _Differences()
    for no, row in rows.items():
        event_id = None if row["event_id"] is None else bytes(row["event_id"])
        if no not in wanted:
            if event_id is not None:
                found.unlogged.append(no)
        elif event_id is None:
            # What the log says of this number, and only the link is gone; or another's: of the database that the log
            # is brought back into.
            (found.gone if _says(row, wanted[no].columns) else found.own).append(no)
        elif event_id != wanted[no].event_id or not _says(row, wanted[no].columns):
            found.edited.append(no)
    found.gone += [no for no in wanted if no not in rows or no in found.own]
    return found


def _says(row: Mapping[str, Any], columns: Mapping[str, Any]) -> bool:
    stored = {**row, "statement": _sha256(row["statement"])}
    return all(stored[name] == value for name, value in columns.items())


def _write(conn: sa.Connection, no: int, row: Expected, statement: str) -> None:
    for table in ("ddl_event", "ddl_seen"):
        conn.execute(sa.text(f"DELETE FROM {table} WHERE seen_no = :no"), {"no": no})
    conn.execute(sa.text(_INSERT), {**row.columns, "seen_no": no, "statement": statement})
    conn.execute(
        sa.text("INSERT INTO ddl_event (seen_no, event_id) VALUES (:no, :event_id)"),
        {"no": no, "event_id": row.event_id},
    )


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
