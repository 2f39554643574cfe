"""SQL of exports: requests, and everything a bundle is made of."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from emdi.chain import StationHead
from stackwitness.evidence.domain import Export, ExportState, Range

_EXPORT = """
    SELECT q.export_id, q.stn, q.from_at, q.to_at, q.purpose, q.account_id, q.state, q.error, q.requested_at,
           x.manifest_sha256
    FROM export_request q LEFT JOIN export x USING (export_id)
"""
# The entries of one bundle: leaf 0, all that was decided about the station, its envelopes of the range.
_CHOSEN = """
    SELECT e.idx FROM log_entry e WHERE e.idx = 0
    UNION
    SELECT e.idx FROM event w JOIN log_entry e ON e.kind = 2 AND e.entry_id = w.event_id
    WHERE w.subj = 'station:' || :stn AND e.idx < :size
    UNION
    SELECT e.idx FROM quarantine q JOIN log_entry e ON e.kind = 3 AND e.entry_id = q.env_id
    WHERE q.stn = :stn AND e.idx < :size
    UNION
    SELECT e.idx FROM envelope v JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id
    WHERE v.stn = :stn AND e.idx < :size AND (v.ep, v.seq) BETWEEN (:ep_a, :seq_a) AND (:ep_b, :seq_b)
"""
ENVELOPES_AT_ONCE = 64
_NUMBERS = """
    SELECT v.envelope_no, v.first_at, v.last_at
    FROM envelope v JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id
    WHERE v.stn = :stn AND e.idx < :size AND (v.ep, v.seq) BETWEEN (:ep_a, :seq_a) AND (:ep_b, :seq_b)
    ORDER BY e.idx
"""
# The key of a reading is (channel, time, envelope): a few envelopes' rows are a short range of each channel. The rows are
# found first, whatever the planner thinks of the joins after them.
_READINGS = """
    WITH chosen AS MATERIALIZED (
        SELECT r.at, r.channel_no, r.envelope_no, r.value, r.status FROM reading r
        WHERE r.channel_no = ANY(ARRAY(SELECT channel_no FROM channel WHERE stn = :stn))
              AND r.at BETWEEN :first_at AND :last_at AND r.envelope_no = ANY(:numbers))
    SELECT e.idx, v.ep, v.seq, CAST(extract(epoch FROM r.at) * 1000 AS bigint) AS at_ms, c.name, c.unit,
           r.value, r.status::text AS status
    FROM chosen r
    JOIN envelope v USING (envelope_no)
    JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id
    JOIN channel c ON c.channel_no = r.channel_no
    ORDER BY e.idx, r.at, c.name COLLATE "C"
"""
NO_ENVELOPES = {"ep_a": 1, "seq_a": 0, "ep_b": 0, "seq_b": 0}


# Entries of the log whose index or whose bytes the database no longer has.
_LOST = """
    SELECT g.idx FROM (
        SELECT p.idx, lead(p.idx, 1, CAST(:size AS bigint)) OVER (ORDER BY p.idx) AS following
        FROM (SELECT CAST(-1 AS bigint) AS idx UNION ALL SELECT idx FROM log_entry WHERE idx < :size) p) w,
        LATERAL generate_series(w.idx + 1, w.following - 1) AS g (idx)
    UNION ALL
    SELECT e.idx FROM log_entry e WHERE e.idx < :size AND NOT (
        e.kind = 0
        OR e.kind = 1 AND EXISTS (SELECT FROM envelope v WHERE v.env_id = e.entry_id)
        OR e.kind = 2 AND EXISTS (SELECT FROM event w WHERE w.event_id = e.entry_id)
        OR e.kind = 3 AND EXISTS (SELECT FROM quarantine q WHERE q.env_id = e.entry_id))
    ORDER BY idx LIMIT :most
