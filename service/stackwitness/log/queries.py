"""Where entries stand in the log, and what still waits."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True)
class Place:
    """One entry's place: index, kind, id (32 bytes) and time of receipt in Unix ms."""

    idx: int
    kind: int
    entry_id: bytes
    recv_ms: int


def find_places(conn: sa.Connection, entry_ids: Sequence[bytes], kinds: Sequence[int]) -> list[Place]:
    """Return the places of the entries that are sequenced; of two kinds under one id, the lower."""
    rows = conn.execute(
        sa.text(
            "SELECT DISTINCT ON (entry_id) idx, kind, entry_id, recv_ms FROM log_entry "
            "WHERE entry_id = ANY(:ids) AND kind = ANY(:kinds) ORDER BY entry_id, kind"
        ),
        {"ids": list(entry_ids), "kinds": list(kinds)},
    )
    return [Place(row.idx, row.kind, bytes(row.entry_id), row.recv_ms) for row in rows]


def is_stored(conn: sa.Connection, entry_id: bytes) -> bool:
    """Tell whether an envelope, quarantined envelope or event of this id is stored, sequenced or not."""
    query = (
        "SELECT EXISTS (SELECT FROM envelope WHERE env_id = :id) "
        "OR EXISTS (SELECT FROM quarantine WHERE env_id = :id) "
        "OR EXISTS (SELECT FROM event WHERE event_id = :id)"
    )
    return bool(conn.execute(sa.text(query), {"id": entry_id}).scalar_one())


def find_successor(conn: sa.Connection) -> str | None:
    """Return the origin of the log that follows this one once this one is frozen; None while it grows."""
    origin: str | None = conn.scalar(sa.text("SELECT successor_origin FROM log_freeze"))
    return origin


def count_pending(conn: sa.Connection) -> int:
    """Return how many leaves wait for the sequencer."""
    return int(conn.execute(sa.text("SELECT count(*) FROM log_pending")).scalar_one())
