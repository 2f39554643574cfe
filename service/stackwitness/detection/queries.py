"""SQL of detection: readings as arrays' raw material, and the detectors' memory of each station."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from emdi.event import Event, parse_event
from stackwitness.db.timescale import bucket
from stackwitness.detection.domain import Judgement, Unjudged

HOUR_S = 3600


@dataclass(frozen=True)
class Progress:
    """Say how far a station is judged (`upto`, None = nothing yet), where its last full hour ends, and its last
    envelope (ep, seq).
    """

    stn: str
    upto: datetime | None
    closed: datetime
    head: tuple[int, int]


@dataclass(frozen=True)
class Memory:
    """Hold the detectors' memory of a station, and the last envelope that was looked at for late readings.

    `late_from` is the earliest late reading that no run has gone back to (None = none), `stepped_at` when one last
    did, `former` how far judging had been then, until it is there again.
    """

    upto: datetime
    state: bytes
    looked: tuple[int, int]
    late_from: datetime | None
    stepped_at: datetime | None
    former: datetime | None


@dataclass(frozen=True)
class Series:
    """Hold one channel's readings: times as Unix ms, value (None = missing) and status letter, by time."""

    name: str
    at_ms: Sequence[int]
    values: Sequence[float | None]
    status: str


@dataclass(frozen=True)
class Late:
    """Name envelopes of one epoch that brought readings of a time already judged: first, last, how many."""

    ep: int
    seq: int
    seq_last: int
    envelopes: int
    first_at: datetime


@dataclass(frozen=True)
class InputRange:
    """Name the envelopes that cover an interval (of the latest epoch among them)."""

    ep: int
    seq_first: int
    seq_last: int


@dataclass(frozen=True)
class Gap:
    """Hold a loss that a station admits: seq_first..seq_last of an epoch; `from_ms`, `to_ms` the readings around."""

    ep: int
    seq_first: int
    seq_last: int
    why: str
    from_ms: int
    to_ms: int


def list_unflagged_gaps(conn: Connection, stn: str) -> list[Gap]:
    """Return the losses a station admits for which no flag was raised, by place in the chain."""
    query = text(
        "SELECT g.ep, g.seq_first, g.seq_last, g.why,"
        " (extract(epoch FROM coalesce(p.last_at, v.first_at)) * 1000)::bigint AS from_ms,"
        " (extract(epoch FROM v.first_at) * 1000)::bigint AS to_ms"
        " FROM gap g JOIN envelope v ON v.env_id = g.env_id"
        " LEFT JOIN envelope p ON (p.stn, p.ep, p.seq) = (g.stn, g.ep, g.seq_first - 1)"
        " WHERE g.stn = :stn AND NOT EXISTS (SELECT FROM flag f WHERE f.stn = g.stn"
        "  AND f.episode = 'gap-' || g.ep || '-' || g.seq_first)"
        " ORDER BY g.ep, g.seq_first"
    )
    return [
        Gap(row.ep, row.seq_first, row.seq_last, row.why, row.from_ms, row.to_ms)
        for row in conn.execute(query, {"stn": stn})
    ]


def _closed(column: str) -> str:
    return bucket(HOUR_S, column)


def find_progress(conn: Connection, stn: str) -> Progress | None:
    """Return how far a station is judged and how far it could be; None without readings."""
    query = text(
        f"SELECT h.stn, d.upto, {_closed('h.last_at')} AS closed, h.ep, h.seq FROM station_head h"
        " LEFT JOIN detection_state d USING (stn) WHERE h.stn = :stn"
    )
    row = conn.execute(query, {"stn": stn}).one_or_none()
    return None if row is None else _progress(row)


def list_progress(conn: Connection) -> list[Progress]:
    """Return every station's progress, by id."""
    query = text(
        f"SELECT h.stn, d.upto, {_closed('h.last_at')} AS closed, h.ep, h.seq FROM station_head h"
        " LEFT JOIN detection_state d USING (stn) ORDER BY h.stn"
    )
    return [_progress(row) for row in conn.execute(query)]


def _progress(row: Row[Any]) -> Progress:
    return Progress(row.stn, row.upto, row.closed, (row.ep, row.seq))


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
    query = "SELECT upto, state, ep, seq, late_from, stepped_at, former FROM detection_state WHERE stn = :stn"
    row = conn.execute(text(query), {"stn": stn}).one_or_none()
    if row is None:
        return None
    return Memory(row.upto, bytes(row.state), (row.ep, row.seq), row.late_from, row.stepped_at, row.former)


def list_kept(conn: Connection, stn: str, at: datetime) -> Iterator[tuple[datetime, bytes]]:
    """Yield (upto, state) of the memories kept that end at or before a time, newest first."""
    query = "SELECT upto, state FROM detection_kept WHERE stn = :stn AND upto <= :at ORDER BY upto DESC"
    for row in conn.execute(text(query), {"stn": stn, "at": at}):
        yield row.upto, bytes(row.state)