"""


def insert_request(
    conn: Connection,
    export_id: str,
    stn: str,
    from_at: datetime,
    to_at: datetime,
    purpose: str,
    account_id: str,
    requested_at: datetime,
) -> None:
    """Store a request, queued."""
    conn.execute(
        text(
            "INSERT INTO export_request (export_id, stn, from_at, to_at, purpose, account_id, requested_at) "
            "VALUES (:export_id, :stn, :from_at, :to_at, :purpose, :account_id, :requested_at)"
        ),
        {
            "export_id": export_id,
            "stn": stn,
            "from_at": from_at,
            "to_at": to_at,
            "purpose": purpose,
            "account_id": account_id,
            "requested_at": requested_at,
        },
    )


def defer_build(conn: Connection, export_id: str) -> None:
    """Queue the job that builds it, in the same transaction."""
    conn.execute(
        text(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, args) "
            "VALUES ('exports', 'evidence.build_export', 'export:' || :export_id, "
            "jsonb_build_object('export_id', CAST(:export_id AS text)))"
        ),
        {"export_id": export_id},
    )


def has_station(conn: Connection, stn: str) -> bool:
    """Tell whether there is such a station."""
    return bool(conn.scalar(text("SELECT EXISTS (SELECT FROM station WHERE stn = :stn)"), {"stn": stn}))


def find_export(conn: Connection, export_id: str) -> Export | None:
    """Return an export."""
    row = conn.execute(
        text(_EXPORT + " WHERE q.export_id = :export_id"), {"export_id": export_id}
    ).one_or_none()
    return None if row is None else _export(row)


def list_exports(conn: Connection, stn: str | None, limit: int) -> list[Export]:
    """Return the exports of a station, or of all, newest first."""
    query = (
        _EXPORT + " WHERE CAST(:stn AS text) IS NULL OR q.stn = :stn "
        "ORDER BY q.requested_at DESC, q.export_id LIMIT :limit"
    )
    return [_export(row) for row in conn.execute(text(query), {"stn": stn, "limit": limit})]


def set_state(conn: Connection, export_id: str, state: ExportState, error: str | None = None) -> None:
    """Note how far an export got."""
    query = "UPDATE export_request SET state = :state, error = :error WHERE export_id = :export_id"
    conn.execute(text(query), {"state": state, "error": error, "export_id": export_id})


def insert_export(
    conn: Connection, export_id: str, stn: str, manifest_sha256: bytes, made_at: datetime, event_id: bytes
) -> None:
    """Store a sealed export."""
    conn.execute(
        text(
            "INSERT INTO export (export_id, stn, manifest_sha256, made_at, event_id) "
            "VALUES (:export_id, :stn, :manifest_sha256, :made_at, :event_id)"
        ),
        {
            "export_id": export_id,
            "stn": stn,
            "manifest_sha256": manifest_sha256,
            "made_at": made_at,
            "event_id": event_id,
        },
    )


def find_sealed_event(conn: Connection, export_id: str) -> tuple[bytes, bytes] | None:
    """Return (event_id, JWS) of an export's event, once it is sealed."""
    query = (
        "SELECT w.event_id, w.jws FROM export x JOIN event w USING (event_id) WHERE x.export_id = :export_id"
    )
    row = conn.execute(text(query), {"export_id": export_id}).one_or_none()
    return None if row is None else (bytes(row.event_id), bytes(row.jws))


def find_range(conn: Connection, stn: str, from_at: datetime, to_at: datetime, size: int) -> Range | None:
    """Return the envelopes below log index `size` whose readings touch the period, without a hole between."""
    query = """
    WITH touching AS (
        SELECT min(ARRAY[v.ep, v.seq]) AS a, max(ARRAY[v.ep, v.seq]) AS b
        FROM envelope v JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id
        WHERE v.stn = :stn AND v.first_at < :to_at AND v.last_at >= :from_at AND e.idx < :size)
    SELECT t.a[1] AS ep_a, t.a[2] AS seq_a, t.b[1] AS ep_b, t.b[2] AS seq_b,
           min(v.first_at) AS first_at, max(v.last_at) AS last_at
    FROM touching t
    JOIN envelope v ON v.stn = :stn AND (v.ep, v.seq) BETWEEN (t.a[1], t.a[2]) AND (t.b[1], t.b[2])
    GROUP BY t.a, t.b
    """
    given = {"stn": stn, "from_at": from_at, "to_at": to_at, "size": size}
    row = conn.execute(text(query), given).one_or_none()
    if row is None:
        return None
    return Range((row.ep_a, row.seq_a), (row.ep_b, row.seq_b), row.first_at, row.last_at)


