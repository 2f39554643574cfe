"""What a monitor remembers: one SQLite file, so that every step of a turn is kept whole or not at all.

In memory stand only the heads: one row per station and one per subject. What grows with the log stays on disk.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emdi.checkpoint import Checkpoint
from emdi.event import parse_event
from emdi.keyring import KeyRing
from emdi.officers import ACCESS_EVENTS, Officers
from stackwitness_client.errors import ClientError
from stackwitness_client.monitor.finding import Finding

KEPT_CHECKPOINTS = 20_000
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (
    size INTEGER PRIMARY KEY, origin TEXT NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL,
    first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS station (
    stn TEXT PRIMARY KEY, station_no INTEGER NOT NULL UNIQUE, ep INTEGER NOT NULL, seq INTEGER NOT NULL,
    env_id BLOB NOT NULL, idx INTEGER NOT NULL, span_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS subject (
    subj TEXT PRIMARY KEY, sseq INTEGER NOT NULL, event_id BLOB NOT NULL, idx INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS envelope (
    idx INTEGER PRIMARY KEY, station_no INTEGER NOT NULL, ep INTEGER NOT NULL, seq INTEGER NOT NULL,
    env_id BLOB NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, readings INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS envelope_place ON envelope (station_no, ep, seq);
CREATE INDEX IF NOT EXISTS envelope_time ON envelope (station_no, first_ms);
CREATE TABLE IF NOT EXISTS event (
    idx INTEGER PRIMARY KEY, subj TEXT NOT NULL, sseq INTEGER NOT NULL, event_id BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS event_place ON event (subj, sseq);
CREATE TABLE IF NOT EXISTS key_entry (idx INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS flag (
    flag_id TEXT PRIMARY KEY, raised_idx INTEGER NOT NULL, newest_idx INTEGER NOT NULL, decision_idx INTEGER,
    shown TEXT NOT NULL, listed INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS head_due (idx INTEGER PRIMARY KEY, as_of INTEGER NOT NULL, root TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS anchor (idx INTEGER PRIMARY KEY, data TEXT NOT NULL, verdict TEXT);
CREATE TABLE IF NOT EXISTS claim (key TEXT PRIMARY KEY, want_idx INTEGER, have_idx INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pending (key TEXT PRIMARY KEY, type TEXT NOT NULL, finding TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fact (
    key TEXT PRIMARY KEY, type TEXT NOT NULL, n INTEGER NOT NULL, at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS suspect (key TEXT PRIMARY KEY, first_ms INTEGER NOT NULL, detail TEXT NOT NULL)
    WITHOUT ROWID;
"""


class StateError(ClientError):
    """Refuse a state that cannot be used, or belongs to another log."""


@dataclass(frozen=True, slots=True)
class StationHead:
    """The last envelope of a station; `span_ms` is the longest time any of its envelopes covers."""

    station_no: int
    ep: int
    seq: int
    env_id: bytes
    idx: int
    span_ms: int


