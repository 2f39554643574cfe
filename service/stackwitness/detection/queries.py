"""SQL of detection: readings as arrays' raw material, and the detectors' memory of each station."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from emdi.event import parse_event
from stackwitness.db.timescale import bucket

HOUR_S = 3600


@dataclass(frozen=True)
class Progress:
    """Say how far a station is judged (`upto`, None = nothing yet) and where its last full hour ends."""

    stn: str
    upto: datetime | None
    closed: datetime


@dataclass(frozen=True)
class Memory:
    """Hold the detectors' memory of a station."""

    upto: datetime
    state: bytes


@dataclass(frozen=True)
class Series:
    """Hold one channel's readings: times as Unix ms, value (None = missing) and status letter, by time."""

    name: str
    at_ms: Sequence[int]
    values: Sequence[float | None]
    status: str


@dataclass(frozen=True)
class InputRange:
    """Name the envelopes that cover an interval (of the latest epoch among them)."""

    ep: int
    seq_first: int
    seq_last: int


def _closed(column: str) -> str:
    return bucket(HOUR_S, column)


def find_progress(conn: Connection, stn: str) -> Progress | None:
    """Return how far a station is judged and how far it could be; None without readings."""
    query = text(
        f"SELECT h.stn, d.upto, {_closed('h.last_at')} AS closed FROM station_head h"
        " LEFT JOIN detection_state d USING (stn) WHERE h.stn = :stn"
    )
    row = conn.execute(query, {"stn": stn}).one_or_none()
    return None if row is None else Progress(row.stn, row.upto, row.closed)


def list_progress(conn: Connection) -> list[Progress]:
    """Return every station's progress, by id."""
    query = text(
        f"SELECT h.stn, d.upto, {_closed('h.last_at')} AS closed FROM station_head h"
        " LEFT JOIN detection_state d USING (stn) ORDER BY h.stn"
    )
    return [Progress(row.stn, row.upto, row.closed) for row in conn.execute(query)]


def first_reading_at(conn: Connection, stn: str) -> datetime | None:
    """Return the time of a station's earliest reading."""
    at: datetime | None = conn.scalar(
        text("SELECT min(first_at) FROM envelope WHERE stn = :stn"), {"stn": stn}
    )
    return at


def next_reading_at(conn: Connection, stn: str, at: datetime) -> datetime | None:
    """Return where readings go on at or after a time, so that years without any are stepped over.

    It is a lower bound: the earliest reading of the first envelope that reaches beyond `at`.
    """
    found: datetime | None = conn.scalar(
        text("SELECT min(first_at) FROM envelope WHERE stn = :stn AND last_at >= :at"), {"stn": stn, "at": at}
    )
    return found


def find_memory(conn: Connection, stn: str) -> Memory | None:
    """Return the detectors' memory of a station."""
    row = conn.execute(
        text("SELECT upto, state FROM detection_state WHERE stn = :stn"), {"stn": stn}
    ).one_or_none()
    return None if row is None else Memory(row.upto, bytes(row.state))


def load_series(conn: Connection, stn: str, from_at: datetime, to_at: datetime) -> list[Series]:
    """Return the readings of [from_at, to_at) per channel, by time; of several the first seen.

    A value sent again later is a claim about the past: it never replaces what was reported.
    """
    query = text(
        "SELECT c.name, array_agg(r.ms ORDER BY r.ms) AS at_ms, array_agg(r.value ORDER BY r.ms) AS values,"
        " string_agg(r.status::text, '' ORDER BY r.ms) AS status"
        " FROM channel c JOIN LATERAL ("
        "   SELECT DISTINCT ON (at) (extract(epoch FROM at) * 1000)::bigint AS ms, value, status"
        "   FROM reading WHERE channel_no = c.channel_no AND at >= :from_at AND at < :to_at"
        "   ORDER BY at, envelope_no) r ON true"
        " WHERE c.stn = :stn GROUP BY c.channel_no, c.name ORDER BY c.channel_no"
    )
    rows = conn.execute(query, {"stn": stn, "from_at": from_at, "to_at": to_at})
    return [Series(row.name, row.at_ms, row.values, row.status) for row in rows]


def find_input(conn: Connection, stn: str, from_at: datetime, to_at: datetime) -> InputRange | None:
    """Return which envelopes hold the readings of an interval."""
    query = text(
        "SELECT ep, min(seq) AS seq_first, max(seq) AS seq_last FROM envelope"
        " WHERE stn = :stn AND first_at <= :to_at AND last_at >= :from_at"
        " GROUP BY ep ORDER BY ep DESC LIMIT 1"
    )
    row = conn.execute(query, {"stn": stn, "from_at": from_at, "to_at": to_at}).one_or_none()
    return None if row is None else InputRange(row.ep, row.seq_first, row.seq_last)


def save_memory(
    conn: Connection, stn: str, *, before: datetime | None, upto: datetime, state: bytes, state_hash: bytes
) -> bool:
    """Move a station's memory on from `before` (None = none yet); False when another scan has done so."""
    given: dict[str, Any] = {
        "stn": stn,
        "before": before,
        "upto": upto,
        "state": state,
        "state_hash": state_hash,
    }
    if before is None:
        query = (
            "INSERT INTO detection_state (stn, upto, state, state_hash)"
            " VALUES (:stn, :upto, :state, :state_hash)"
            " ON CONFLICT (stn) DO NOTHING"
        )
    else:
        query = (
            "UPDATE detection_state SET upto = :upto, state = :state, state_hash = :state_hash"
            " WHERE stn = :stn AND upto = :before"
        )
    return conn.execute(text(query), given).rowcount == 1


def config_logged(conn: Connection, subject: str, config_hash: str) -> bool:
    """Tell whether this configuration of the detectors stands in the log."""
    rows = conn.execute(
        text("SELECT jws FROM event WHERE subj = :subj ORDER BY sseq DESC"), {"subj": subject}
    )
    return any(parse_event(bytes(row.jws)).data.get("config_hash") == config_hash for row in rows)
