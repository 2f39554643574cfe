"""The shard before this one, as the database keeps it."""

import sqlalchemy as sa

from emdi.shard import Previous


def read_previous(conn: sa.Connection) -> tuple[Previous, bytes] | None:
    """Return the shard before this one, and the file of its final head; None in a first shard."""
    row = conn.execute(sa.text("SELECT origin, size, root, head_root, head FROM log_previous")).one_or_none()
    if row is None:
        return None
    return Previous(row.origin, row.size, bytes(row.root), bytes(row.head_root)), bytes(row.head)


def store_previous(conn: sa.Connection, previous: Previous, note: bytes, head: bytes) -> None:
    """Keep what leaf 0 will commit to, in the successor's empty database."""
    conn.execute(
        sa.text(
            "INSERT INTO log_previous (origin, size, root, head_root, head, note)"
            " VALUES (:origin, :size, :root, :head_root, :head, :note)"
        ),
        {
            "origin": previous.origin,
            "size": previous.size,
            "root": previous.root,
            "head_root": previous.head_root,
            "head": head,
            "note": note,
        },
    )
