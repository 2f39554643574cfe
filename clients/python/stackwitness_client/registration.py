"""What an operator needs to pin a station's key, and the operator's requests that do it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from emdi.encoding import b64u_encode
from emdi.event import seal_key_proof
from emdi.keys import Signer
from stackwitness_client.errors import ServerRefused
from stackwitness_client.http import ServerLink


def key_form(signer: Signer, stn: str) -> dict[str, Any]:
    """Return the body of POST /v1/stations/{stn}/keys: public key, and proof that its secret half is here."""
    return {
        "kid": signer.kid,
        "alg": signer.public.alg,
        "public_b64u": b64u_encode(signer.public.raw),
        "proof": seal_key_proof(signer, stn),
    }


def register(link: ServerLink, station: dict[str, Any], signer: Signer) -> bool:
    """Register station, channels and key with an operator's link; what is there already is left as it is.

    Returns whether the station is new. Raises ServerRefused: channel.fixed when the station exists with other
    channels, key.taken when the key id belongs to another key.
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
        link.ask("POST", f"{place}/keys", data=form)
    except ServerRefused as refusal:
        if refusal.code != "key.taken" or not _is_pinned(link, place, form):
            raise
    return new


def _is_pinned(link: ServerLink, place: str, form: dict[str, Any]) -> bool:
    keys = link.ask("GET", f"{place}/keys").json()["keys"]
    return any(
        key["kid"] == form["kid"] and key["public_b64u"] == form["public_b64u"] and not key["revoked"]
        for key in keys
    )
