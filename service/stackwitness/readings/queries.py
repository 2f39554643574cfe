"""SQL of readings. Where two envelopes give the same channel and time, the value seen first is the value."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, text

from stackwitness.db.timescale import bucket
from stackwitness.stations.queries import SUSPICION

Aggregate = Literal["none", "hour", "day"]
BUCKET_S: dict[Aggregate, int] = {"hour": 3600, "day": 86_400}
Key = tuple[datetime, int]  # (at, channel_no): where a page ended


@dataclass(frozen=True, slots=True)
class Value:
    """One reading; `revisions` counts later values signed for the same channel and time."""

    channel_no: int
    at: datetime
    value: float | None
    status: str
    revisions: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """Readings of one channel in one bucket from `at`: figures over those with a value, None without any."""

    channel_no: int
    at: datetime
    mean: float | None
    min: float | None
    max: float | None
    count: int
    missing: int
    normal: int
    revisions: int


def select_values(
    conn: Connection,
    channel_nos: Sequence[int],
    from_at: datetime,
    to_at: datetime,
    limit: int,
    after: Key | None = None,
) -> list[Value]:
    """Return at most `limit` readings in [from_at, to_at) by (time, channel), after the last page's key.

    Each channel walks its own index and stops at the limit, so a page costs its own length.
    """
    rows = conn.execute(
        text(
            "SELECT c.channel_no, r.* FROM unnest(CAST(:channel_nos AS integer[])) AS c (channel_no)"
            " CROSS JOIN LATERAL ("
            "  SELECT at, (array_agg(value ORDER BY envelope_no))[1] AS value,"
            "   (array_agg(status ORDER BY envelope_no))[1] AS status, count(*) - 1 AS revisions"
            "  FROM reading_seen WHERE channel_no = c.channel_no AND at >= :from_at AND at < :to_at"
            "   AND (CAST(:after_at AS timestamptz) IS NULL OR at > :after_at"
            "    OR (at = :after_at AND c.channel_no > :after_no))"
            "  GROUP BY at ORDER BY at LIMIT :limit"
            " ) AS r ORDER BY r.at, c.channel_no LIMIT :limit"
        ),
        _parameters(channel_nos, from_at, to_at, limit, after),
    )
    return [Value(row.channel_no, row.at, row.value, _letter(row.status), row.revisions) for row in rows]


def select_buckets(
    conn: Connection,
    channel_nos: Sequence[int],
    from_at: datetime,
    to_at: datetime,
    limit: int,
    aggregate: Aggregate,
    after: Key | None = None,
) -> list[Bucket]:
    """Return hours or days (UTC) that hold readings of [from_at, to_at), as select_values does."""
    start = bucket(BUCKET_S[aggregate], "at")
    rows = conn.execute(
        text(
            "SELECT c.channel_no, r.* FROM unnest(CAST(:channel_nos AS integer[])) AS c (channel_no)"
            " CROSS JOIN LATERAL ("
            "  SELECT v.start AS at, avg(v.value) AS mean, min(v.value) AS min, max(v.value) AS max,"
            "   count(v.value) AS present, count(*) - count(v.value) AS missing,"
            "   count(*) FILTER (WHERE v.status = 'N') AS normal, sum(v.revisions) AS revisions"
            f"  FROM (SELECT {start} AS start, (array_agg(value ORDER BY envelope_no))[1] AS value,"
            "    (array_agg(status ORDER BY envelope_no))[1] AS status, count(*) - 1 AS revisions"
            "   FROM reading_seen WHERE channel_no = c.channel_no AND at >= :from_at AND at < :to_at"
            "    AND (CAST(:after_at AS timestamptz) IS NULL OR at >= :after_at)"
            "   GROUP BY at) AS v"
            "  WHERE CAST(:after_at AS timestamptz) IS NULL OR v.start > :after_at"
            "   OR (v.start = :after_at AND c.channel_no > :after_no)"
            "  GROUP BY v.start ORDER BY v.start LIMIT :limit"
            " ) AS r ORDER BY r.at, c.channel_no LIMIT :limit"
        ),
        _parameters(channel_nos, from_at, to_at, limit, after),
    )
    return [
        Bucket(r.channel_no, r.at, r.mean, r.min, r.max, r.present, r.missing, r.normal, int(r.revisions))
        for r in rows
    ]


@dataclass(frozen=True, slots=True)
class Suspect:
    """What a key signed at log index `from_idx` and later: envelopes, and the time of their readings.

    `compromised_kid` is the key in other hands: this one, or one it follows by rotation.
    """

    kid: str
    from_idx: int
    compromised_kid: str
    envelopes: int
    first_at: datetime
    last_at: datetime


def select_suspects(
    conn: Connection, stn: str, from_at: datetime | None = None, to_at: datetime | None = None
) -> list[Suspect]:
    """Return what suspect keys of a station signed, of [from_at, to_at) or of all time, by key id."""
    rows = conn.execute(
        text(
            f"WITH {SUSPICION} SELECT c.kid, c.from_idx, c.compromised_kid, count(*) AS envelopes,"
            " min(v.first_at) AS first_at, max(v.last_at) AS last_at FROM suspicion c"
            " JOIN envelope_seen v ON v.stn = :stn AND v.kid = c.kid"
            " JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id AND e.idx >= c.from_idx"
            " WHERE (CAST(:to_at AS timestamptz) IS NULL OR v.first_at < :to_at)"
            " AND (CAST(:from_at AS timestamptz) IS NULL OR v.last_at >= :from_at)"
            " GROUP BY c.kid, c.from_idx, c.compromised_kid ORDER BY c.kid"
        ),
        {"stn": stn, "from_at": from_at, "to_at": to_at},
    )
    return [
        Suspect(row.kid, row.from_idx, row.compromised_kid, row.envelopes, row.first_at, row.last_at)
        for row in rows
    ]


def _parameters(
    channel_nos: Sequence[int], from_at: datetime, to_at: datetime, limit: int, after: Key | None
) -> dict[str, object]:
    after_at, after_no = after if after is not None else (None, 0)
    return {
        "channel_nos": list(channel_nos),
        "from_at": from_at,
        "to_at": to_at,
        "limit": limit,
        "after_at": after_at,
        "after_no": after_no,
    }


def _letter(status: bytes | str) -> str:
    return status.decode("ascii") if isinstance(status, bytes) else status
