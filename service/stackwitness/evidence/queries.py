"""SQL of exports: requests, how far they got, what was sealed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from stackwitness.evidence.domain import Export, ExportState

_EXPORTS = """
    (SELECT q.export_id, q.stns, q.from_at, q.to_at, q.first_idx, q.end_idx, coalesce(w.why, '') AS purpose, q.account_id, q.redacted,
            q.state, q.error, q.requested_at, q.entries_done, q.entries_of, x.manifest_sha256, false AS frozen
     FROM export_request q LEFT JOIN export x USING (export_id) LEFT JOIN explanation w ON w.event_id = q.event_id
     UNION ALL
     SELECT export_id, stns, from_at, to_at, first_idx, end_idx, purpose, account_id, redacted,
            state, error, requested_at, entries_done, entries_of, manifest_sha256, true FROM frozen_export) q
"""
_ASKED = (
    *("export_id", "stns", "from_at", "to_at", "first_idx", "end_idx"),
    *("purpose", "account_id", "redacted", "requested_at"),
)
_PLACES = ("export_request", "frozen_export")


def insert_request(conn: Connection, export: Export, event_ids: Sequence[bytes]) -> None:
    """Store a request, queued, with the event on each station's chain."""
    conn.execute(
        text(
            "INSERT INTO export_request (export_id, stn, stns, from_at, to_at, first_idx, end_idx, event_id, "
            "account_id, redacted, requested_at) VALUES (:export_id, :stn, :stns, :from_at, :to_at, :first_idx, "
            ":end_idx, :event_id, :account_id, :redacted, :requested_at)"
        ),
        {
            "export_id": export.export_id,
            "stn": export.stn,
            "stns": list(export.stns),
            "from_at": export.from_at,
            "to_at": export.to_at,
            "first_idx": export.first_idx,
            "end_idx": export.end_idx,
            "event_id": event_ids[0],
            "account_id": export.account_id,
            "redacted": export.redacted,
            "requested_at": export.requested_at,
        },
    )
    conn.execute(
        text("INSERT INTO export_station (export_id, stn, event_id) VALUES (:export_id, :stn, :event_id)"),
        [
            {"export_id": export.export_id, "stn": stn, "event_id": event_id}
            for stn, event_id in zip(export.stns, event_ids, strict=True)
        ],
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


def find_stations(conn: Connection, stns: Sequence[str]) -> list[str]:
    """Return those of the stations that there are (and that this transaction may see), sorted bytewise."""
    query = 'SELECT stn FROM station WHERE stn = ANY(:stns) ORDER BY stn COLLATE "C"'
    return list(conn.scalars(text(query), {"stns": list(stns)}))


def find_stations_of(conn: Connection, agency: str) -> list[str]:
    """Return the stations of an agency, sorted bytewise."""
    query = 'SELECT stn FROM station WHERE agency = :agency ORDER BY stn COLLATE "C"'
    return list(conn.scalars(text(query), {"agency": agency}))


def find_export(conn: Connection, export_id: str) -> Export | None:
    """Return an export."""
    query = f"SELECT * FROM {_EXPORTS} WHERE export_id = :export_id"
    row = conn.execute(text(query), {"export_id": export_id}).one_or_none()
    return None if row is None else _export(row)


def list_exports(conn: Connection, stn: str | None, limit: int) -> list[Export]:
    """Return the exports of a station, or of all, newest first."""
    query = (
        f"SELECT * FROM {_EXPORTS} WHERE CAST(:stn AS text) IS NULL OR :stn = ANY(stns) "
        "ORDER BY requested_at DESC, export_id LIMIT :limit"
    )
    return [_export(row) for row in conn.execute(text(query), {"stn": stn, "limit": limit})]


def set_state(conn: Connection, export_id: str, state: ExportState, error: str | None = None) -> None:
    """Note how far an export got."""
    _update(conn, export_id, "state = :state, error = :error", state=state, error=error)


def set_progress(conn: Connection, export_id: str, done: int, of: int) -> None:
    """Note how many entries are written, of how many."""
    _update(conn, export_id, "entries_done = :done, entries_of = :of", done=done, of=of)


def insert_frozen(conn: Connection, export: Export) -> None:
    """Store a request to a frozen log; the same again changes nothing, but where the row says something else by now."""
    columns = {name: getattr(export, name) for name in _ASKED}
    said = [name for name in _ASKED if name not in ("export_id", "requested_at")]
    conn.execute(
        text(
            f"INSERT INTO frozen_export AS kept ({', '.join(_ASKED)}) VALUES ({', '.join(f':{name}' for name in _ASKED)}) "
            f"ON CONFLICT (export_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in said)}, "
            "state = 'queued', error = NULL, manifest_sha256 = NULL, checkpoint = NULL "
            f"WHERE ({', '.join(f'kept.{name}' for name in said)}) "
            f"IS DISTINCT FROM ({', '.join(f'excluded.{name}' for name in said)})"
        ),
        {**columns, "stns": list(export.stns)},
    )


def queue_frozen(conn: Connection, export_id: str) -> None:
    """Note that an export of a frozen log is to be built (again)."""
    query = "UPDATE frozen_export SET state = 'queued', error = NULL WHERE export_id = :export_id"
    conn.execute(text(query), {"export_id": export_id})


def is_kept(conn: Connection, export_id: str) -> bool:
    """Tell whether a bundle of a frozen log was made with a checkpoint that is kept."""
    query = (
        "SELECT EXISTS (SELECT FROM frozen_export WHERE export_id = :export_id AND checkpoint IS NOT NULL)"
    )
    return bool(conn.scalar(text(query), {"export_id": export_id}))


def list_kept_checkpoints(conn: Connection) -> list[bytes]:
    """Return the signed checkpoints that bundles of a frozen log were made with, the first one's first."""
    query = (
        "SELECT checkpoint FROM frozen_export WHERE checkpoint IS NOT NULL GROUP BY 1"
        " ORDER BY min(requested_at), min(export_id)"
    )
    return [bytes(note) for note in conn.scalars(text(query))]


def set_bundled(conn: Connection, export_id: str, manifest_sha256: bytes, checkpoint: bytes | None) -> None:
    """Note what a bundle of a frozen log holds, and the checkpoint it is to keep when it is made again."""
    query = (
        "UPDATE frozen_export SET manifest_sha256 = :digest, checkpoint = :note WHERE export_id = :export_id"
    )
    conn.execute(text(query), {"digest": manifest_sha256, "note": checkpoint, "export_id": export_id})


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


def find_newest_key(conn: Connection) -> bytes | None:
    """Return the id of the event by which the service's key changed last."""
    query = (
        "SELECT event_id FROM service_key k"
        " WHERE NOT EXISTS (SELECT FROM service_key n WHERE n.old_kid = k.kid)"
    )
    event_id = conn.scalar(text(query))
    return None if event_id is None else bytes(event_id)


def find_sealed_event(conn: Connection, export_id: str) -> tuple[bytes, bytes] | None:
    """Return (event_id, JWS) of an export's event, once it is sealed."""
    query = (
        "SELECT w.event_id, w.jws FROM export x JOIN event w USING (event_id) WHERE x.export_id = :export_id"
    )
    row = conn.execute(text(query), {"export_id": export_id}).one_or_none()
    return None if row is None else (bytes(row.event_id), bytes(row.jws))


def _update(conn: Connection, export_id: str, assignments: str, **given: object) -> None:
    for place in _PLACES:
        query = f"UPDATE {place} SET {assignments} WHERE export_id = :export_id"
        conn.execute(text(query), {**given, "export_id": export_id})


def _export(row: Row[Any]) -> Export:
    digest = None if row.manifest_sha256 is None else bytes(row.manifest_sha256)
    return Export(**{**row._mapping, "stns": tuple(row.stns), "manifest_sha256": digest})
