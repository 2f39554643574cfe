"""Register stations and channels; register, rotate and revoke keys: one event per act, same transaction."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from emdi.encoding import b64u_encode
from emdi.errors import EmdiError
from emdi.event import verify_key_proof
from emdi.keys import PublicKey, Signer, refuse_published
from emdi.units import UNITS
from stackwitness.errors import Conflict, NotFound, Unprocessable
from stackwitness.log.events import append_event, lock_subject
from stackwitness.stations import queries
from stackwitness.stations.domain import Channel, NewKey, Station, StationKey, subject_of


def register_station(
    conn: Connection, signer: Signer, station: Station, channels: Sequence[Channel], *, act: str
) -> None:
    """Store a station and its channels. Raises Conflict station.exists, Unprocessable channel.*."""
    _check_channels(channels)
    # The subject's lock is what two registrations of one id wait on: the row does not exist yet.
    lock_subject(conn, subject_of(station.stn))
    if queries.find_station(conn, station.stn) is not None:
        raise Conflict("station.exists", "A station of this id exists already")
    event_id = _append(conn, signer, station.stn, "station.register", act, station.to_json())
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
    _lock(conn, stn)
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


def register_key(
    conn: Connection, signer: Signer, stn: str, key: NewKey, *, act: str, test_keys: bool = False
) -> None:
    """Pin a key to a station after its proof of possession.

    Raises NotFound station.unknown, Conflict key.taken, Unprocessable key.proof | key.published | key.*.
    """
    public = _check_key(stn, key, test_keys)
    _lock(conn, stn)
    event_id = _append(conn, signer, stn, "key.register", act, _key_data(stn, key, public))
    _insert_key(conn, stn, key, public, event_id)


def rotate_key(
    conn: Connection,
    signer: Signer,
    stn: str,
    old_kid: str,
    key: NewKey,
    *,
    act: str,
    test_keys: bool = False,
) -> None:
    """Replace a key: the successor is registered and the old one revoked, so that none is ever forgotten.

    Raises as register_key, and NotFound key.unknown, Conflict key.revoked.
    """
    public = _check_key(stn, key, test_keys)
    _lock(conn, stn)
    _live_key(conn, stn, old_kid)
    data = {**_key_data(stn, key, public), "old_kid": old_kid}
    event_id = _append(conn, signer, stn, "key.rotate", act, data)
    _insert_key(conn, stn, key, public, event_id)
    _revoke(conn, signer, stn, old_kid, "rotated", act)


def revoke_key(conn: Connection, signer: Signer, stn: str, kid: str, why: str, *, act: str) -> None:
    """Revoke a key, from this event on. Raises NotFound *.unknown, Conflict key.revoked."""
    _lock(conn, stn)
    _live_key(conn, stn, kid)
    _revoke(conn, signer, stn, kid, why, act)


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
        seen.add(channel.name)


def _check_key(stn: str, key: NewKey, test_keys: bool) -> PublicKey:
    try:
        public = PublicKey.from_bytes(key.alg, key.raw)
        if not test_keys:
            refuse_published(public)
    except EmdiError as error:
        raise Unprocessable(error.code, "The public key is refused", detail=str(error)) from error
    try:
        verify_key_proof(key.proof, stn=stn, kid=key.kid, key=public)
    except EmdiError as error:
        title = "The proof of possession does not hold"
        raise Unprocessable("key.proof", title, detail=str(error)) from error
    return public


def _key_data(stn: str, key: NewKey, public: PublicKey) -> dict[str, Any]:
    return {
        "stn": stn,
        "kid": key.kid,
        "alg": public.alg,
        "public_b64u": b64u_encode(public.raw),
        "proof": key.proof,
    }


def _lock(conn: Connection, stn: str) -> None:
    if not queries.lock_station(conn, stn):
        raise NotFound("station.unknown", "There is no such station")


def _live_key(conn: Connection, stn: str, kid: str) -> StationKey:
    key = queries.find_key(conn, kid)
    if key is None or key.stn != stn:
        raise NotFound("key.unknown", "This station has no such key")
    if key.revoked:
        raise Conflict("key.revoked", "The key is revoked already")
    return key


def _insert_key(conn: Connection, stn: str, key: NewKey, public: PublicKey, event_id: bytes) -> None:
    if not queries.insert_key(conn, stn, key.kid, public, event_id):
        raise Conflict("key.taken", "A key of this id exists already")


def _insert_channels(
    conn: Connection, signer: Signer, stn: str, channels: Sequence[Channel], act: str
) -> None:
    data = {"stn": stn, "channels": [channel.to_json() for channel in channels]}
    queries.insert_channels(conn, stn, channels, _append(conn, signer, stn, "channel.set", act, data))


def _revoke(conn: Connection, signer: Signer, stn: str, kid: str, why: str, act: str) -> None:
    event_id = _append(conn, signer, stn, "key.revoke", act, {"kid": kid, "why": why})
    queries.insert_revocation(conn, kid, event_id)


def _append(conn: Connection, signer: Signer, stn: str, typ: str, act: str, data: dict[str, Any]) -> bytes:
    event = append_event(conn, signer, typ=typ, subj=subject_of(stn), act=act, data=data)
    return event.event_id
