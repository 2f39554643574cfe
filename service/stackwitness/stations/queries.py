"""SQL of stations, channels and keys."""

from collections.abc import Iterable
from typing import cast

from sqlalchemy import Connection, Row, text

from emdi.keys import Alg, PublicKey
from stackwitness.stations.domain import (
    Channel,
    ChannelRole,
    Epoch,
    KeyRequest,
    Limit,
    NewKey,
    Station,
    StationKey,
    StoredChannel,
    Suspicion,
)

STATION_COLUMNS = "stn, name, agency, industry, lat, lon, utc_offset_min"
KEY_QUERY = (
    "SELECT k.kid, k.stn, k.alg, k.public_key, r.kid IS NOT NULL AS revoked,"
    " (SELECT min(c.suspect_from_idx) FROM key_compromise c WHERE c.kid = k.kid) AS suspect_from_idx"
    " FROM station_key k LEFT JOIN key_revocation r ON r.kid = k.kid"
)
# Which keys of a station are suspect from which index on, as emdi.keyring.KeyRing says: a rotation pins the new key
# and ends the old one by one event, and suspicion goes that way. UNION ends at a ring that no honest log has.
SUSPICION = (
    "RECURSIVE reached AS ("
    " SELECT c.kid, c.suspect_from_idx AS from_idx, c.kid AS compromised_kid"
    " FROM key_compromise c JOIN station_key k USING (kid) WHERE k.stn = :stn"
    " UNION SELECT n.kid, s.from_idx, s.compromised_kid FROM reached s"
    " JOIN key_revocation r ON r.kid = s.kid JOIN station_key n ON n.event_id = r.event_id"
    "), suspicion AS (SELECT DISTINCT ON (kid) * FROM reached ORDER BY kid, from_idx, compromised_kid)"
)
REQUEST_QUERY = (
    "SELECT q.kid, q.stn, q.alg, q.public_key, q.proof, q.account_id, q.event_id FROM key_request q"
)


def lock_station(conn: Connection, stn: str) -> bool:
    """Keep envelopes of a station out until the transaction ends; False when it does not exist.

    Ingest takes the same lock, so a revocation stands in the log before every envelope it refuses.
    """
    query = text(
        "SELECT lock_stations(ARRAY[:stn]), EXISTS (SELECT FROM station WHERE stn = :stn) AS present"
    )
    return bool(conn.execute(query, {"stn": stn}).one().present)


def find_station(conn: Connection, stn: str) -> Station | None:
    """Return a station by its id."""
    query = text(f"SELECT {STATION_COLUMNS} FROM station WHERE stn = :stn")
    row = conn.execute(query, {"stn": stn}).one_or_none()
    return None if row is None else _station(row)


def list_stations(conn: Connection) -> list[Station]:
    """Return every station, by id."""
    return [
        _station(row) for row in conn.execute(text(f"SELECT {STATION_COLUMNS} FROM station ORDER BY stn"))
    ]


def insert_station(conn: Connection, station: Station, event_id: bytes) -> None:
    """Store a station."""
    conn.execute(
        text(
            f"INSERT INTO station ({STATION_COLUMNS}, event_id)"
            " VALUES (:stn, :name, :agency, :industry, :lat, :lon, :utc_offset_min, :event_id)"
        ),
        {**station.to_json(), "event_id": event_id},
    )


def list_channels(conn: Connection, stn: str) -> list[StoredChannel]:
    """Return a station's channels in the order they were set."""
    rows = conn.execute(
        text(
            "SELECT channel_no, name, quantity, unit, role, limit_value, resolution FROM channel"
            " WHERE stn = :stn ORDER BY channel_no"
        ),
        {"stn": stn},
    )
    return [
        StoredChannel(
            row.name,
            row.quantity,
            row.unit,
            cast(ChannelRole, row.role),
            row.limit_value,
            row.resolution,
            row.channel_no,
        )
        for row in rows
    ]


