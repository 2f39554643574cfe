"""SQL of stations, channels and keys."""

from collections.abc import Iterable
from typing import cast

from sqlalchemy import Connection, Row, text

from emdi.keys import Alg, PublicKey
from stackwitness.stations.domain import Channel, ChannelRole, Station, StationKey, StoredChannel

STATION_COLUMNS = "stn, name, agency, industry, lat, lon, utc_offset_min"
KEY_QUERY = (
    "SELECT k.kid, k.stn, k.alg, k.public_key, r.kid IS NOT NULL AS revoked"
    " FROM station_key k LEFT JOIN key_revocation r ON r.kid = k.kid"
)


def lock_station(conn: Connection, stn: str) -> bool:
    """Keep envelopes of a station out until the transaction ends; False when it does not exist.

    Ingest takes the same lock, so a revocation stands in the log before every envelope it refuses.
    """
    query = text("SELECT 1 FROM station WHERE stn = :stn FOR NO KEY UPDATE")
    return conn.scalar(query, {"stn": stn}) is not None


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


def _station(row: Row[tuple[object, ...]]) -> Station:
    return Station(row.stn, row.name, row.agency, row.industry, row.lat, row.lon, row.utc_offset_min)


def _key(row: Row[tuple[object, ...]]) -> StationKey:
    public = PublicKey(cast(Alg, row.alg), bytes(row.public_key))
    return StationKey(row.kid, row.stn, public, row.revoked)
