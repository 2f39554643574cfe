"""Give queued entries their place in the log, one batch a transaction."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy as sa

from emdi.errors import EmdiError
from emdi.merkle import CompactRange
from emdi.tiles import TileReader
from stackwitness.db.locks import LOG_LOCK
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import DatabaseUnavailable
from stackwitness.log.disk import Disk
from stackwitness.log.errors import LogCorrupt, LogOvertaken
from stackwitness.log.publisher import published_size

BATCH = 1024


@dataclass(frozen=True)
class LogHead:
    """The log as the database has it: number of entries and Merkle root (32 bytes)."""

    size: int
    root: bytes


class Sequencer:
    """Hold the tree's right edge between batches; any error drops it, and the next batch reads it again.

    The advisory lock only spares two sequencers from working for nothing. What keeps the log single is that
    log_head.prev and log_entry.idx are unique: the second of two leaders fails to commit.
    """

    def __init__(self, engine: sa.Engine, disk: Disk | None = None) -> None:
        """`disk` is the published log, where the tree's right edge is read at the start: without it, or where it
        does not fit the database, every stored leaf hash is read.
        """
        self._engine = engine
        self._disk = disk
        self._tree: CompactRange | None = None

    def sequence_once(self) -> int:
        """Move up to 1024 entries from log_pending into the log and return how many.

        Raises LogOvertaken when another sequencer got there first, LogCorrupt when the database contradicts
        itself, DatabaseUnavailable.
        """
        tree, self._tree = self._tree, None
        try:
            with unit_of_work(self._engine, "sw_seq") as conn:
                lock_log(conn)
                head = read_head(conn)
                if tree is None or tree.size != head.size:
                    tree = load_tree(conn, head, self._disk)
                pending = _read_pending(conn, first=head.size == 0)
                tree = _integrate(conn, tree, pending) if pending else tree
        except (sa.exc.IntegrityError, psycopg.IntegrityError) as error:
            raise LogOvertaken(str(error)) from error
        except psycopg.Error as error:  # out of COPY, which SQLAlchemy does not see
            raise DatabaseUnavailable() from error
        self._tree = tree
        return len(pending)


def sequence_once(engine: sa.Engine) -> int:
    """Sequence one batch with nothing remembered from before; return how many entries it had."""
    return Sequencer(engine).sequence_once()


def lock_log(conn: sa.Connection) -> None:
    """Wait until no other transaction extends the log; the lock ends with this transaction."""
    conn.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOG_LOCK})


def read_head(conn: sa.Connection) -> LogHead:
    """Return the log's size and root; an empty log has size 0 and the root of nothing."""
    row = conn.execute(sa.text("SELECT size, root FROM log_head ORDER BY size DESC LIMIT 1")).one_or_none()
    return LogHead(0, CompactRange(0, ()).root()) if row is None else LogHead(row.size, bytes(row.root))


def read_root(conn: sa.Connection, size: int) -> bytes | None:
    """Return the root at one integrated size; None when no batch ended there."""
    root = conn.execute(sa.text("SELECT root FROM log_head WHERE size = :size"), {"size": size}).scalar()
    return None if root is None else bytes(root)


def load_tree(conn: sa.Connection, head: LogHead, disk: Disk | None = None) -> CompactRange:
    """Rebuild the tree's right edge: from the published tiles and the leaf hashes behind them, or else from all
    leaf hashes.

    Raises LogCorrupt when the stored leaf hashes do not give the root of log_head.
    """
    published = CompactRange() if disk is None else read_edge(conn, disk, head.size)
    if published.size:
        with contextlib.suppress(LogCorrupt):
            return _append_leaves(conn, published, head)
    return _append_leaves(conn, CompactRange(), head)


def read_edge(conn: sa.Connection, disk: Disk, size: int) -> CompactRange:
    """Return the right edge of the published tiles; an empty one unless its root is that of log_head there."""
    try:
        reader = TileReader(disk.read, published_size(disk))
        edge = reader.range() if 0 < reader.size <= size else CompactRange()
    except (OSError, EmdiError):
        return CompactRange()
    return edge if read_root(conn, edge.size) == edge.root() else CompactRange()


def _append_leaves(conn: sa.Connection, tree: CompactRange, head: LogHead) -> CompactRange:
    query = sa.text("SELECT idx, leaf FROM log_entry WHERE idx >= :start ORDER BY idx")
    rows = conn.execute(query.execution_options(yield_per=10_000), {"start": tree.size})
    for idx, leaf in rows:
        if idx != tree.size:
            raise LogCorrupt(f"log_entry has no row with idx {tree.size}")
        tree.append(bytes(leaf))
    if (tree.size, tree.root()) != (head.size, head.root):
        raise LogCorrupt(f"log_entry ({tree.size} rows) gives another root than log_head at {head.size}")
    return tree


def _read_pending(conn: sa.Connection, *, first: bool) -> Sequence[sa.Row[Any]]:
    """Return what waits, oldest number first. Never "qid > last": numbers are given before commits, so a
    lower number may appear later. The very first batch is leaf 0 alone.
    """
    where = "WHERE kind = 0" if first else ""
    query = f"SELECT qid, kind, entry_id, recv_ms, leaf FROM log_pending {where} ORDER BY qid LIMIT :batch"
    return conn.execute(sa.text(query), {"batch": BATCH}).all()


def _integrate(conn: sa.Connection, tree: CompactRange, pending: Sequence[sa.Row[Any]]) -> CompactRange:
    grown = CompactRange.from_hashes(tree.size, tree.to_hashes())
    cursor = conn.connection.cursor()
    copy = "COPY log_entry (idx, kind, entry_id, recv_ms, leaf, qid) FROM STDIN"
    with cursor.copy(copy) as rows:
        for row in pending:
            leaf = bytes(row.leaf)
            rows.write_row((grown.size, row.kind, bytes(row.entry_id), row.recv_ms, leaf, row.qid))
            grown.append(leaf)
    cursor.close()
    conn.execute(
        sa.text("INSERT INTO log_head (size, prev, root) VALUES (:size, :prev, :root)"),
        {"size": grown.size, "prev": tree.size, "root": grown.root()},
    )
    conn.execute(
        sa.text("DELETE FROM log_pending WHERE qid = ANY(:qids)"), {"qids": [row.qid for row in pending]}
    )
    return grown