def insert_channels(conn: Connection, stn: str, channels: Iterable[Channel], event_id: bytes) -> None:
    """Store channels of a station."""
    rows = [{**channel.to_json(), "stn": stn, "event_id": event_id} for channel in channels]
    conn.execute(
        text(
            "INSERT INTO channel (stn, name, quantity, unit, role, limit_value, resolution, event_id)"
            " VALUES (:stn, :name, :quantity, :unit, :role, :limit, :resolution, :event_id)"
        ),
        rows,
    )


def list_keys(conn: Connection, stn: str) -> list[StationKey]:
    """Return a station's keys, by kid."""
    query = text(KEY_QUERY + " WHERE k.stn = :stn ORDER BY k.kid")
    return [_key(row) for row in conn.execute(query, {"stn": stn})]


def list_suspicions(conn: Connection, stn: str) -> dict[str, Suspicion]:
    """Return the suspect keys of a station by kid: those declared compromised, and those that follow them."""
    rows = conn.execute(text(f"WITH {SUSPICION} SELECT * FROM suspicion"), {"stn": stn})
    return {row.kid: Suspicion(row.kid, row.from_idx, row.compromised_kid) for row in rows}


def find_key(conn: Connection, kid: str) -> StationKey | None:
    """Return a key of any station by its kid."""
    row = conn.execute(text(KEY_QUERY + " WHERE k.kid = :kid"), {"kid": kid}).one_or_none()
    return None if row is None else _key(row)


def insert_key(conn: Connection, stn: str, kid: str, public: PublicKey, event_id: bytes) -> bool:
    """Pin a key to a station; False when the kid is taken, by any station."""
    result = conn.execute(
        text(
            "INSERT INTO station_key (kid, stn, alg, public_key, event_id)"
            " VALUES (:kid, :stn, :alg, :public_key, :event_id) ON CONFLICT (kid) DO NOTHING"
        ),
        {"kid": kid, "stn": stn, "alg": public.alg, "public_key": public.raw, "event_id": event_id},
    )
    return result.rowcount == 1


def insert_revocation(conn: Connection, kid: str, event_id: bytes) -> None:
    """Mark a key revoked."""
    conn.execute(
        text("INSERT INTO key_revocation (kid, event_id) VALUES (:kid, :event_id)"),
        {"kid": kid, "event_id": event_id},
    )


def find_request(conn: Connection, kid: str) -> KeyRequest | None:
    """Return what was asked about a key id, registered since or not."""
    row = conn.execute(text(REQUEST_QUERY + " WHERE q.kid = :kid"), {"kid": kid}).one_or_none()
    return None if row is None else _request(row)


def list_requests(conn: Connection, stn: str | None = None) -> list[KeyRequest]:
    """Return the keys (of one station) that wait for a second officer, by station and key id."""
    query = text(
        REQUEST_QUERY + " WHERE (CAST(:stn AS text) IS NULL OR q.stn = :stn)"
        " AND NOT EXISTS (SELECT FROM station_key k WHERE k.kid = q.kid) ORDER BY q.stn, q.kid"
    )
    return [_request(row) for row in conn.execute(query, {"stn": stn})]


def insert_request(
    conn: Connection, stn: str, key: NewKey, public: PublicKey, account_id: str, event_id: bytes
) -> bool:
    """Store that an officer asks for a key; False when the kid is taken, by a station the officer may not see."""
    result = conn.execute(
        text(
            "INSERT INTO key_request (kid, stn, alg, public_key, proof, account_id, event_id)"
            " VALUES (:kid, :stn, :alg, :public_key, :proof, :account_id, :event_id)"
            " ON CONFLICT (kid) DO NOTHING"
        ),
        {
            "kid": key.kid,
            "stn": stn,
            "alg": public.alg,
            "public_key": public.raw,
            "proof": key.proof,
            "account_id": account_id,
            "event_id": event_id,
        },
    )
    return result.rowcount == 1