def save_kept(
    conn: Connection, stn: str, start: datetime, upto: datetime, until: datetime | None, state: bytes
) -> None:
    """Drop the memories behind `start`, which are judged anew, and those not needed from `upto` on; keep this one."""
    given = {"stn": stn, "start": start, "upto": upto, "until": until, "state": state}
    gone = "DELETE FROM detection_kept WHERE stn = :stn AND (upto > :start OR until <= :upto)"
    conn.execute(text(gone), given)
    if until is not None:
        new = "INSERT INTO detection_kept (stn, upto, until, state) VALUES (:stn, :upto, :until, :state)"
        conn.execute(text(new), given)


def list_events(conn: Connection, subject: str, types: Sequence[str]) -> list[Event]:
    """Return the events of a subject of some types, in the order of its chain."""
    query = "SELECT jws FROM event WHERE subj = :subj AND typ = ANY(:types) ORDER BY sseq"
    rows = conn.execute(text(query), {"subj": subject, "types": list(types)})
    return [parse_event(bytes(row.jws)) for row in rows]


def lock_station(conn: Connection, stn: str) -> None:
    """Keep envelopes of a station out until the transaction ends; ingest takes the same lock."""
    conn.execute(text("SELECT lock_stations(ARRAY[:stn])"), {"stn": stn})


def find_run(conn: Connection, subject: str) -> dict[str, Any] | None:
    """Return what the last run of the detectors over a station said, as it stands in the log."""
    query = "SELECT jws FROM event WHERE subj = :subj AND typ = 'detector.run' ORDER BY sseq DESC LIMIT 1"
    jws = conn.scalar(text(query), {"subj": subject})
    return None if jws is None else parse_event(bytes(jws)).data


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
        " WHERE stn = :stn AND last_at >= :from_at AND first_at <= :to_at"
        " GROUP BY ep ORDER BY ep DESC LIMIT 1"
    )
    row = conn.execute(query, {"stn": stn, "from_at": from_at, "to_at": to_at}).one_or_none()
    return None if row is None else InputRange(row.ep, row.seq_first, row.seq_last)


