"""The rows that stand for log entries: events, envelopes, quarantine, genesis, log_entry, log_head.

What they must be is staged in temporary tables; SQL finds the rows that differ, and only those are replaced.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from emdi.entry import Entry
from emdi.envelope import Envelope, parse_envelope
from emdi.event import Event, parse_event
from stackwitness.log.fsck.history import at_of
from stackwitness.log.fsck.report import Report

BUFFER = 2_000
Row = tuple[Any, ...]


@dataclass(frozen=True)
class RawTable:
    """A table whose rows follow from log entries: its key, the columns the entry fixes, and the number that only
    the database knows, with the sequence it comes from.
    """

    name: str
    key: str
    columns: tuple[str, ...]
    number: str | None = None
    sequence: str | None = None


RAW_TABLES = (
    RawTable("log_genesis", "entry_id", ("body", "recv_ms")),
    RawTable("event", "event_id", ("typ", "subj", "sseq", "sprev", "jws", "recv_ms")),
    RawTable(
        "envelope",
        "env_id",
        ("stn", "ep", "seq", "kid", "iat_ms", "recv_ms", "first_at", "last_at", "reading_count", "jws"),
        "envelope_no",
        "envelope_no_seq",
    ),
    RawTable("quarantine", "env_id", ("stn", "ep", "seq", "kid", "why", "recv_ms", "jws")),
    RawTable("log_entry", "idx", ("kind", "entry_id", "recv_ms", "leaf"), "qid", "log_pending_qid_seq"),
)
KIND_TABLES = {0: "log_genesis", 1: "envelope", 2: "event", 3: "quarantine"}
Parsed = Envelope | Event | None


def parse_body(entry: Entry) -> Parsed:
    """Return what an entry holds; None for the genesis. Raises EmdiError."""
    if entry.kind == 0:
        return None
    return parse_event(entry.body) if entry.kind == 2 else parse_envelope(entry.body)


def rows_of(idx: int, entry: Entry, leaf: bytes, parsed: Parsed) -> Iterator[tuple[str, Row]]:
    """Yield (table, key and columns) of the rows one entry calls for; `idx` gives the order of new numbers."""
    kind, recv_ms, body = entry
    if isinstance(parsed, Event):
        entry_id = parsed.event_id
        yield "event", (entry_id, parsed.typ, parsed.subj, parsed.sseq, parsed.sprev, body, recv_ms, idx)
    elif isinstance(parsed, Envelope):
        entry_id = parsed.env_id
        place = (parsed.stn, parsed.ep, parsed.seq, parsed.kid)
        if kind == 3:
            yield "quarantine", (entry_id, *place, "equivocation", recv_ms, body, idx)
        else:
            times = [record.at_ms for record in parsed.records]
            span = (at_of(min(times)), at_of(max(times)), len(times))
            yield "envelope", (entry_id, *place, parsed.iat_ms, recv_ms, *span, body, idx)
    else:
        entry_id = hashlib.sha256(body).digest()
        yield "log_genesis", (entry_id, body, recv_ms, idx)
    yield "log_entry", (idx, kind, entry_id, recv_ms, leaf, idx)


class Staging:
    """Temporary tables beside the real ones; they end with the transaction."""

    def __init__(self, conn: sa.Connection) -> None:
        self._conn = conn
        self._buffers: dict[str, list[Row]] = {table.name: [] for table in RAW_TABLES}
        for table in RAW_TABLES:
            columns = ", ".join((table.key, *table.columns, *([table.number] if table.number else [])))
            conn.execute(
                sa.text(
                    f"CREATE TEMP TABLE wanted_{table.name} ON COMMIT DROP AS"
                    f" SELECT {columns}, 0::bigint AS log_order FROM {table.name} WITH NO DATA"
                )
            )

    def add(self, rows: Iterable[tuple[str, Row]]) -> None:
        """Stage rows."""
        for name, row in rows:
            buffer = self._buffers[name]
            buffer.append(row)
            if len(buffer) == BUFFER:
                self._flush(name)

    def close(self) -> None:
        """Stage what is left, and make the comparison fast."""
        for table in RAW_TABLES:
            self._flush(table.name)
            self._conn.execute(sa.text(f"CREATE UNIQUE INDEX ON wanted_{table.name} ({table.key})"))
            self._conn.execute(sa.text(f"ANALYZE wanted_{table.name}"))

    def _flush(self, name: str) -> None:
        rows, self._buffers[name] = self._buffers[name], []
        table = next(table for table in RAW_TABLES if table.name == name)
        columns = ", ".join((table.key, *table.columns, "log_order"))
        with self._conn.connection.cursor().copy(f"COPY wanted_{name} ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)


def repair_raw(
    conn: sa.Connection, table: RawTable, waiting: Sequence[bytes], size: int, report: Report
) -> int:
    """Replace the rows of one table that differ from what is staged; name each; return how many.

    `waiting` are the ids of rows that the log does not hold yet, `size` is where it ends: what is behind stays.
    """
    wanted, key = f"wanted_{table.name}", table.key
    compared = (
        ", ".join(f"t.{name}" for name in table.columns),
        ", ".join(f"w.{name}" for name in table.columns),
    )
    within = "t.idx < :size" if key == "idx" else f"NOT (t.{key} = ANY(:waiting))"
    parameters: dict[str, Any] = {"size": size} if key == "idx" else {"waiting": list(waiting)}
    edited = table.columns
    marks = ", ".join(f"t.{name} IS DISTINCT FROM w.{name}" for name in edited)
    differing = conn.execute(
        sa.text(
            f"SELECT w.{key} AS key, w.log_order, t.{key} IS NULL AS gone, ARRAY[{marks}] AS marks"
            f" FROM {wanted} w LEFT JOIN {table.name} t USING ({key})"
            f" WHERE t.{key} IS NULL OR ({compared[0]}) IS DISTINCT FROM ({compared[1]}) ORDER BY w.log_order"
        )
    ).all()
    surplus = conn.execute(
        sa.text(
            f"SELECT t.{key} AS key FROM {table.name} t LEFT JOIN {wanted} w USING ({key})"
            f" WHERE w.{key} IS NULL AND {within}"
        ),
        parameters,
    ).all()
    for row in differing:
        columns = ", ".join(name for name, mark in zip(edited, row.marks, strict=True) if mark)
        if row.gone:
            report.miss(f"{table.name}.missing", table.name, _spell(row.key), "put back", row.log_order)
        else:
            text = f"put right: {columns}"
            report.tamper(f"{table.name}.edited", table.name, _spell(row.key), text, row.log_order)
    for row in surplus:
        report.tamper(f"{table.name}.surplus", table.name, _spell(row.key), "taken out: not in the log")
    if differing or surplus:
        _replace(conn, table, [row.key for row in differing], [row.key for row in surplus])
    return len(differing) + len(surplus)


def _replace(conn: sa.Connection, table: RawTable, differing: list[Any], surplus: list[Any]) -> None:
    wanted, key, number = f"wanted_{table.name}", table.key, table.number
    if number:
        conn.execute(
            sa.text(
                f"UPDATE {wanted} w SET {number} = t.{number} FROM {table.name} t WHERE t.{key} = w.{key}"
            )
        )
    conn.execute(sa.text(f"DELETE FROM {table.name} WHERE {key} = ANY(:keys)"), {"keys": differing + surplus})
    if number:
        conn.execute(
            sa.text(
                f"UPDATE {wanted} w SET {number} = n.number FROM (SELECT {key}, row_number() OVER (ORDER BY"
                f" log_order) + (SELECT coalesce(max({number}), 0) FROM {table.name}) AS number"
                f" FROM {wanted} WHERE {number} IS NULL) n WHERE n.{key} = w.{key}"
            )
        )
    columns = ", ".join((key, *table.columns, *([number] if number else [])))
    conn.execute(
        sa.text(
            f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {wanted}"
            f" WHERE {key} = ANY(:keys) ORDER BY log_order"
        ),
        {"keys": differing},
    )
    if number and table.sequence:
        conn.execute(
            sa.text(
                f"SELECT setval('{table.sequence}', greatest((SELECT last_value FROM {table.sequence}),"
                f" (SELECT coalesce(max({number}), 1) FROM {table.name})))"
            )
        )


def repair_heads(conn: sa.Connection, roots: dict[int, bytes], size: int, report: Report) -> int:
    """Put log_head right: rows whose root the log does not give go, the published size gets one, the chain of
    sizes is closed. Rows behind `size` stay.
    """
    rows = conn.execute(sa.text("SELECT size, prev, root FROM log_head ORDER BY size")).all()
    good = {row.size for row in rows if row.size <= size and roots.get(row.size) == bytes(row.root)} | {size}
    wanted: dict[int, tuple[int, bytes]] = {}
    previous = 0
    for at in sorted(good):
        wanted[at] = (previous, roots[at])
        previous = at
    stored = {row.size: (row.prev, bytes(row.root)) for row in rows if row.size <= size}
    changed = {at for at in stored.keys() | wanted.keys() if stored.get(at) != wanted.get(at)}
    for at in sorted(changed):
        note = report.miss if at not in stored else report.tamper
        text = "put back" if at not in stored else "put right" if at in wanted else "taken out"
        note("log_head.edited" if at in stored else "log_head.missing", "log_head", str(at), text)
    if changed:
        query = sa.text("SELECT size, at FROM log_head WHERE size = ANY(:sizes)")
        times = {row.size: row.at for row in conn.execute(query, {"sizes": [*changed]})}
        conn.execute(sa.text("DELETE FROM log_head WHERE size = ANY(:sizes)"), {"sizes": [*changed]})
        for at in sorted(changed & wanted.keys()):
            prev, root = wanted[at]
            conn.execute(
                sa.text(
                    "INSERT INTO log_head (size, prev, root, at) VALUES (:size, :prev, :root,"
                    " coalesce(CAST(:at AS timestamptz), now()))"
                ),
                {"size": at, "prev": prev, "root": root, "at": times.get(at)},
            )
    return len(changed)


def _spell(key: Any) -> str:
    return bytes(key).hex() if isinstance(key, bytes | memoryview) else str(key)
