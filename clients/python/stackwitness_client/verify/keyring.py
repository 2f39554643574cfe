"""Which key was valid when, learnt from the genesis entry and the key events of the log."""

from typing import Any

from emdi.encoding import b64u_decode, load_json
from emdi.errors import EmdiError, EncodingError, EnvelopeError, KeyFormatError, NoteError
from emdi.event import Event, verify_key_proof
from emdi.keys import PublicKey
from emdi.note import VerifierKey
from stackwitness_client.verify.report import Verdict


def weigh_signature(error: EmdiError) -> Verdict:
    """Weigh a failed signature: an unknown key is forgery only if nothing that could name it is missing."""
    return Verdict.UNFOUNDED if error.code == "key.unknown" else Verdict.TAMPERED


class Keyring:
    """The service's and the export key from genesis; station keys by log index of their events."""

    def __init__(self) -> None:
        self.has_genesis = False
        self.export_key: VerifierKey | None = None
        self._service: dict[str, PublicKey] = {}
        self._stations: dict[str, tuple[str, PublicKey, int]] = {}
        self._revoked: dict[str, int] = {}

    def take_genesis(self, idx: int, body: bytes, proven: bool, origin: str) -> None:
        """Learn the service's keys from leaf 0; raise KeyFormatError("genesis.*") for anything else."""
        if idx != 0 or not proven:
            raise KeyFormatError("genesis.place", "a genesis entry counts only as the proven leaf 0")
        try:
            members = load_json(body)
            self._service[members["service_kid"]] = PublicKey.from_bytes(
                "Ed25519", b64u_decode(members["service_public_b64u"])
            )
            self.export_key = VerifierKey.parse(members["export_vkey"])
            named = members["origin"]
        except (EncodingError, NoteError) as error:
            raise KeyFormatError("genesis.form", error.message) from None
        except (KeyError, TypeError, AttributeError):
            raise KeyFormatError("genesis.form", "a member of the genesis entry is missing") from None
        if named != origin:
            raise KeyFormatError("genesis.origin", f"genesis is of {named!r}, the checkpoint of {origin!r}")
        self.has_genesis = True

    def take_event(self, idx: int, event: Event, stn: str) -> None:
        """Learn from a signed and proven key event; raise EnvelopeError, KeyFormatError or EncodingError."""
        if event.typ in ("key.register", "key.rotate"):
            self._register(idx, event.data, stn)
        elif event.typ in ("key.revoke", "key.compromise"):
            self._revoked.setdefault(str(event.data.get("kid")), idx)

    def service_key(self, kid: str) -> PublicKey:
        """Return the service's key; raise EnvelopeError("key.unknown")."""
        if kid not in self._service:
            raise EnvelopeError("key.unknown", f"the genesis entry knows no key {kid!r}")
        return self._service[kid]

    def station_key(self, stn: str, kid: str, idx: int) -> PublicKey:
        """Return the station's key valid at log index `idx`.

        Raises EnvelopeError: key.unknown, key.revoked.
        """
        owner, key, since = self._stations.get(kid, ("", None, 0))
        if key is None or owner != stn or since >= idx:
            raise EnvelopeError(
                "key.unknown", f"no event before this entry registers key {kid!r} for station {stn}"
            )
        if self._revoked.get(kid, idx) < idx:
            raise EnvelopeError("key.revoked", f"key {kid!r} was revoked at idx {self._revoked[kid]}")
        return key

    def _register(self, idx: int, data: dict[str, Any], stn: str) -> None:
        try:
            kid, proof = data["kid"], data["proof"]
            key = PublicKey.from_bytes(data["alg"], b64u_decode(data["public_b64u"]))
            if data["stn"] != stn:
                raise KeyFormatError("key.station", f"the key is registered for {data['stn']!r}")
            verify_key_proof(proof, stn=stn, kid=kid, key=key)
        except (KeyError, TypeError, AttributeError):
            raise KeyFormatError("key.event", "a member of the key event is missing") from None
        if kid in self._stations:
            raise KeyFormatError("key.duplicate", f"key {kid!r} is registered twice")
        self._stations[kid] = (stn, key, idx)