def insert_compromise(conn: Connection, kid: str, suspect_from_idx: int, event_id: bytes) -> None:
    """Store from which log index on a key's signatures are suspect."""
    conn.execute(
        text(
            "INSERT INTO key_compromise (event_id, kid, suspect_from_idx)"
            " VALUES (:event_id, :kid, :suspect_from_idx)"
        ),
        {"event_id": event_id, "kid": kid, "suspect_from_idx": suspect_from_idx},
    )


def count_logged(conn: Connection) -> int:
    """Return the size of the log as far as it is sequenced."""
    return int(conn.scalar(text("SELECT coalesce(max(size), 0) FROM log_head")) or 0)


def list_limits(conn: Connection, stn: str, *, reasons: bool = True) -> dict[str, list[Limit]]:
    """Return every channel's limits, in the order they were set; the first is the one it was registered with.

    The detectors' role may not read why officials act: without `reasons` every `why` is None.
    """
    limits = {channel.name: [Limit(channel.limit, None)] for channel in list_channels(conn, stn)}
    why, explanation = ("x.why", "LEFT JOIN explanation x USING (event_id)") if reasons else ("NULL", "")
    query = (
        f"SELECT l.name, l.limit_value, l.from_at, {why} AS why FROM channel_limit l"
        f" JOIN event e USING (event_id) {explanation} WHERE l.stn = :stn ORDER BY e.sseq"
    )
    for row in conn.execute(text(query), {"stn": stn}):
        limits[row.name].append(Limit(row.limit_value, row.from_at, row.why or None))
    return limits


def insert_limit(conn: Connection, stn: str, name: str, limit: Limit, event_id: bytes) -> None:
    """Store a channel's limit from a time on."""
    conn.execute(
        text(
            "INSERT INTO channel_limit (event_id, stn, name, limit_value, from_at)"
            " VALUES (:event_id, :stn, :name, :limit_value, :from_at)"
        ),
        {
            "event_id": event_id,
            "stn": stn,
            "name": name,
            "limit_value": limit.value,
            "from_at": limit.from_at,
        },
    )


def list_epochs(conn: Connection, stn: str | None = None, *, pending: bool = False) -> list[Epoch]:
    """Return the epochs (of one station) that followed another, newest first; `pending`: unacknowledged ones."""
    query = text(
        "SELECT o.stn, o.ep, o.prev_ep, o.env_id, e.recv_ms, a.account_id FROM epoch o JOIN event e USING (event_id)"
        " LEFT JOIN epoch_ack a ON (a.stn, a.ep) = (o.stn, o.ep)"
        " WHERE (CAST(:stn AS text) IS NULL OR o.stn = :stn) AND NOT (:pending AND a.ep IS NOT NULL)"
        " ORDER BY e.recv_ms DESC, o.stn, o.ep DESC"
    )
    rows = conn.execute(query, {"stn": stn, "pending": pending})
    return [
        Epoch(row.stn, row.ep, row.prev_ep, bytes(row.env_id), row.recv_ms, row.account_id) for row in rows
    ]


def insert_epoch_ack(conn: Connection, stn: str, ep: int, account_id: str, event_id: bytes) -> None:
    """Store an inspector's acknowledgement of an epoch."""
    conn.execute(
        text(
            "INSERT INTO epoch_ack (event_id, stn, ep, account_id) VALUES (:event_id, :stn, :ep, :account_id)"
        ),
        {"event_id": event_id, "stn": stn, "ep": ep, "account_id": account_id},
    )


def _request(row: Row[tuple[object, ...]]) -> KeyRequest:
    public = PublicKey(cast(Alg, row.alg), bytes(row.public_key))
    return KeyRequest(row.kid, row.stn, public, row.proof, row.account_id, bytes(row.event_id))


def _station(row: Row[tuple[object, ...]]) -> Station:
    return Station(row.stn, row.name, row.agency, row.industry, row.lat, row.lon, row.utc_offset_min)


def _key(row: Row[tuple[object, ...]]) -> StationKey:
    public = PublicKey(cast(Alg, row.alg), bytes(row.public_key))
    return StationKey(row.kid, row.stn, public, row.revoked, row.suspect_from_idx)
