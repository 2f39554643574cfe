"""SQL of ingest. The committing transaction uses psycopg directly: SQLAlchemy has no COPY."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, text

from emdi.chain import StationHead
from emdi.envelope import Envelope, Skip
from stackwitness.ingest.domain import Kept, PinnedChannel, PinnedKey, Roster, Standing
from stackwitness.ingest.rows import ENVELOPE_COLUMNS, READING_COLUMNS
from stackwitness.stations.domain import subject_of
from stackwitness.stations.queries import list_channels, list_keys

Raw = psycopg.Connection[tuple[Any, ...]]
LOCK_TIMEOUT = "5s"
DAY_MS = 86_400_000
MAX_SET_ASIDE_A_DAY = 1000


def raw_of(conn: Connection) -> Raw:
    """Return psycopg's connection under SQLAlchemy's: same session, same transaction."""
    return cast(Raw, conn.connection.driver_connection)


def load_roster(conn: Connection, stn: str) -> Roster | None:
    """Return a station's keys and channels; None when there is no such station.

    The version is read first: a change between the reads makes the roster look older than it is, never newer.
    """
    version = conn.scalar(
        text("SELECT h.sseq FROM station s JOIN subject_head h ON h.subj = :subj WHERE s.stn = :stn"),
        {"stn": stn, "subj": subject_of(stn)},
    )
    if version is None:
        return None
    keys = {key.kid: PinnedKey(key.public, key.revoked) for key in list_keys(conn, stn)}
    channels = {
        channel.name: PinnedChannel(channel.channel_no, channel.unit) for channel in list_channels(conn, stn)
    }
    return Roster(stn, version, keys, channels)


def lock_stations(raw: Raw, stns: Iterable[str], count: int) -> tuple[dict[str, Standing], list[int]]:
    """Lock stations, in order of id so that two committers never deadlock; return where they stand.

    Also returns `count` new envelope numbers: taken under the lock, they ascend along each station's chain.

    The lock is on `station`, not on the head: a new station has no head yet. Reading is a statement of its
    own, whose snapshot is younger than whatever the lock waited for.
    """
    ordered = sorted(stns)
    raw.execute(
        "SELECT set_config('lock_timeout', %s, true), lock_stations(%s)",
        (LOCK_TIMEOUT, ordered),
    )
    cursor = raw.execute(
        "SELECT s.stn, e.sseq, h.ep, h.seq, h.env_id, h.last_at, n.numbers"
        " FROM unnest(%s::text[], %s::text[]) AS s (stn, subj)"
        " JOIN subject_head e ON e.subj = s.subj LEFT JOIN station_head h ON h.stn = s.stn"
        " CROSS JOIN (SELECT array_agg(nextval('envelope_no_seq')) AS numbers"
        " FROM generate_series(1, %s)) AS n",
        (ordered, [subject_of(stn) for stn in ordered], count),
    )
    rows = cursor.fetchall()
    standings = {
        stn: Standing(version, None, None)
        if env_id is None
        else Standing(version, StationHead(ep, seq, bytes(env_id)), to_ms(last_at))
        for stn, version, ep, seq, env_id, last_at, _ in rows
    }
    return standings, rows[0][-1] if rows else []


def find_positions(raw: Raw, positions: Iterable[tuple[str, int, int]]) -> dict[tuple[str, int, int], Kept]:
    """Return which envelopes stand at these (stn, ep, seq)."""
    stns, eps, seqs = zip(*positions, strict=True)
    cursor = raw.execute(
        "SELECT e.stn, e.ep, e.seq, e.env_id, e.reading_count FROM envelope e"
        " JOIN unnest(%s::text[], %s::bigint[], %s::bigint[]) AS p (stn, ep, seq)"
        " ON (e.stn, e.ep, e.seq) = (p.stn, p.ep, p.seq)",
        (list(stns), list(eps), list(seqs)),
    )
    return {
        (stn, ep, seq): Kept(bytes(env_id), ep, seq, count)
        for stn, ep, seq, env_id, count in cursor.fetchall()
    }


def copy_envelopes(raw: Raw, stream: bytes) -> None:
    """COPY envelopes in; a trigger queues their leaves."""
    with raw.cursor().copy(f"COPY envelope ({ENVELOPE_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(stream)


def copy_readings(raw: Raw, stream: bytes) -> None:
    """COPY readings in."""
    with raw.cursor().copy(f"COPY reading ({READING_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(stream)


def store_heads(raw: Raw, heads: Mapping[str, tuple[StationHead, int]]) -> None:
    """Move the heads of stations: stn -> (head, latest reading time in ms)."""
    stns = sorted(heads)
    raw.execute(
        "INSERT INTO station_head (stn, ep, seq, env_id, last_at)"
        " SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bytea[], %s::timestamptz[])"
        " ON CONFLICT (stn) DO UPDATE SET ep = excluded.ep, seq = excluded.seq, env_id = excluded.env_id,"
        " last_at = excluded.last_at",
        (
            stns,
            [heads[stn][0].ep for stn in stns],
            [heads[stn][0].seq for stn in stns],
            [heads[stn][0].env_id for stn in stns],
            [to_instant(heads[stn][1]) for stn in stns],
        ),
    )


def defer_scans(raw: Raw, stns: Sequence[str]) -> None:
    """Queue a detection scan per station, in the caller's transaction; one that waits already is enough.

    That one is locked rather than skipped: a worker may not start it before our readings are committed.
    """
    ordered = sorted(stns)
    raw.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args)"
        " SELECT 'detection', 'detection.scan', 'scan:' || s.stn, 'scan:' || s.stn, s.args"
        " FROM unnest(%s::text[], %s::jsonb[]) AS s (stn, args)"
        " ON CONFLICT (queueing_lock) WHERE status = 'todo'"
        " DO UPDATE SET priority = procrastinate_jobs.priority",
        (ordered, [Jsonb({"stn": stn}) for stn in ordered]),
    )


def insert_quarantine(raw: Raw, envelope: Envelope, why: str, recv_ms: int) -> bool:
    """Keep a validly signed envelope that was not accepted; False when it is kept already, or enough are.

    A thousand contradictions in a day prove what ten thousand would: a station must not make its own evidence
    too large to export by contradicting itself.
    """
    cursor = raw.execute(
        "INSERT INTO quarantine (env_id, stn, ep, seq, kid, why, recv_ms, jws)"
        " SELECT %s, %s, %s, %s, %s, %s, %s, %s WHERE %s > ("
        "  SELECT count(*) FROM quarantine WHERE stn = %s AND recv_ms > %s) ON CONFLICT (env_id) DO NOTHING",
        (
            envelope.env_id,
            envelope.stn,
            envelope.ep,
            envelope.seq,
            envelope.kid,
            why,
            recv_ms,
            envelope.jws,
            MAX_SET_ASIDE_A_DAY,
            envelope.stn,
            recv_ms - DAY_MS,
        ),
    )
    return cursor.rowcount == 1


def insert_epoch(raw: Raw, envelope: Envelope, prev_ep: int, event_id: bytes) -> None:
    """Store that this envelope opened an epoch behind another one."""
    raw.execute(
        "INSERT INTO epoch (event_id, stn, ep, prev_ep, env_id) VALUES (%s, %s, %s, %s, %s)",
        (event_id, envelope.stn, envelope.ep, prev_ep, envelope.env_id),
    )


def insert_gap(raw: Raw, envelope: Envelope, skip: Skip, event_id: bytes) -> None:
    """Store that this envelope admits a loss."""
    raw.execute(
        "INSERT INTO gap (event_id, stn, ep, seq_first, seq_last, why, env_id) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (event_id, envelope.stn, envelope.ep, skip.first, skip.last, skip.why, envelope.env_id),
    )


def count_pending(conn: Connection, ceiling: int) -> int:
    """Return how many leaves wait for the log, counting no further than `ceiling`."""
    query = text("SELECT count(*) FROM (SELECT 1 FROM log_pending LIMIT :ceiling) AS p")
    return int(conn.scalar(query, {"ceiling": ceiling}) or 0)


def find_head(conn: Connection, stn: str) -> StationHead | None:
    """Return the head of a station's chain."""
    query = text("SELECT ep, seq, env_id FROM station_head WHERE stn = :stn")
    row = conn.execute(query, {"stn": stn}).one_or_none()
    return None if row is None else StationHead(row.ep, row.seq, bytes(row.env_id))


def list_heads(conn: Connection) -> dict[str, tuple[StationHead, datetime | None]]:
    """Return the head of every station's chain and the latest reading time it has reached.

    That time is None where only the shard before knows it: a station silent in this one, after a rebuild.
    """
    query = "SELECT stn, ep, seq, env_id, nullif(last_at, timestamptz 'epoch') AS last_at FROM station_head"
    rows = conn.execute(text(query))
    return {row.stn: (StationHead(row.ep, row.seq, bytes(row.env_id)), row.last_at) for row in rows}


def to_instant(at_ms: int) -> datetime:
    """Return the aware UTC datetime of Unix milliseconds."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)


def to_ms(at: datetime) -> int:
    """Return Unix milliseconds of an aware datetime, exactly."""
    whole = int(at.replace(microsecond=0).timestamp())
    return whole * 1000 + at.microsecond // 1000
