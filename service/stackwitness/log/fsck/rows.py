"""What the database stores about each log entry, in batches, and what it stores without one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

_STORED = """
       coalesce(v.jws, w.jws, q.jws, g.body) AS body,
       v.envelope_no, v.first_at, v.last_at, v.reading_count,
       coalesce(v.stn, q.stn) AS stn, coalesce(v.ep, q.ep) AS ep, coalesce(v.seq, q.seq) AS seq,
       coalesce(v.kid, q.kid) AS kid, v.iat_ms, w.typ, w.subj, w.sseq, w.sprev,
       coalesce(v.recv_ms, w.recv_ms, q.recv_ms, g.recv_ms) AS row_recv_ms
"""
_JOINS = """
LEFT JOIN envelope v ON e.kind = 1 AND v.env_id = e.entry_id
LEFT JOIN event w ON e.kind = 2 AND w.event_id = e.entry_id
LEFT JOIN quarantine q ON e.kind = 3 AND q.env_id = e.entry_id
LEFT JOIN log_genesis g ON e.kind = 0 AND g.entry_id = e.entry_id
"""
# No column is null, says the schema; one that was made so must be named, not stumble over.
_PLACED = "coalesce(e.kind, -1), coalesce(e.entry_id, ''), coalesce(e.recv_ms, -1), e.leaf"
_ENTRIES = f"SELECT e.idx, {_PLACED}, {_STORED} FROM log_entry e"
_PENDING = f"SELECT NULL AS idx, {_PLACED}, {_STORED} FROM log_pending e"
HOLE = 100_000  # so many indexes may be gone at the end before what follows counts as put there
TABLES = {0: "log_genesis", 1: "envelope", 2: "event", 3: "quarantine"}
_KEYS = {0: "entry_id", 1: "env_id", 2: "event_id", 3: "env_id"}

_ORPHANS = """
SELECT t.{key} FROM {table} t
WHERE NOT EXISTS (SELECT FROM log_entry e WHERE e.entry_id = t.{key} AND e.kind = :kind)
AND NOT EXISTS (SELECT FROM log_pending p WHERE p.entry_id = t.{key} AND p.kind = :kind)
"""
_AS_MANY = """
SELECT (SELECT count(*) FROM {table}) = (SELECT count(*) FROM log_entry
        WHERE kind = :kind AND idx >= 0 AND idx < :total)
    + (SELECT count(DISTINCT p.entry_id) FROM log_pending p WHERE p.kind = :kind
       AND NOT EXISTS (SELECT FROM log_entry e WHERE e.entry_id = p.entry_id AND e.kind = :kind))
"""


@dataclass(frozen=True)
class StoredRow:
    """One log_entry (or log_pending) row beside the business row it stands for; `body` None when that is
    gone.
    """

    idx: int | None
    kind: int
    entry_id: bytes
    recv_ms: int
    leaf: bytes | None
    body: bytes | None
    envelope_no: int | None
    first_at: datetime | None
    last_at: datetime | None
    reading_count: int | None
    stn: str | None
    ep: int | None
    seq: int | None
    kid: str | None
    iat_ms: int | None
    typ: str | None
    subj: str | None
    sseq: int | None
    sprev: bytes | None
    row_recv_ms: int | None


def read_log_rows(conn: sa.Connection, start: int, stop: int) -> dict[int, StoredRow]:
    """Return the rows of the entries start..stop-1, by index."""
    query = f"{_ENTRIES} {_JOINS} WHERE e.idx >= :a AND e.idx < :b"
    rows = conn.execute(sa.text(query), {"a": start, "b": stop})
    return {row.idx: StoredRow(*row) for row in rows}


def read_pending_rows(conn: sa.Connection) -> Iterator[StoredRow]:
    """Yield what waits for the sequencer."""
    query = sa.text(f"{_PENDING} {_JOINS} ORDER BY e.qid").execution_options(yield_per=500)
    for row in conn.execute(query):
        yield StoredRow(*row)


def read_orphans(conn: sa.Connection, total: int, *, whole: bool) -> Iterator[tuple[str, bytes]]:
    """Yield (table, id) of every row that neither stands in the log nor waits for it.

    `whole` says that each of the log's `total` entries has its row: a table with no more rows than that has no others.
    """
    for kind, table in TABLES.items():
        names = {"table": table, "key": _KEYS[kind]}
        if (
            whole
            and conn.execute(sa.text(_AS_MANY.format(**names)), {"kind": kind, "total": total}).scalar_one()
        ):
            continue
        for row in conn.execute(sa.text(_ORPHANS.format(**names)), {"kind": kind}):
            yield table, bytes(row[0] or b"")


def read_framed(conn: sa.Connection) -> list[tuple[int, int]]:
    """Return (index accepted, index set aside) of every envelope that stands in the log as both."""
    query = (
        "SELECT v.idx, q.idx FROM log_entry q JOIN log_entry v ON v.entry_id = q.entry_id AND v.kind = 1"
        " WHERE q.kind = 3 ORDER BY q.idx LIMIT 1000"
    )
    return [(row[0], row[1]) for row in conn.execute(sa.text(query))]


def read_heads(conn: sa.Connection) -> list[tuple[int, int, bytes]]:
    """Return (size, prev, root) of every integration, by size."""
    rows = conn.execute(sa.text("SELECT size, prev, root FROM log_head ORDER BY size"))
    return [(row.size, row.prev, bytes(row.root or b"")) for row in rows]


def count_entries(conn: sa.Connection) -> int:
    """Return one more than the highest index in log_entry, of those that can follow each other without a hole
    of more than HOLE entries.
    """
    query = (
        "SELECT coalesce(max(idx) + 1, 0) FROM log_entry WHERE idx < (SELECT count(*) FROM log_entry) + :hole"
    )
    return int(conn.execute(sa.text(query), {"hole": HOLE}).scalar_one())


def read_strays(conn: sa.Connection, total: int) -> list[int]:
    """Return the first indexes in log_entry beyond `total` entries, or below 0."""
    query = "SELECT idx FROM log_entry WHERE idx >= :total OR idx < 0 ORDER BY idx LIMIT 1000"
    return [int(idx) for idx in conn.scalars(sa.text(query), {"total": total})]


def read_table(conn: sa.Connection, query: str) -> Sequence[sa.Row[Any]]:
    """Return all rows of one of the small tables."""
    return conn.execute(sa.text(query)).all()
