"""What a witness remembers, in SQLite: its logs, and the newest tree of each that it has cosigned."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from emdi.errors import NoteError
from emdi.note import KIND_ED25519, VerifierKey
from emdi.witness import Seen
from stackwitness_client.errors import ClientError

BUSY_S = 5.0
_TABLES = """
CREATE TABLE IF NOT EXISTS log_key (origin TEXT NOT NULL, vkey TEXT NOT NULL PRIMARY KEY);
CREATE TABLE IF NOT EXISTS cosigned (
    origin TEXT PRIMARY KEY,
    size INTEGER NOT NULL CHECK (size >= 0),
    root BLOB NOT NULL CHECK (length(root) = 32),
    time_s INTEGER NOT NULL,
    note BLOB NOT NULL
);
"""


class MemoryUnavailable(ClientError):
    """The state on disk cannot be used now: nothing may be cosigned."""


@dataclass(frozen=True, slots=True)
class Cosigned:
    """The tree cosigned last, when (Unix s), and the note with the cosignatures (empty before the first)."""

    seen: Seen = field(default_factory=Seen)
    time_s: int = 0
    note: bytes = b""


class WitnessMemory:
    """Keep a witness' state; any number of threads and processes may hold one over the same file.

    A connection a call: no state outlives a call but what is on disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as conn:
            conn.executescript(_TABLES)

    def add_log(self, vkey: VerifierKey) -> None:
        """Trust a key for the log it is named after; a second key of the same log is an overlap of two keys."""
        if vkey.kind != KIND_ED25519:
            raise NoteError("note.kind", "a log signs with an Ed25519 key (kind 1)")
        with self._open() as conn:
            conn.execute("INSERT OR IGNORE INTO log_key VALUES (?, ?)", (vkey.name, vkey.format()))

    def log_keys(self, origin: str) -> tuple[VerifierKey, ...]:
        """Return the keys trusted for a log; empty for a log that is not known here."""
        with self._open() as conn:
            rows = conn.execute("SELECT vkey FROM log_key WHERE origin = ? ORDER BY vkey", (origin,))
            return tuple(VerifierKey.parse(vkey) for (vkey,) in rows)

    def origins(self) -> list[str]:
        """Return the names of the logs."""
        with self._open() as conn:
            return [name for (name,) in conn.execute("SELECT DISTINCT origin FROM log_key ORDER BY origin")]

    def recall(self, origin: str) -> Cosigned:
        """Return what was cosigned last."""
        with self._open() as conn:
            return _recall(conn, origin)

    def advance(
        self, origin: str, checked: Seen, new: Seen, time_s: int, cosign: Callable[[int], bytes]
    ) -> bytes | None:
        """Move from the tree that was `checked` to the `new` one and return the note that `cosign` makes.

        `cosign` is given a time that is never below the last one of this log. Returns only when all of it is
        on disk; None, and nothing changed, when another call moved the log meanwhile.
        """
        with self._open() as conn, _exclusively(conn):
            before = _recall(conn, origin)
            if before.seen != checked:
                return None
            time_s = max(time_s, before.time_s)
            note = cosign(time_s)
            conn.execute(
                "INSERT OR REPLACE INTO cosigned VALUES (?, ?, ?, ?, ?)",
                (origin, new.size, new.root, time_s, note),
            )
        return note

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None)) as conn:
                conn.execute("PRAGMA journal_mode = WAL")
                # FULL: a commit is on disk before it returns, and only then is a cosignature given away.
                conn.execute("PRAGMA synchronous = FULL")
                yield conn
        except sqlite3.Error as error:
            raise MemoryUnavailable("witness.state", f"{self._path}: {error}") from error


@contextmanager
def _exclusively(conn: sqlite3.Connection) -> Iterator[None]:
    conn.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        conn.execute("ROLLBACK")
        raise
    conn.execute("COMMIT")


def _recall(conn: sqlite3.Connection, origin: str) -> Cosigned:
    row = conn.execute("SELECT size, root, time_s, note FROM cosigned WHERE origin = ?", (origin,)).fetchone()
    return Cosigned() if row is None else Cosigned(Seen(row[0], row[1]), row[2], row[3])