@dataclass(frozen=True, slots=True)
class SubjectHead:
    """The last event of a subject."""

    sseq: int
    event_id: bytes
    idx: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A checkpoint whose signatures, quorum and consistency held; the two times bound when it was the newest."""

    tree: Checkpoint
    note: bytes
    first_ms: int
    last_ms: int


class State:
    """Open or make the state file; one process at a time."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
        try:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self.db.execute("PRAGMA synchronous = FULL")
            self.db.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA.split(";"):
                self.db.execute(statement)
            self.db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise StateError("monitor.state", f"{path}: {error}; is another monitor running?") from error
        self.reload()

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def reload(self) -> None:
        """Take the heads and keys from the file, after a step that failed."""
        columns = "stn, station_no, ep, seq, env_id, idx, span_ms"
        self.stations = {
            row[0]: StationHead(*row[1:]) for row in self.db.execute(f"SELECT {columns} FROM station")
        }
        rows = self.db.execute("SELECT subj, sseq, event_id, idx FROM subject")
        self.subjects = {row[0]: SubjectHead(*row[1:]) for row in rows}
        self.ring, self.officers = KeyRing(), Officers()
        for idx, body in self.db.execute("SELECT idx, body FROM key_entry ORDER BY idx"):
            if idx == 0:
                self.ring.take_genesis(0, body)
            else:
                event = parse_event(body)
                self.ring.take_event(idx, event)
                if event.typ in ACCESS_EVENTS:
                    self.officers.take_event(idx, event, self.get(f"recv_ms:{idx}", event.ts_ms))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all that happens inside, or nothing; heads in memory follow."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            self.reload()
            raise
        self.db.execute("COMMIT")

    # Single values ------------------------------------------------------------------------------------
    def get(self, name: str, default: Any = None) -> Any:
        """Return a remembered value."""
        row = self.db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return default if row is None else json.loads(row[0])

    def put(self, name: str, value: Any) -> None:
        """Remember a value."""
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value)))

    @property
    def replayed(self) -> int:
        """Return how many entries have been taken."""
        return int(self.get("replayed", 0))

    # Checkpoints --------------------------------------------------------------------------------------
    def newest(self) -> Seen | None:
        """Return the largest checkpoint seen."""
        return self._seen("ORDER BY size DESC LIMIT 1", ())

    def seen_at(self, size: int) -> Seen | None:
        """Return the checkpoint seen of exactly this size."""
        return self._seen("WHERE size = ?", (size,))

    def seen_below(self, size: int) -> Seen | None:
        """Return the largest checkpoint seen that is smaller than `size`."""
        return self._seen("WHERE size < ? ORDER BY size DESC LIMIT 1", (size,))

    def seen_from(self, size: int) -> list[Seen]:
        """Return the checkpoints seen of at least this size, ascending."""
        rows = self.db.execute(f"{_SEEN} WHERE size >= ? ORDER BY size", (size,))
        return [_seen_of(row) for row in rows]

    def see(self, tree: Checkpoint, note: bytes, first_ms: int, last_ms: int) -> None:
        """Remember a checkpoint, or that it is still the newest."""
        self.db.execute(
            "INSERT INTO seen VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (size) DO UPDATE"
            " SET note = excluded.note, last_ms = max(last_ms, excluded.last_ms)",
            (tree.size, tree.origin, tree.root, note, first_ms, last_ms),
        )
        self.db.execute(
            "DELETE FROM seen WHERE size < (SELECT size FROM seen ORDER BY size DESC LIMIT 1 OFFSET ?)",
            (KEPT_CHECKPOINTS,),
        )

    def _seen(self, rest: str, given: Sequence[Any]) -> Seen | None:
        row = self.db.execute(f"{_SEEN} {rest}", given).fetchone()
        return None if row is None else _seen_of(row)

    # Heads --------------------------------------------------------------------------------------------
    def set_station(self, stn: str, ep: int, seq: int, env_id: bytes, idx: int, span_ms: int) -> StationHead:
        """Advance a station in memory; `save_heads` writes it."""
        known = self.stations.get(stn)
        if known is None:
            head = StationHead(len(self.stations), ep, seq, env_id, idx, span_ms)
        else:
            head = replace(known, ep=ep, seq=seq, env_id=env_id, idx=idx, span_ms=max(span_ms, known.span_ms))
        self.stations[stn] = head
        return head

    def save_heads(self, stations: set[str], subjects: set[str]) -> None:
        """Write the heads of these stations and subjects."""
        self.db.executemany(
            "INSERT OR REPLACE INTO station VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (stn, h.station_no, h.ep, h.seq, h.env_id, h.idx, h.span_ms)
                for stn, h in ((stn, self.stations[stn]) for stn in stations)
            ],
        )
        self.db.executemany(
            "INSERT OR REPLACE INTO subject VALUES (?, ?, ?, ?)",
            [(s, h.sseq, h.event_id, h.idx) for s, h in ((s, self.subjects[s]) for s in subjects)],
        )

    def want(self, typ: str, env_id: str, idx: int) -> None:
        """An envelope at `idx` is of a kind that an event of this type must go with."""
        self.db.execute(
            "INSERT INTO claim VALUES (?, ?, NULL) ON CONFLICT (key) DO UPDATE SET want_idx = excluded.want_idx",
            (f"{typ}:{env_id}", idx),
        )

    def have(self, typ: str, env_id: str, idx: int) -> None:
        """The event at `idx` says so of an envelope."""
        self.db.execute(
            "INSERT INTO claim VALUES (?, NULL, ?) ON CONFLICT (key) DO UPDATE SET have_idx = excluded.have_idx",
            (f"{typ}:{env_id}", idx),
        )

    def take_unmet(self, below: int) -> list[tuple[str, int | None, int | None]]:
        """Return the claims that stand alone though both halves should be below this index, and forget them."""
        with self.transaction():
            self.db.execute("DELETE FROM claim WHERE want_idx NOT NULL AND have_idx NOT NULL")
            unmet = "want_idx < :below OR have_idx < :below"
            rows = self.db.execute(
                f"SELECT * FROM claim WHERE {unmet} ORDER BY key", {"below": below}
            ).fetchall()
            self.db.execute(f"DELETE FROM claim WHERE {unmet}", {"below": below})
        return rows

    def suspect(self, key: str, now_ms: int, grace_ms: int, detail: str = "null") -> bool:
        """Remember something that may only be ahead of the log; tell whether that excuse is used up."""
        with self.transaction():
            self.db.execute("INSERT OR IGNORE INTO suspect VALUES (?, ?, ?)", (key, now_ms, detail))
            row = self.db.execute("SELECT first_ms FROM suspect WHERE key = ?", (key,)).fetchone()
        return bool(row[0] < now_ms - grace_ms)

    def clear_suspects(self, prefix: str) -> None:
        """Forget what begins so: it is as the log says."""
        query = "FROM suspect WHERE substr(key, 1, ?) = ?"
        if self.db.execute(f"SELECT 1 {query} LIMIT 1", (len(prefix), prefix)).fetchone() is not None:
            with self.transaction():
                self.db.execute(f"DELETE {query}", (len(prefix), prefix))

    # Facts --------------------------------------------------------------------------------------------
    def find(self, finding: Finding) -> None:
        """Keep a finding until its proof can be made; a fact that is known already is not kept twice."""
        if self.db.execute("SELECT 1 FROM fact WHERE key = ?", (finding.key,)).fetchone() is None:
            self.db.execute(
                "INSERT OR IGNORE INTO pending VALUES (?, ?, ?)",
                (finding.key, finding.type, finding.to_json()),
            )

    def pending(self) -> list[Finding]:
        """Return the findings without a proof yet."""
        rows = self.db.execute("SELECT finding FROM pending ORDER BY key")
        return [Finding.from_json(row[0]) for row in rows]

    def count_of(self, kind: str) -> int:
        """Return how many facts and findings of one type there are."""
        query = "SELECT (SELECT count(*) FROM fact WHERE type = :t) + (SELECT count(*) FROM pending WHERE type = :t)"
        return int(self.db.execute(query, {"t": kind}).fetchone()[0])


_SEEN = "SELECT origin, size, root, note, first_ms, last_ms FROM seen"


def _seen_of(row: tuple[Any, ...]) -> Seen:
    return Seen(Checkpoint(row[0], row[1], row[2]), row[3], row[4], row[5])
