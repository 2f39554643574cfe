"""Register stations and channels, change limits, acknowledge epochs: one event per act, same transaction."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from emdi.keys import Signer
from emdi.units import UNITS
from stackwitness.errors import Conflict, NotFound, Unprocessable
from stackwitness.log.events import check_names, lock_subject
from stackwitness.stations import queries
from stackwitness.stations.domain import Channel, Limit, Station, subject_of
from stackwitness.stations.keys import append, explain, lock


def register_station(
    conn: Connection, signer: Signer, station: Station, channels: Sequence[Channel], *, act: str
) -> None:
    """Store a station and its channels. Raises Conflict station.exists, Unprocessable channel.*."""
    check_names(name=station.name, agency=station.agency, industry=station.industry)
    _check_channels(channels)
    # The subject's lock is what two registrations of one id wait on: the row does not exist yet.
    # It knows of stations too that belong to an agency the caller does not see.
    if lock_subject(conn, subject_of(station.stn)) is not None:
        raise Conflict("station.exists", "A station of this id exists already")
    event_id = append(conn, signer, station.stn, "station.register", act, station.to_json())
    queries.insert_station(conn, station, event_id)
    if channels:
        _insert_channels(conn, signer, station.stn, channels, act)


def set_channels(
    conn: Connection, signer: Signer, stn: str, channels: Sequence[Channel], *, act: str
) -> None:
    """Add the channels that are new; one that exists must be the same: its readings were signed so.

    Raises NotFound station.unknown, Conflict channel.fixed, Unprocessable channel.*.
    """
    _check_channels(channels)
    lock(conn, stn)
    present = {channel.name: channel.to_json() for channel in queries.list_channels(conn, stn)}
    fresh = []
    for channel in channels:
        known = present.get(channel.name)
        if known is None:
            fresh.append(channel)
        elif channel.to_json().items() - known.items():
            raise Conflict(
                "channel.fixed",
                "A channel cannot be changed",
                detail=f"Channel {channel.name} exists with other properties; add a channel of another name",
                channel=channel.name,
            )
    if fresh:
        _insert_channels(conn, signer, stn, fresh, act)


def change_limit(conn: Connection, signer: Signer, stn: str, name: str, limit: Limit, *, act: str) -> None:
    """Give a channel another limit from a time on (value None: none); the earlier ones stay known.

    Raises NotFound station.unknown | channel.unknown, Conflict limit.order | limit.same.
    """
    from_at, why = limit.from_at, limit.why or ""
    assert from_at is not None, "only the limit of the registration begins with the channel"
    lock(conn, stn)
    limits = queries.list_limits(conn, stn).get(name)
    if limits is None:
        raise NotFound("channel.unknown", "The station has no such channel")
    last = limits[-1]
    if last.from_at is not None and from_at < last.from_at:
        raise Conflict("limit.order", "A later limit is set already", detail=f"It begins at {last.from_at}")
    if last.value == limit.value:
        raise Conflict("limit.same", "The channel has this limit already")
    data = {"stn": stn, "channel": name, "old": last.value, "new": limit.value}
    data |= {"from_ms": to_ms(from_at)}
    event_id = explain(conn, signer, stn, "limit.change", act, why, data)
    queries.insert_limit(conn, stn, name, limit, event_id)


def acknowledge_epoch(conn: Connection, signer: Signer, stn: str, ep: int, why: str, *, act: str) -> None:
    """Note that an inspector looked at why a station began a new epoch.

    Raises NotFound station.unknown | epoch.unknown, Conflict epoch.acknowledged.
    """
    lock(conn, stn)
    epoch = next((one for one in queries.list_epochs(conn, stn) if one.ep == ep), None)
    if epoch is None:
        raise NotFound("epoch.unknown", "No such epoch of this station waits for an acknowledgement")
    if epoch.acknowledged_by is not None:
        raise Conflict("epoch.acknowledged", "The epoch is acknowledged already")
    event_id = explain(conn, signer, stn, "epoch.ack", act, why, {"ep": ep})
    queries.insert_epoch_ack(conn, stn, ep, act, event_id)


def _check_channels(channels: Sequence[Channel]) -> None:
    seen: set[str] = set()
    for channel in channels:
        if channel.name in seen:
            raise Unprocessable(
                "channel.duplicate", "A channel is named twice", detail=channel.name, channel=channel.name
            )
        if channel.unit not in UNITS:
            raise Unprocessable(
                "channel.unit",
                "The unit is not known",
                detail=f"Unit {channel.unit!r} of channel {channel.name}",
                channel=channel.name,
                unit=channel.unit,
            )
        check_names(quantity=channel.quantity)
        seen.add(channel.name)


def _insert_channels(
    conn: Connection, signer: Signer, stn: str, channels: Sequence[Channel], act: str
) -> None:
    data = {"stn": stn, "channels": [channel.to_json() for channel in channels]}
    queries.insert_channels(conn, stn, channels, append(conn, signer, stn, "channel.set", act, data))


def to_ms(at: datetime) -> int:
    """Return Unix milliseconds of an aware datetime, exactly."""
    return int(at.replace(microsecond=0).timestamp()) * 1000 + at.microsecond // 1000