def find_head(conn: Connection, stn: str, size: int) -> StationHead | None:
    """Return the station's last envelope below log index `size`, from the envelopes and not from the
    cache.
    """
    query = (
        "SELECT v.ep, v.seq, v.env_id FROM envelope v JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id "
        "WHERE v.stn = :stn AND e.idx < :size ORDER BY v.ep DESC, v.seq DESC LIMIT 1"
    )
    row = conn.execute(text(query), {"stn": stn, "size": size}).one_or_none()
    return None if row is None else StationHead(row.ep, row.seq, bytes(row.env_id))


def find_newest(conn: Connection, stn: str) -> bytes | None:
    """Return the id of the station's last stored envelope."""
    env_id = conn.scalar(
        text("SELECT env_id FROM envelope WHERE stn = :stn ORDER BY ep DESC, seq DESC LIMIT 1"), {"stn": stn}
    )
    return None if env_id is None else bytes(env_id)


def read_entries(
    conn: Connection, stn: str, size: int, envelopes: Range | None
) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield (idx, kind, recv_ms, body) of every entry of the bundle, by idx; rows whose bytes are gone are
    left out.
    """
    query = f"""
    SELECT b.idx, b.kind, b.recv_ms, b.body FROM ({_CHOSEN}) c JOIN log_bytes b USING (idx)
    WHERE b.body IS NOT NULL ORDER BY b.idx
    """
    given = {"stn": stn, "size": size, **_bounds(envelopes)}
    for row in conn.execute(text(query).execution_options(yield_per=500), given):
        yield row.idx, row.kind, row.recv_ms, bytes(row.body)


def find_lost(conn: Connection, size: int, most: int) -> list[int]:
    """Return the indexes below `size` that were logged and that the database has lost, at most `most`."""
    return list(conn.scalars(text(_LOST), {"size": size, "most": most}))


def read_readings(conn: Connection, stn: str, size: int, envelopes: Range) -> Iterator[Row[Any]]:
    """Yield the stored readings of the bundle's envelopes, by idx, time and channel: the projection, as it
    is.
    """
    numbers = conn.execute(text(_NUMBERS), {"stn": stn, "size": size, **_bounds(envelopes)}).all()
    for start in range(0, len(numbers), ENVELOPES_AT_ONCE):
        some = numbers[start : start + ENVELOPES_AT_ONCE]
        given = {
            "stn": stn,
            "numbers": [row.envelope_no for row in some],
            "first_at": min(row.first_at for row in some),
            "last_at": max(row.last_at for row in some),
        }
        yield from conn.execute(text(_READINGS), given)


def read_flags(conn: Connection, stn: str, size: int) -> list[Row[Any]]:
    """Return the station's flags below log index `size`, by idx."""
    query = (
        "SELECT e.idx, f.flag_id, f.detector, f.kind, f.verdict, f.from_at, f.to_at, f.channels, "
        "f.text_en, f.text_zh FROM flag f JOIN log_entry e ON e.kind = 2 AND e.entry_id = f.event_id "
        "WHERE f.stn = :stn AND e.idx < :size ORDER BY e.idx"
    )
    return list(conn.execute(text(query), {"stn": stn, "size": size}))


def read_reviews(conn: Connection, stn: str, size: int) -> list[Row[Any]]:
    """Return the reviews of the station's flags below log index `size`, by idx, with reason and salt."""
    query = (
        "SELECT e.idx, r.review_id, r.flag_id, r.decision, r.account_id, r.reason, r.salt, r.event_id "
        "FROM review r JOIN event w USING (event_id) "
        "JOIN log_entry e ON e.kind = 2 AND e.entry_id = r.event_id "
        "WHERE w.subj = 'station:' || :stn AND e.idx < :size ORDER BY e.idx"
    )
    return list(conn.execute(text(query), {"stn": stn, "size": size}))


def _bounds(envelopes: Range | None) -> dict[str, int]:
    if envelopes is None:
        return NO_ENVELOPES
    (ep_a, seq_a), (ep_b, seq_b) = envelopes.first, envelopes.last
    return {"ep_a": ep_a, "seq_a": seq_a, "ep_b": ep_b, "seq_b": seq_b}


def _export(row: Row[Any]) -> Export:
    digest = None if row.manifest_sha256 is None else bytes(row.manifest_sha256)
    return Export(**{**row._mapping, "manifest_sha256": digest})
