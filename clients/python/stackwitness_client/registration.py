"""What operators need to pin a station's key, or its successor, and their requests that do it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from emdi.encoding import b64u_encode
from emdi.event import seal_key_proof, seal_succession
from emdi.keys import Signer
from stackwitness_client.errors import RegistrationWaits, ServerRefused
from stackwitness_client.http import ServerLink


def key_form(signer: Signer, stn: str) -> dict[str, Any]:
    """Return the body of POST /v1/stations/{stn}/keys: public key, and proof that its secret half is here."""
    return {
        "kid": signer.kid,
        "alg": signer.public.alg,
        "public_b64u": b64u_encode(signer.public.raw),
        "proof": seal_key_proof(signer, stn),
    }


def succession_form(old: Signer, new: Signer, stn: str) -> dict[str, Any]:
    """Return the body of POST /v1/stations/{stn}/keys/{old}/rotate: the new key, and the old one's word for it."""
    old_proof = seal_succession(old, stn, new.kid, new.public)
    return {"new": key_form(new, stn), "old_proof": old_proof}


def register(
    link: ServerLink, station: dict[str, Any], signer: Signer, approver: ServerLink | None = None
) -> bool:
    """Register station, channels and key with an operator's link; what is there already is left as it is.

    The key is approved with the link of another operator; without one it waits for somebody to approve it, which
    RegistrationWaits says. Returns whether the station is new. Raises ServerRefused: channel.fixed when the
    station exists with other channels, key.taken when the key id belongs to another key, key.same_officer.
    """
    stn = str(station["stn"])
    place = f"/v1/stations/{quote(stn, safe='')}"
    new = True
    try:
        link.ask("POST", "/v1/stations", data=station)
    except ServerRefused as refusal:
        if refusal.code != "station.exists":
            raise
        new = False
        link.ask("PUT", f"{place}/channels", data={"channels": station["channels"]})
    form = key_form(signer, stn)
    try:
        asked = link.ask("POST", f"{place}/keys", data=form)
        if asked.status == 202:
            if approver is None:
                raise RegistrationWaits(
                    "key.unapproved", f"key {signer.kid} waits for another operator's approval"
                )
            approver.ask("POST", f"{place}/keys/{quote(signer.kid, safe='')}/approve")
    except ServerRefused as refusal:
        if refusal.code != "key.taken" or not is_pinned(link, stn, signer):
            raise
    return new


def rotate(link: ServerLink, stn: str, old: Signer, new: Signer) -> None:
    """Replace a station's key with an operator's link; nothing happens when the new key is pinned already.

    Raises ServerRefused: key.revoked when the old key ended otherwise, key.taken, key.proof, key.old_proof.
    """
    place = f"/v1/stations/{quote(stn, safe='')}/keys/{quote(old.kid, safe='')}/rotate"
    try:
        link.ask("POST", place, data=succession_form(old, new, stn))
    except ServerRefused as refusal:
        if refusal.code not in ("key.revoked", "key.taken") or not is_pinned(link, stn, new):
            raise


def is_pinned(link: ServerLink, stn: str, signer: Signer) -> bool:
    """Tell whether this very key is registered for the station and signs."""
    raw = b64u_encode(signer.public.raw)
    keys = link.ask("GET", f"/v1/stations/{quote(stn, safe='')}/keys").json()["keys"]
    return any(key["kid"] == signer.kid and key["public_b64u"] == raw and not key["revoked"] for key in keys)
