"""What readiness and metrics ask the database, in one statement."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from stackwitness.db.migrate import current_revision


@dataclass(frozen=True)
class Health:
    """The schema's revision; leaves waiting, the log's size, and since when each (Unix ms)."""

    revision: str | None
    pending: int
    oldest_pending_ms: int | None
    log_size: int
    log_size_since_ms: int | None


def read_health(conn: Connection) -> Health:
    """Read the state of the schema and of the log's queue."""
    revision = current_revision(conn)
    if revision is None:
        return Health(None, 0, None, 0, None)
    row = conn.execute(
        text(
            "SELECT (SELECT count(*) FROM log_pending) AS pending,"
            " (SELECT min(recv_ms) FROM log_pending) AS oldest_ms, head.size,"
            " (extract(epoch FROM head.at) * 1000)::bigint AS since_ms"
            " FROM (SELECT 1) one LEFT JOIN"
            " (SELECT size, at FROM log_head ORDER BY size DESC LIMIT 1) head ON true"
        )
    ).one()
    return Health(revision, row.pending, row.oldest_ms, row.size or 0, row.since_ms)
