"""SQL of flags and their extensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from stackwitness.flags.domain import Cursor, Extension, Flag, FlagState, Lapse
from stackwitness_detectors.config import DEFAULT
from stackwitness_detectors.verdicts import verdict_at


@dataclass(frozen=True)
class Evidence:
    """The newest event of a flag, and its plot where that holds what a model expects."""

    event_id: bytes
    jws: bytes
    plot: str | None


# "Latest" is by the log's own order (sseq), not by a clock.
_FLAG = """
    SELECT f.flag_id, f.stn, f.detector, f.detector_version, f.kind, f.verdict, f.from_at,
           coalesce(x.to_at, f.to_at) AS to_at, f.channels, coalesce(x.e_value, f.e_value) AS e_value,
           f.episode, coalesce(x.text_en, f.text_en) AS text_en, coalesce(x.text_zh, f.text_zh) AS text_zh,
           f.raised_at, f.event_id, r.decision, r.decided_at, l.lapsed_at, l.lapse_id, l.run_id
    FROM flag f
    LEFT JOIN LATERAL (
        SELECT e.to_at, e.e_value, e.text_en, e.text_zh, v.sseq FROM flag_extension e JOIN event v USING (event_id)
        WHERE e.flag_id = f.flag_id ORDER BY v.sseq DESC LIMIT 1) x ON true
    LEFT JOIN LATERAL (
        SELECT w.decision, w.decided_at FROM review w JOIN event v USING (event_id)
        WHERE w.flag_id = f.flag_id ORDER BY v.sseq DESC LIMIT 1) r ON true
    LEFT JOIN LATERAL (
        SELECT g.lapsed_at, g.event_id AS lapse_id, (
            SELECT n.event_id FROM event n WHERE n.subj = v.subj AND n.sseq > v.sseq AND n.typ = 'detector.run'
            ORDER BY n.sseq LIMIT 1) AS run_id
        FROM flag_lapse g JOIN event v USING (event_id)
        WHERE g.flag_id = f.flag_id AND v.sseq > coalesce(x.sseq, -1) ORDER BY v.sseq DESC LIMIT 1) l ON true
"""

_BRIEF = _FLAG.replace("coalesce(x.text_en, f.text_en)", "''").replace("coalesce(x.text_zh, f.text_zh)", "''")


def find_flag(conn: Connection, flag_id: str) -> Flag | None:
    """Return a flag as it stands now."""
    row = conn.execute(text(_FLAG + " WHERE f.flag_id = :flag_id"), {"flag_id": flag_id}).one_or_none()
    return None if row is None else _flag(row)


def find_episode(conn: Connection, stn: str, episode: str) -> Flag | None:
    """Return the flag that was raised for an episode."""
    query = text(_FLAG + " WHERE f.stn = :stn AND f.episode = :episode")
    row = conn.execute(query, {"stn": stn, "episode": episode}).one_or_none()
    return None if row is None else _flag(row)


def list_flags(
    conn: Connection,
    *,
    stn: str | None = None,
    state: FlagState | None = None,
    after: Cursor | None = None,
    limit: int = 100,
) -> list[Flag]:
    """Return flags, newest first, at most `limit`, behind `after`."""
    query = text(
        _FLAG
        + """
    WHERE (CAST(:stn AS text) IS NULL OR f.stn = :stn)
      AND (CAST(:state AS text) IS NULL OR (r.decision IS NULL) = (:state = 'open'))
      AND (CAST(:raised_at AS timestamptz) IS NULL OR (f.raised_at, f.flag_id) < (:raised_at, :flag_id))
    ORDER BY f.raised_at DESC, f.flag_id DESC LIMIT :limit"""
    )
    given = {
        "stn": stn,
        "state": state,
        "raised_at": after.raised_at if after else None,
        "flag_id": after.flag_id if after else "",
        "limit": limit,
    }
    return [_flag(row) for row in conn.execute(query, given)]


def list_brief(conn: Connection, stns: Sequence[str]) -> list[Flag]:
    """Return every flag of some stations, in the order they were raised, their texts left empty."""
    query = text(_BRIEF + " WHERE f.stn = ANY(CAST(:stns AS text[])) ORDER BY f.raised_at, f.flag_id")
    return [_flag(row) for row in conn.execute(query, {"stns": list(stns)})]


def list_standing(conn: Connection) -> list[Flag]:
    """Return every open flag that has not lapsed, in the order they were raised, their texts left empty."""
    query = text(_BRIEF + " WHERE r.decision IS NULL AND l.lapsed_at IS NULL ORDER BY f.raised_at, f.flag_id")
    return [_flag(row) for row in conn.execute(query)]


def count_told(conn: Connection, stns: Sequence[str]) -> Mapping[str, tuple[int, int]]:
    """Count each station's flags and their extensions: rows are only ever added, so equal counts are an equal list."""
    query = text(
        "SELECT f.stn, count(DISTINCT f.flag_id) AS flags, count(e.event_id) AS extensions"
        " FROM flag f LEFT JOIN flag_extension e USING (flag_id)"
        " WHERE f.stn = ANY(CAST(:stns AS text[])) GROUP BY f.stn"
    )
    rows = conn.execute(query, {"stns": list(stns)})
    return {row.stn: (row.flags, row.extensions) for row in rows}


