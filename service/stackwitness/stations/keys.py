"""The life of a station's key: asked for, approved, rotated, revoked, compromised. One event per act."""

from typing import Any, Literal

from sqlalchemy import Connection

from emdi.encoding import b64u_encode
from emdi.errors import EmdiError
from emdi.event import verify_key_proof, verify_succession
from emdi.keys import PublicKey, Signer, refuse_published
from stackwitness.errors import Conflict, NotFound, Unprocessable
from stackwitness.log.events import append_event, append_explained
from stackwitness.stations import queries
from stackwitness.stations.domain import NewKey, StationKey, subject_of

KeyState = Literal["requested", "registered"]


def request_key(
    conn: Connection,
    signer: Signer,
    stn: str,
    key: NewKey,
    *,
    act: str,
    approvals: int = 2,
    test_keys: bool = False,
) -> KeyState:
    """Ask for a key after its proof of possession; asking for the same key again changes nothing.

    It signs nothing before another officer approves; with `approvals` 1 (development) it is registered at once.
    Raises NotFound station.unknown, Conflict key.taken, Unprocessable key.proof | key.published | key.*.
    """
    public = _check_key(stn, key, test_keys)
    lock(conn, stn)
    request = queries.find_request(conn, key.kid)
    if queries.find_key(conn, key.kid) is not None or (
        request is not None and (request.stn, request.public) != (stn, public)
    ):
        raise Conflict("key.taken", "A key of this id exists already")
    if request is None:
        data = _key_data(stn, key.kid, public, key.proof)
        event_id = append(conn, signer, stn, "key.request", act, data)
        if not queries.insert_request(conn, stn, key, public, act, event_id):
            raise Conflict("key.taken", "A key of this id exists already")
    if approvals == 1:
        _register(conn, signer, stn, key.kid, (act,))
        return "registered"
    return "requested"


def approve_key(conn: Connection, signer: Signer, stn: str, kid: str, *, act: str) -> None:
    """Register a key that another officer asked for.

    Raises NotFound station.unknown | key.unrequested, Conflict key.taken | key.same_officer.
    """
    lock(conn, stn)
    request = queries.find_request(conn, kid)
    if request is None or request.stn != stn:
        raise NotFound("key.unrequested", "Nobody asked for such a key of this station")
    if queries.find_key(conn, kid) is not None:
        raise Conflict("key.taken", "A key of this id exists already")
    if request.account_id == act:
        raise Conflict(
            "key.same_officer",
            "Another officer must approve it",
            detail="Whoever asked for a key may not approve it: two people stand behind every key",
        )
    _register(conn, signer, stn, kid, (request.account_id, act))


def rotate_key(
    conn: Connection,
    signer: Signer,
    stn: str,
    old_kid: str,
    key: NewKey,
    old_proof: str,
    *,
    act: str,
    test_keys: bool = False,
) -> None:
    """Replace a key by one that the old key named its successor: from this event on the old one signs nothing.

    Raises as request_key, and NotFound key.unknown, Conflict key.revoked, Unprocessable key.old_proof.
    """
    public = _check_key(stn, key, test_keys)
    lock(conn, stn)
    old = _live_key(conn, stn, old_kid)
    try:
        verify_succession(old_proof, stn=stn, kid=key.kid, key=public, old_kid=old_kid, old_key=old.public)
    except EmdiError as error:
        title = "The old key does not name this one its successor"
        raise Unprocessable("key.old_proof", title, detail=str(error)) from error
    data = {**_key_data(stn, key.kid, public, key.proof), "old_kid": old_kid, "old_proof": old_proof}
    event_id = append(conn, signer, stn, "key.rotate", act, data)
    _insert_key(conn, stn, key.kid, public, event_id)
    queries.insert_revocation(conn, old_kid, event_id)


def revoke_key(conn: Connection, signer: Signer, stn: str, kid: str, why: str, *, act: str) -> None:
    """Revoke a key, from this event on. Raises NotFound *.unknown, Conflict key.revoked."""
    lock(conn, stn)
    _live_key(conn, stn, kid)
    event_id = explain(conn, signer, stn, "key.revoke", act, why, {"kid": kid})
    queries.insert_revocation(conn, kid, event_id)


def compromise_key(
    conn: Connection, signer: Signer, stn: str, kid: str, why: str, suspect_from_idx: int, *, act: str
) -> None:
    """End a key and declare suspect what it signed at this log index and later; nothing is deleted.

    A key ended before can still be declared compromised, and from an earlier index than was thought. Raises
    NotFound *.unknown, Conflict key.compromised, Unprocessable key.suspect.
    """
    lock(conn, stn)
    key = queries.find_key(conn, kid)
    if key is None or key.stn != stn:
        raise NotFound("key.unknown", "This station has no such key")
    size = queries.count_logged(conn)
    if suspect_from_idx > size:
        title = "The log does not reach that far"
        raise Unprocessable("key.suspect", title, detail=f"The log holds {size} entries", size=size)
    if key.suspect_from_idx is not None and key.suspect_from_idx <= suspect_from_idx:
        raise Conflict("key.compromised", "The key is suspect from an earlier index already")
    data = {"kid": kid, "suspect_from_idx": suspect_from_idx}
    event_id = explain(conn, signer, stn, "key.compromise", act, why, data)
    queries.insert_compromise(conn, kid, suspect_from_idx, event_id)
    if not key.revoked:
        queries.insert_revocation(conn, kid, event_id)


def lock(conn: Connection, stn: str) -> None:
    """Hold the station until the transaction ends, so that ingest and this act are decided one after the other.

    Raises NotFound station.unknown.
    """
    if not queries.lock_station(conn, stn):
        raise NotFound("station.unknown", "There is no such station")


def append(conn: Connection, signer: Signer, stn: str, typ: str, act: str, data: dict[str, Any]) -> bytes:
    """Append an event to the station's subject and return its id."""
    return append_event(conn, signer, typ=typ, subj=subject_of(stn), act=act, data=data).event_id


def explain(
    conn: Connection, signer: Signer, stn: str, typ: str, act: str, why: str, data: dict[str, Any]
) -> bytes:
    """Append an event with the reason of the act to the station's subject and return its id."""
    subj = subject_of(stn)
    return append_explained(conn, signer, typ=typ, subj=subj, act=act, why=why, data=data).event_id


def _register(conn: Connection, signer: Signer, stn: str, kid: str, officers: tuple[str, ...]) -> None:
    request = queries.find_request(conn, kid)
    assert request is not None, "the caller has just read or written it"
    data = _key_data(stn, kid, request.public, request.proof)
    data |= {"approvals": list(officers), "request": request.event_id.hex()}
    event_id = append(conn, signer, stn, "key.register", officers[-1], data)
    _insert_key(conn, stn, kid, request.public, event_id)


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


def _key_data(stn: str, kid: str, public: PublicKey, proof: str) -> dict[str, Any]:
    return {
        "stn": stn,
        "kid": kid,
        "alg": public.alg,
        "public_b64u": b64u_encode(public.raw),
        "proof": proof,
    }


def _live_key(conn: Connection, stn: str, kid: str) -> StationKey:
    key = queries.find_key(conn, kid)
    if key is None or key.stn != stn:
        raise NotFound("key.unknown", "This station has no such key")
    if key.revoked:
        raise Conflict("key.revoked", "The key is revoked already")
    return key


def _insert_key(conn: Connection, stn: str, kid: str, public: PublicKey, event_id: bytes) -> None:
    if not queries.insert_key(conn, stn, kid, public, event_id):
        raise Conflict("key.taken", "A key of this id exists already")
