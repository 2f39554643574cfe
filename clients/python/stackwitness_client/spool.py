"""Keep sealed envelopes on disk until the log has provably taken them.

One SQLite file per station (WAL, synchronous=FULL). The head of the chain and the sealed envelope are written
in one transaction, and the envelope is sealed inside it: after any crash either both are there or neither, so
a place in the chain that could ever have left the process has exactly one content.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from emdi.envelope import Envelope, Skip
from stackwitness_client.errors import ChainLost, SpoolError

ZERO_ID = bytes(32)
DAY_MS = 86_400_000
SCHEMA = """
CREATE TABLE IF NOT EXISTS head (
    one INTEGER PRIMARY KEY CHECK (one = 1), stn TEXT NOT NULL, ep INTEGER NOT NULL, seq INTEGER NOT NULL,
    env_id BLOB NOT NULL, last_at_ms INTEGER,
    sealed INTEGER NOT NULL DEFAULT 0, readings INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS envelope (
    ep INTEGER NOT NULL, seq INTEGER NOT NULL, env_id BLOB NOT NULL UNIQUE, jws BLOB NOT NULL,
    readings INTEGER NOT NULL, last_at_ms INTEGER NOT NULL, stored INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (ep, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoint (
    checkpoint_no INTEGER PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS receipt (
    env_id BLOB PRIMARY KEY, ep INTEGER NOT NULL, seq INTEGER NOT NULL, readings INTEGER NOT NULL,
    log_index INTEGER NOT NULL, recv_ms INTEGER NOT NULL, extra BLOB NOT NULL, path BLOB NOT NULL,
    checkpoint_no INTEGER NOT NULL REFERENCES checkpoint, verified_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS skip (
    one INTEGER PRIMARY KEY CHECK (one = 1), first INTEGER NOT NULL, last INTEGER NOT NULL, why TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS seen_log (
    turn INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, root BLOB NOT NULL);
"""


@dataclass(frozen=True)
class Link:
    """Tell what the next envelope must carry: its place in the chain, the last verified checkpoint, a loss."""

    stn: str
    ep: int
    seq: int
    prev: bytes
    cp: tuple[int, bytes] | None
    skip: Skip | None = None


@dataclass(frozen=True)
class Head:
    """Say where the station's own chain stands; `seq` is -1 before the first envelope of an epoch."""

    stn: str
    ep: int
    seq: int
    env_id: bytes
    last_at_ms: int | None
    sealed: int
    readings: int


@dataclass(frozen=True)
class Spooled:
    """Hold one sealed envelope of the spool."""

    ep: int
    seq: int
    env_id: bytes
    jws: bytes
    readings: int


@dataclass(frozen=True)
class Proven:
    """Hold a verified receipt in parts: 13-byte entry prefix, Merkle path, checkpoint note."""

    env_id: bytes
    log_index: int
    recv_ms: int
    extra: bytes
    path: tuple[bytes, ...]
    checkpoint: bytes
    size: int
    root: bytes

    @property
    def origin(self) -> str:
        """Return the name of the log that gave it."""
        return self.checkpoint.split(b"\n", 1)[0].decode("utf-8")


@dataclass(frozen=True)
class SpoolCount:
    """Count what the spool holds: envelopes not acknowledged, acknowledged without receipt, receipts kept."""

    waiting: int
    stored: int
    receipts: int
    receipt_readings: int


class Spool:
    """Append, hand out and free the sealed envelopes of one station; safe against kill -9 at any instant."""

    def __init__(self, path: Path, stn: str) -> None:
        self.path = path
        self.stn = stn
        self._lock = threading.RLock()
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            with self._transaction() as db:
                for statement in SCHEMA.split(";\n"):
                    db.execute(statement)
                db.execute(
                    "INSERT OR IGNORE INTO head (one, stn, ep, seq, env_id) VALUES (1, ?, 0, -1, ?)",
                    (stn, ZERO_ID),
                )
        except (OSError, sqlite3.Error) as error:
            raise SpoolError("spool.open", f"cannot use the spool {path}: {error}") from error
        if (owner := self.head().stn) != stn:
            raise SpoolError("spool.station", f"{path} is the spool of station {owner}, not of {stn}")

    def close(self) -> None:
        """Close the file; everything committed stays."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                raise SpoolError("spool.locked", f"cannot write to {self.path}: {error}") from error
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise SpoolError("spool.write", f"cannot write to {self.path}: {error}") from error
                raise

    # The chain --------------------------------------------------------------------------------------------
    def head(self) -> Head:
        """Return where the chain stands."""
        with self._lock:
            row = self._db.execute(
                "SELECT stn, ep, seq, env_id, last_at_ms, sealed, readings FROM head"
            ).fetchone()
        return Head(*row)

    def append(self, seal: Callable[[Link], Envelope]) -> Envelope:
        """Seal one envelope at the head and keep it, durably, in one transaction."""
        return self.append_many([seal])[0]

    def append_many(self, seals: Iterable[Callable[[Link], Envelope]]) -> list[Envelope]:
        """Seal several envelopes in order with one fsync; all of them are kept, or none."""
        kept: list[Envelope] = []
        with self._transaction() as db:
            head = self.head()
            cp = self.seen()
            ep, seq, env_id = head.ep, head.seq, head.env_id
            last_at_ms, readings = head.last_at_ms, 0
            skip = self.skip()
            for seal in seals:
                link = Link(self.stn, ep, seq + 1, env_id, cp, None if kept else skip)
                envelope = seal(link)
                place = (envelope.stn, envelope.ep, envelope.seq, envelope.prev, envelope.skip)
                if place != (link.stn, ep, link.seq, env_id, link.skip):
                    raise SpoolError("spool.link", "the sealed envelope does not continue the chain")
                latest = max(record.at_ms for record in envelope.records)
                db.execute(
                    "INSERT INTO envelope (ep, seq, env_id, jws, readings, last_at_ms)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (ep, link.seq, envelope.env_id, envelope.jws, len(envelope.records), latest),
                )
                seq, env_id = link.seq, envelope.env_id
                last_at_ms = latest if last_at_ms is None else max(last_at_ms, latest)
                readings += len(envelope.records)
                kept.append(envelope)
            db.execute(
                "UPDATE head SET seq = ?, env_id = ?, last_at_ms = ?, sealed = sealed + ?,"
                " readings = readings + ?",
                (seq, env_id, last_at_ms, len(kept), readings),
            )
            if kept:
                db.execute("DELETE FROM skip")
        return kept

    def skip(self) -> Skip | None:
        """Return the loss that the next envelope is going to admit."""
        with self._lock:
            row = self._db.execute("SELECT first, last, why FROM skip").fetchone()
        return Skip(*row) if row else None

    def skip_to(
        self, server: tuple[int, int, bytes], last: int, why: str, *, last_at_ms: int | None = None
    ) -> Skip:
        """Go on behind the server's head (ep, seq, env_id), admitting that seq+1..last of that epoch are lost.

        The next envelope sealed carries the claim. Raises SpoolError: spool.not_empty, spool.skip.
        """
        ep, seq, env_id = server
        skip = Skip(seq + 1, last, why)
        with self._transaction() as db:
            head = self.head()
            _refuse_waiting(db)
            signed = head.seq if head.ep == ep else -1
            if last <= seq or head.ep > ep or last < signed:
                raise SpoolError("spool.skip", f"{last} does not lead on from epoch {ep}, seq {seq}")
            db.execute("INSERT OR REPLACE INTO skip VALUES (1, ?, ?, ?)", skip)
            db.execute(
                "UPDATE head SET ep = ?, seq = ?, env_id = ?, last_at_ms = max(coalesce(last_at_ms, ?), ?)",
                (ep, last, env_id, last_at_ms, last_at_ms),
            )
        return skip

    def open_epoch(self, ep: int, *, last_at_ms: int | None = None) -> None:
        """Start epoch `ep` at seq 0; refused while envelopes still wait, or going backwards."""
        with self._transaction() as db:
            head = self.head()
            _refuse_waiting(db)
            if ep < head.ep or (ep == head.ep and head.seq >= 0):
                raise SpoolError("spool.epoch", f"epoch {ep} does not follow epoch {head.ep}")
            db.execute(
                "UPDATE head SET ep = ?, seq = -1, env_id = ?, last_at_ms = max(coalesce(last_at_ms, ?), ?)",
                (ep, ZERO_ID, last_at_ms, last_at_ms),
            )
            db.execute("DELETE FROM skip")

    # To the server ----------------------------------------------------------------------------------------
    def waiting(self, limit: int = 256, limit_bytes: int = 4 << 20) -> list[Spooled]:
        """Return the next envelopes the server has not acknowledged, in chain order; at least one if any."""
        taken: list[Spooled] = []
        size = 0
        with self._lock:
            rows = self._db.execute(
                "SELECT ep, seq, env_id, jws, readings FROM envelope WHERE stored = 0"
                " ORDER BY ep, seq LIMIT ?",
                (limit,),
            )
            for row in rows:
                size += len(row[3]) + 1
                if taken and size > limit_bytes:
                    break
                taken.append(Spooled(*row))
            rows.close()
        return taken

    def mark_stored(self, env_ids: Iterable[bytes]) -> int:
        """Note that the server acknowledged these envelopes; they stay until their receipts are verified."""
        with self._transaction() as db:
            cursor = db.executemany(
                "UPDATE envelope SET stored = 1 WHERE env_id = ? AND stored = 0",
                [(env_id,) for env_id in env_ids],
            )
            return cursor.rowcount

    def unproven(self, limit: int = 256, *, after: tuple[int, int] = (-1, -1)) -> list[Spooled]:
        """Return acknowledged envelopes whose receipts are still to be verified, in chain order."""
        with self._lock:
            rows = self._db.execute(
                "SELECT ep, seq, env_id, jws, readings FROM envelope WHERE stored = 1 AND (ep, seq) > (?, ?)"
                " ORDER BY ep, seq LIMIT ?",
                (*after, limit),
            ).fetchall()
        return [Spooled(*row) for row in rows]

    def meet(self, server: tuple[int, int, bytes] | None) -> None:
        """Set what still has to be sent from the server's head (ep, seq, env_id); None = it knows nothing.

        Raises ChainLost when the spool does not hold the envelopes that would continue the server's chain.
        """
        with self._transaction() as db:
            place = (server[0], server[1]) if server else (-1, -1)
            self._check_met(db, server)
            db.execute("UPDATE envelope SET stored = 0 WHERE (ep, seq) > (?, ?)", place)
            db.execute("UPDATE envelope SET stored = 1 WHERE (ep, seq) <= (?, ?)", place)

    def _check_met(self, db: sqlite3.Connection, server: tuple[int, int, bytes] | None) -> None:
        ep, seq, env_id = server or (-1, -1, ZERO_ID)
        mine = db.execute(
            "SELECT env_id FROM envelope WHERE (ep, seq) = (?, ?)"
            " UNION ALL SELECT env_id FROM receipt WHERE (ep, seq) = (?, ?)",
            (ep, seq, ep, seq),
        ).fetchone()
        head = self.head()
        if mine is None and (head.ep, head.seq) == (ep, seq):
            mine = (head.env_id,)
        if mine is not None and mine[0] != env_id:
            raise ChainLost("chain.fork", f"the server holds another envelope at epoch {ep}, seq {seq}")
        freed = db.execute("SELECT count(*) FROM receipt WHERE (ep, seq) > (?, ?)", (ep, seq)).fetchone()[0]
        if freed:
            raise ChainLost(
                "chain.rolled_back",
                f"the server lost {freed} envelopes for which it had given verified receipts",
            )
        first = db.execute(
            "SELECT ep, seq FROM envelope WHERE (ep, seq) > (?, ?) ORDER BY ep, seq", (ep, seq)
        ).fetchone()
        continues = first is None if mine is not None else False
        if first is not None:
            continues = first == (ep, seq + 1) or (first[0] > ep and first[1] == 0)
        elif server is None:
            continues = head.seq < 0
        if not continues:
            raise ChainLost(
                "chain.lost",
                f"the server stands at epoch {ep}, seq {seq}; the spool cannot continue from there"
                " (open a new epoch: stackwitness-station new-epoch)",
            )

    # Proofs -----------------------------------------------------------------------------------------------
    def seen(self, origin: str | None = None) -> tuple[int, bytes] | None:
        """Return size and root of the last checkpoint the station verified, of any log or of one."""
        where = "" if origin is None else "WHERE origin = :origin"
        query = f"SELECT size, root FROM seen_log {where} ORDER BY turn DESC LIMIT 1"
        with self._lock:
            row = self._db.execute(query, {"origin": origin}).fetchone()
        return (row[0], row[1]) if row else None

    def free(self, proven: Sequence[Proven], now_ms: int) -> None:
        """Exchange envelopes for verified receipts and remember the newest checkpoint: one transaction."""
        with self._transaction() as db:
            for proof in proven:
                db.execute(
                    "INSERT OR IGNORE INTO checkpoint (size, root, note) VALUES (?, ?, ?)",
                    (proof.size, proof.root, proof.checkpoint),
                )
                given = (proof.log_index, proof.recv_ms, proof.extra, b"".join(proof.path))
                db.execute(
                    "INSERT INTO receipt SELECT env_id, ep, seq, readings, ?, ?, ?, ?,"
                    " (SELECT checkpoint_no FROM checkpoint WHERE note = ?), ?"
                    " FROM envelope WHERE env_id = ?",
                    (*given, proof.checkpoint, now_ms, proof.env_id),
                )
                db.execute("DELETE FROM envelope WHERE env_id = ?", (proof.env_id,))
            for proof in sorted(proven, key=lambda proof: proof.size):
                db.execute(
                    "INSERT OR REPLACE INTO seen_log (origin, size, root) SELECT :log, :size, :root WHERE"
                    " NOT EXISTS (SELECT 1 FROM seen_log WHERE origin = :log AND size >= :size)",
                    {"log": proof.origin, "size": proof.size, "root": proof.root},
                )

    def receipt(self, env_id: bytes) -> Proven | None:
        """Return the kept receipt of an envelope, in parts, or None."""
        with self._lock:
            row = self._db.execute(
                "SELECT env_id, log_index, recv_ms, extra, path, note, size, root"
                " FROM receipt JOIN checkpoint USING (checkpoint_no) WHERE env_id = ?",
                (env_id,),
            ).fetchone()
        if row is None:
            return None
        path = tuple(row[4][at : at + 32] for at in range(0, len(row[4]), 32))
        return Proven(row[0], row[1], row[2], row[3], path, row[5], row[6], row[7])

    def forget_receipts(self, now_ms: int, keep_days: int) -> int:
        """Drop receipts verified more than `keep_days` ago; the newest of the chain always stays."""
        with self._transaction() as db:
            cursor = db.execute(
                "DELETE FROM receipt WHERE verified_ms < ? AND (ep, seq) < (SELECT ep, seq FROM receipt"
                " ORDER BY ep DESC, seq DESC LIMIT 1)",
                (now_ms - keep_days * DAY_MS,),
            )
            db.execute(
                "DELETE FROM checkpoint WHERE checkpoint_no NOT IN (SELECT checkpoint_no FROM receipt)"
            )
            return cursor.rowcount

    def count(self) -> SpoolCount:
        """Count what is here."""
        with self._lock:
            waiting, stored = self._db.execute(
                "SELECT count(*) FILTER (WHERE stored = 0), count(*) FILTER (WHERE stored = 1) FROM envelope"
            ).fetchone()
            receipts, readings = self._db.execute(
                "SELECT count(*), coalesce(sum(readings), 0) FROM receipt"
            ).fetchone()
        return SpoolCount(waiting, stored, receipts, readings)


def _refuse_waiting(db: sqlite3.Connection) -> None:
    if db.execute("SELECT count(*) FROM envelope").fetchone()[0]:
        raise SpoolError("spool.not_empty", "envelopes still wait for their receipts: push them first")