def list_newest_events(conn: Connection, flag_ids: Sequence[str]) -> Mapping[str, bytes]:
    """Return the id of the newest event (raised or extended) of each of these flags."""
    query = text(
        "SELECT f.flag_id, coalesce((SELECT e.event_id FROM flag_extension e JOIN event v USING (event_id)"
        " WHERE e.flag_id = f.flag_id ORDER BY v.sseq DESC LIMIT 1), f.event_id) AS event_id"
        " FROM flag f WHERE f.flag_id = ANY(CAST(:flag_ids AS text[]))"
    )
    rows = conn.execute(query, {"flag_ids": list(flag_ids)})
    return {row.flag_id: bytes(row.event_id) for row in rows}


def list_evidence(conn: Connection, event_ids: Sequence[bytes]) -> list[Evidence]:
    """Return these events of flags; plots without a band stay in the database."""
    query = text(
        "SELECT v.event_id, v.jws, CASE WHEN n.plot LIKE '%\"band\"%' THEN n.plot END AS plot FROM event v JOIN ("
        " SELECT event_id, plot FROM flag WHERE event_id = ANY(CAST(:event_ids AS bytea[]))"
        " UNION ALL SELECT event_id, plot FROM flag_extension WHERE event_id = ANY(CAST(:event_ids AS bytea[]))"
        ") n USING (event_id)"
    )
    rows = conn.execute(query, {"event_ids": list(event_ids)})
    return [Evidence(bytes(row.event_id), bytes(row.jws), row.plot) for row in rows]


def count_flags(conn: Connection, stn: str | None = None) -> Mapping[str, int]:
    """Count flags by state: {"open": n, "decided": n}."""
    query = text(
        "SELECT count(*) FILTER (WHERE r.flag_id IS NULL) AS open,"
        " count(*) FILTER (WHERE r.flag_id IS NOT NULL) AS decided"
        " FROM flag f LEFT JOIN (SELECT DISTINCT flag_id FROM review) r USING (flag_id)"
        " WHERE CAST(:stn AS text) IS NULL OR f.stn = :stn"
    )
    row = conn.execute(query, {"stn": stn}).one()
    return {"open": row.open, "decided": row.decided}


def find_plot(conn: Connection, flag_id: str) -> str | None:
    """Return the JSON text of a flag's newest plot."""
    query = text(
        "SELECT coalesce((SELECT e.plot FROM flag_extension e JOIN event v USING (event_id)"
        " WHERE e.flag_id = f.flag_id ORDER BY v.sseq DESC LIMIT 1), f.plot)"
        " FROM flag f WHERE f.flag_id = :flag_id"
    )
    plot: str | None = conn.scalar(query, {"flag_id": flag_id})
    return plot


def list_extensions(conn: Connection, flag_id: str) -> list[Extension]:
    """Return the extensions of a flag in the order they were logged."""
    query = text(
        "SELECT e.event_id, e.to_at, e.e_value FROM flag_extension e JOIN event v USING (event_id)"
        " WHERE e.flag_id = :flag_id ORDER BY v.sseq"
    )
    rows = conn.execute(query, {"flag_id": flag_id})
    return [Extension(bytes(row.event_id), row.to_at, row.e_value) for row in rows]


def find_event(conn: Connection, event_id: bytes) -> bytes | None:
    """Return the JWS of an event."""
    jws = conn.scalar(text("SELECT jws FROM event WHERE event_id = :event_id"), {"event_id": event_id})
    return None if jws is None else bytes(jws)


def insert_flag(conn: Connection, row: Mapping[str, Any]) -> None:
    """Store a flag."""
    conn.execute(
        text(
            "INSERT INTO flag (flag_id, stn, detector, detector_version, kind, verdict, from_at, to_at,"
            " channels, e_value, episode, text_en, text_zh, plot, raised_at, event_id)"
            " VALUES (:flag_id, :stn, :detector, :detector_version, :kind, :verdict, :from_at, :to_at,"
            " :channels, :e_value, :episode, :text_en, :text_zh, :plot, :raised_at, :event_id)"
        ),
        row,
    )


def insert_extension(conn: Connection, row: Mapping[str, Any]) -> None:
    """Store an extension of a flag."""
    conn.execute(
        text(
            "INSERT INTO flag_extension (event_id, flag_id, to_at, e_value, text_en, text_zh, plot)"
            " VALUES (:event_id, :flag_id, :to_at, :e_value, :text_en, :text_zh, :plot)"
        ),
        row,
    )


def insert_lapse(conn: Connection, row: Mapping[str, Any]) -> None:
    """Store that a flag has lapsed."""
    query = "INSERT INTO flag_lapse (event_id, flag_id, to_at, lapsed_at) VALUES (:event_id, :flag_id, :to_at, :lapsed_at)"
    conn.execute(text(query), row)


def _flag(row: Row[Any]) -> Flag:
    given = dict(row._mapping)
    lapsed_at, lapse_id, run_id = (given.pop(name) for name in ("lapsed_at", "lapse_id", "run_id"))
    if lapse_id is not None:
        given["lapse"] = Lapse(lapsed_at, bytes(lapse_id), None if run_id is None else bytes(run_id))
    given["channels"], given["event_id"] = tuple(given["channels"]), bytes(given["event_id"])
    # The row keeps the words of the day it was raised; an episode that grew is worded by what it has become.
    given["verdict_signed"] = given["verdict"]
    given["verdict"] = verdict_at(given["verdict"], given["e_value"], DEFAULT)
    return Flag(**given)
