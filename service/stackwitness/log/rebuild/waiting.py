"""What the database holds and the published log does not yet: it stays, in its order, or is queued anew."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from emdi.entry import Entry, encode_entry
from emdi.errors import EmdiError
from emdi.merkle import CompactRange, leaf_hash
from stackwitness.log.fsck.report import Report

_BODY = (
    "coalesce(v.jws, w.jws, q.jws, g.body) AS body,"
    " coalesce(v.recv_ms, w.recv_ms, q.recv_ms, g.recv_ms) AS stored_ms"
)
_JOINS = (
    " LEFT JOIN envelope v ON e.kind = 1 AND v.env_id = e.entry_id"
    " LEFT JOIN event w ON e.kind = 2 AND w.event_id = e.entry_id"
    " LEFT JOIN quarantine q ON e.kind = 3 AND q.env_id = e.entry_id"
    " LEFT JOIN log_genesis g ON e.kind = 0 AND g.entry_id = e.entry_id"
)
_TAIL = f"SELECT e.*, {_BODY} FROM log_entry e {_JOINS} WHERE e.idx >= :size ORDER BY e.idx"
_QUEUE = f"SELECT e.*, {_BODY} FROM log_pending e {_JOINS} ORDER BY e.qid"
Row = sa.Row[Any]


def settle_waiting(conn: sa.Connection, edge: CompactRange, report: Report) -> list[tuple[bytes, Entry]]:
    """Return (id, entry) of what waits, in order, after putting the queue right.

    Entries sequenced behind the published size stay where they are when they fit the tree; otherwise they go back
    into the queue: no signature covers their places. What the log holds already leaves the queue. What lost its
    bytes is named: its sender has no receipt and sends it again.
    """
    size = edge.size
    tail = conn.execute(sa.text(_TAIL), {"size": size}).all()
    queue = conn.execute(sa.text(_QUEUE)).all()
    fits = _fits(conn, edge, tail)
    logged = _logged(conn, [*tail, *queue])
    kept = [row for row in (*tail, *queue) if (row.kind, bytes(row.entry_id)) not in logged]
    entries = [(row, _entry_of(row)) for row in kept]
    whole = [(row, entry) for row, entry in entries if entry is not None]
    if not fits or len(whole) != len(tail) + len(queue) or not all(_is_true(row, e) for row, e in whole):
        _name(tail, queue, fits, logged, entries, report)
        conn.execute(sa.text("DELETE FROM log_entry WHERE idx >= :size"), {"size": size})
        conn.execute(sa.text("DELETE FROM log_head WHERE size > :size"), {"size": size})
        conn.execute(sa.text("DELETE FROM log_pending"))
        for row, entry in whole:
            conn.execute(
                sa.text(
                    "INSERT INTO log_pending (kind, entry_id, recv_ms, leaf)"
                    " VALUES (:kind, :entry_id, :recv_ms, :leaf)"
                ),
                {**_columns(row, entry)},
            )
    return [(bytes(row.entry_id), entry) for row, entry in whole]


def _fits(conn: sa.Connection, edge: CompactRange, tail: Sequence[Row]) -> bool:
    heads = conn.execute(
        sa.text("SELECT size, prev, root FROM log_head WHERE size > :size ORDER BY size"), {"size": edge.size}
    ).all()
    tree = CompactRange.from_hashes(edge.size, edge.to_hashes())
    wanted = {row.size: bytes(row.root) for row in heads}
    linked = [row.prev for row in heads] == [edge.size, *(row.size for row in heads)][:-1]
    for row in tail:
        entry = _entry_of(row)
        if row.idx != tree.size or entry is None or not _is_true(row, entry):
            return False
        tree.append(bytes(row.leaf))
        if tree.size in wanted and wanted.pop(tree.size) != tree.root():
            return False
    return linked and not wanted and (heads[-1].size if heads else edge.size) == tree.size


def _logged(conn: sa.Connection, rows: Sequence[Row]) -> set[tuple[int, bytes]]:
    found = conn.execute(
        sa.text("SELECT kind, entry_id FROM wanted_log_entry WHERE entry_id = ANY(:ids)"),
        {"ids": [bytes(row.entry_id) for row in rows]},
    )
    return {(row.kind, bytes(row.entry_id)) for row in found}


def _entry_of(row: Row) -> Entry | None:
    return None if row.body is None else Entry(row.kind, row.stored_ms, bytes(row.body))


def _is_true(row: Row, entry: Entry) -> bool:
    try:
        return leaf_hash(encode_entry(*entry)) == bytes(row.leaf) and row.recv_ms == entry.recv_ms
    except EmdiError:
        return False


def _columns(row: Row, entry: Entry) -> dict[str, Any]:
    leaf = leaf_hash(encode_entry(*entry))
    return {"kind": entry.kind, "entry_id": row.entry_id, "recv_ms": entry.recv_ms, "leaf": leaf}


def _name(
    tail: Sequence[Row],
    queue: Sequence[Row],
    fits: bool,
    logged: set[tuple[int, bytes]],
    entries: Sequence[tuple[Row, Entry | None]],
    report: Report,
) -> None:
    if tail and not fits:
        text = f"{len(tail)} entries behind the published log do not fit it: queued again"
        report.tamper("log_entry.tail", "log_entry", str(tail[0].idx), text, tail[0].idx)
    for row in queue:
        if (row.kind, bytes(row.entry_id)) in logged:
            text = "taken out of the queue: the log holds it"
            report.tamper("log_pending.logged", "log_pending", bytes(row.entry_id).hex(), text)
    for row, entry in entries:
        if entry is None:
            text = "its bytes are gone and were never published: whoever sent it has no receipt"
            report.miss("log_pending.lost", "log_pending", bytes(row.entry_id).hex(), text)
        elif not _is_true(row, entry):
            text = "its leaf hash was not that of the row: made again"
            report.tamper("log_pending.edited", "log_pending", bytes(row.entry_id).hex(), text)