def find_covering(
    conn: Connection, stn: str, from_at: datetime, upto: datetime
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return first and last (ep, seq) of the envelopes whose readings reach into [from_at, upto)."""
    query = text(
        "SELECT min(ARRAY[ep, seq]) AS first, max(ARRAY[ep, seq]) AS last FROM envelope"
        " WHERE stn = :stn AND last_at >= :from_at AND first_at < :upto"
    )
    row = conn.execute(query, {"stn": stn, "from_at": from_at, "upto": upto}).one()
    return None if row.first is None else ((row.first[0], row.first[1]), (row.last[0], row.last[1]))


def came_since(conn: Connection, stn: str, head: tuple[int, int], from_at: datetime, upto: datetime) -> bool:
    """Tell whether envelopes behind `head` brought readings of [from_at, upto)."""
    query = (
        "SELECT EXISTS (SELECT FROM envelope WHERE stn = :stn AND (ep, seq) > (:ep, :seq)"
        " AND last_at >= :from_at AND first_at < :upto)"
    )
    given = {"stn": stn, "ep": head[0], "seq": head[1], "from_at": from_at, "upto": upto}
    return bool(conn.scalar(text(query), given))


def list_late(conn: Connection, stn: str, looked: tuple[int, int], cursor: datetime) -> list[Late]:
    """Return the envelopes behind `looked` that brought readings before `cursor`, by epoch."""
    query = text(
        "SELECT ep, min(seq) AS seq, max(seq) AS seq_last, count(*) AS envelopes, min(first_at) AS first_at"
        " FROM envelope WHERE stn = :stn AND (ep, seq) > (:ep, :seq) AND first_at < :cursor"
        " GROUP BY ep ORDER BY ep"
    )
    rows = conn.execute(query, {"stn": stn, "ep": looked[0], "seq": looked[1], "cursor": cursor})
    return [Late(row.ep, row.seq, row.seq_last, row.envelopes, row.first_at) for row in rows]


def list_stations_with_late(conn: Connection) -> list[str]:
    """Return the stations with late readings that no event names yet, or that no run has gone back to."""
    query = (
        "SELECT stn FROM detection_state d WHERE d.late_from IS NOT NULL OR EXISTS (SELECT FROM envelope v"
        " WHERE v.stn = d.stn AND (v.ep, v.seq) > (d.ep, d.seq) AND v.first_at < d.upto) ORDER BY stn"
    )
    return list(conn.scalars(text(query)))


def note_looked(conn: Connection, stn: str, looked: tuple[int, int], late_from: datetime | None) -> None:
    """Remember the last envelope that was looked at for late readings, and the earliest that waits to be judged."""
    conn.execute(
        text(
            "UPDATE detection_state SET ep = :ep, seq = :seq, late_from = least(late_from, :late_from)"
            " WHERE stn = :stn"
        ),
        {"stn": stn, "ep": looked[0], "seq": looked[1], "late_from": late_from},
    )


def note_step(conn: Connection, stn: str, stepped_at: datetime, former: datetime, upto: datetime) -> None:
    """Remember that a run up to `upto` went back to what came late, when, and how far judging had been."""
    query = (
        "UPDATE detection_state SET stepped_at = :stepped_at,"
        " former = CASE WHEN greatest(former, :former) > :upto THEN greatest(former, :former) END WHERE stn = :stn"
    )
    given = {"stn": stn, "stepped_at": stepped_at, "former": former, "upto": upto}
    conn.execute(text(query), given)


def save_memory(
    conn: Connection,
    stn: str,
    *,
    before: datetime | None,
    upto: datetime,
    state: bytes,
    state_hash: bytes,
    looked: tuple[int, int],
    stepped: bool = False,
) -> bool:
    """Move a station's memory on from `before` (None = none yet); False when another scan has done so.

    `stepped`: what came late is judged now, nothing waits.
    """
    given: dict[str, Any] = {
        "stn": stn,
        "before": before,
        "upto": upto,
        "state": state,
        "state_hash": state_hash,
        "ep": looked[0],
        "seq": looked[1],
        "stepped": stepped,
    }
    if before is None:
        query = (
            "INSERT INTO detection_state (stn, upto, state, state_hash, ep, seq)"
            " VALUES (:stn, :upto, :state, :state_hash, :ep, :seq)"
            " ON CONFLICT (stn) DO NOTHING"
        )
    else:
        query = (
            "UPDATE detection_state SET upto = :upto, state = :state, state_hash = :state_hash,"
            " ep = :ep, seq = :seq, former = CASE WHEN former > :upto THEN former END,"
            " late_from = CASE WHEN :stepped THEN NULL ELSE late_from END"
            " WHERE stn = :stn AND upto = :before"
        )
    return conn.execute(text(query), given).rowcount == 1


def save_judgement(
    conn: Connection, stn: str, upto: datetime, state_hash: bytes, notes: Sequence[Unjudged]
) -> None:
    """Replace what is said about what cannot be judged at a station."""
    query = (
        "INSERT INTO judgement (stn, upto, state_hash, notes) VALUES (:stn, :upto, :state_hash, CAST(:notes AS jsonb))"
        " ON CONFLICT (stn) DO UPDATE SET upto = excluded.upto, state_hash = excluded.state_hash,"
        " notes = excluded.notes"
    )
    given = {
        "stn": stn,
        "upto": upto,
        "state_hash": state_hash,
        "notes": json.dumps([asdict(one) for one in notes]),
    }
    conn.execute(text(query), given)


def find_judgement(conn: Connection, stn: str) -> Judgement | None:
    """Return what the last run said about what it could not judge; None before the first."""
    row = conn.execute(text("SELECT upto, notes FROM judgement WHERE stn = :stn"), {"stn": stn}).one_or_none()
    if row is None:
        return None
    return Judgement(row.upto, tuple(map(Unjudged.read, row.notes)))


def config_logged(conn: Connection, subject: str, config_hash: str) -> bool:
    """Tell whether this configuration of the detectors stands in the log."""
    rows = conn.execute(
        text("SELECT jws FROM event WHERE subj = :subj ORDER BY sseq DESC"), {"subj": subject}
    )
    return any(parse_event(bytes(row.jws)).data.get("config_hash") == config_hash for row in rows)


def read_leaves(conn: Connection, stn: str) -> Iterator[Row[Any]]:
    """Yield idx (None while it waits), kind and body of a station's envelopes and events and of the detectors'
    configurations, in the order of the log.
    """
    query = text(
        "SELECT e.idx, 1 AS kind, v.jws AS body, p.qid FROM envelope v"
        " LEFT JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id"
        " LEFT JOIN log_pending p ON p.kind = 1 AND p.entry_id = v.env_id WHERE v.stn = :stn"
        " UNION ALL SELECT e.idx, 2, w.jws, p.qid FROM event w"
        " LEFT JOIN log_entry e ON e.kind = 2 AND e.entry_id = w.event_id"
        " LEFT JOIN log_pending p ON p.kind = 2 AND p.entry_id = w.event_id"
        " WHERE w.subj IN ('detector', 'station:' || :stn) ORDER BY 1 NULLS LAST, 4"
    )
    yield from conn.execute(query.execution_options(yield_per=1000), {"stn": stn})
