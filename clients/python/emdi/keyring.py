"""Which key of which station was valid at which log index, learnt from the genesis and the key events.

One class for every reader of the log (verifier, fsck, monitor), so that none of them believes what another refuses.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from emdi.encoding import b64u_decode, load_json
from emdi.errors import EncodingError, EnvelopeError, KeyFormatError, NoteError
from emdi.event import Event, verify_key_proof, verify_succession
from emdi.keys import PublicKey
from emdi.note import VerifierKey
from emdi.service_keys import SERVICE_EVENTS, ServiceKeys

OFFICERS = 2
KEY_EVENTS = SERVICE_EVENTS | {"key.request", "key.register", "key.rotate", "key.revoke", "key.compromise"}


@dataclass(frozen=True, slots=True)
class KeySpan:
    """A station's key: valid for entries after `since_idx` up to and including `until_idx` (None: still valid).

    `until_idx` is the index of the event that ended it, `ended_by` that event's type and place; readings it
    signed at `suspect_from_idx` and later are suspect, because `compromised_kid` is in other hands: the key
    itself, or one it follows. `succeeds` is the key before it, after a rotation.
    """

    stn: str
    kid: str
    public: PublicKey
    since_idx: int
    officers: tuple[str, ...] = ()
    succeeds: str | None = None
    until_idx: int | None = None
    ended_by: str | None = None
    suspect_from_idx: int | None = None
    compromised_kid: str | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    stn: str
    kid: str
    public: PublicKey
    act: str


@dataclass
class KeyRing:
    """Take the log's events in order of their index; an event that breaks a rule is refused and changes nothing.

    Entries that wait for the log take indexes behind its last one: only the order counts. `officers` is how
    many distinct accounts must stand behind a new key; the genesis entry may say one (a log of development).
    """

    officers: int = OFFICERS
    genesis: dict[str, Any] | None = None
    export_key: VerifierKey | None = None
    service: ServiceKeys = field(default_factory=ServiceKeys)
    _spans: dict[str, KeySpan] = field(default_factory=dict)
    _requests: dict[str, _Request] = field(default_factory=dict)
    _followed_by: dict[str, str] = field(default_factory=dict)

    def take_genesis(self, idx: int, body: bytes, origin: str | None = None) -> dict[str, Any]:
        """Learn the keys of service and exports from leaf 0 (of the log `origin`) and return its members.

        Raises KeyFormatError("genesis.place" | "genesis.form" | "genesis.origin"); then nothing is learnt.
        """
        if idx != 0 or self.genesis is not None:
            raise KeyFormatError("genesis.place", "a genesis entry counts only as leaf 0")
        try:
            members: dict[str, Any] = load_json(body)
            kid, named = members["service_kid"], members["origin"]
            key = PublicKey.from_bytes("Ed25519", b64u_decode(members["service_public_b64u"]))
            export_key = VerifierKey.parse(members["export_vkey"])
            officers = members.get("key_approvals", OFFICERS)
            if type(kid) is not str or officers not in (1, OFFICERS):
                raise TypeError
        except (EncodingError, NoteError) as error:
            raise KeyFormatError("genesis.form", error.message) from None
        except (KeyError, TypeError, AttributeError):
            raise KeyFormatError("genesis.form", "a member of the genesis entry is missing") from None
        if origin is not None and named != origin:
            raise KeyFormatError("genesis.origin", f"genesis is of {named!r}, the checkpoint of {origin!r}")
        self.genesis, self.export_key, self.officers = members, export_key, int(officers)
        self.service.begin(str(named), kid, key)
        return members

    def take_event(self, idx: int, event: Event) -> None:
        """Learn from an event whose signature holds; anything but a key event teaches nothing.

        Raises KeyFormatError (key.event, key.station, key.duplicate, key.officers, key.old; key.request and
        key.unknown when an event before it is missing), EnvelopeError (key.proof, key.old_proof and what a malformed proof raises) and EncodingError.
        """
        if event.typ not in KEY_EVENTS:
            return
        try:
            if event.typ in SERVICE_EVENTS:
                self.service.take_event(idx, event)
            elif event.typ in ("key.revoke", "key.compromise"):
                self._end(idx, event)
            else:
                self._begin(idx, event)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise KeyFormatError("key.event", "a member of the key event is missing or malformed") from None

    def service_key(self, kid: str, idx: int) -> PublicKey:
        """Return the service's key valid at log index `idx`; raise EnvelopeError key.unknown | key.revoked."""
        return self.service.public_at(kid, idx)

    def station_key(self, stn: str, kid: str, idx: int) -> PublicKey:
        """Return the station's key valid at log index `idx`.

        Raises EnvelopeError: key.unknown, key.station (it is another station's), key.revoked.
        """
        span = self._spans.get(kid)
        if span is None or span.since_idx >= idx:
            raise EnvelopeError(
                "key.unknown", f"no event before this entry registers key {kid!r} for station {stn}"
            )
        if span.stn != stn:
            raise EnvelopeError("key.station", f"key {kid!r} is registered for station {span.stn}")
        if span.until_idx is not None and span.until_idx < idx:
            raise EnvelopeError("key.revoked", f"key {kid!r} was ended by {span.ended_by}")
        return span.public

    def public_of(self, stn: str, kid: str) -> PublicKey | None:
        """Return the key itself, ended or not: a signature may hold that came too late to count."""
        span = self._spans.get(kid)
        return None if span is None or span.stn != stn else span.public

    def suspect(self, stn: str, kid: str, idx: int) -> bool:
        """Tell whether what this key signed at `idx` may be a thief's, by the events taken so far.

        A key in other hands names what successor its holder likes: suspicion goes on through rotations, and
        ends at a key that two people approved afresh.
        """
        span = self._spans.get(kid)
        if span is None or span.stn != stn or span.suspect_from_idx is None:
            return False
        return idx >= span.suspect_from_idx

    def spans(self, stn: str | None = None) -> list[KeySpan]:
        """Return every key registered (of one station), in order of registration."""
        return [span for span in self._spans.values() if stn is None or span.stn == stn]

    def _begin(self, idx: int, event: Event) -> None:
        data = event.data
        stn, kid = data["stn"], data["kid"]
        public = PublicKey.from_bytes(data["alg"], b64u_decode(data["public_b64u"]))
        if event.subj != f"station:{stn}":
            raise KeyFormatError("key.station", f"the key of station {stn!r} stands on subject {event.subj}")
        verify_key_proof(data["proof"], stn=stn, kid=kid, key=public)
        if event.typ == "key.request":
            self._requests[event.event_id.hex()] = _Request(stn, kid, public, event.act)
            return
        if kid in self._spans:
            raise KeyFormatError("key.duplicate", f"key {kid!r} is registered twice")
        if event.typ == "key.rotate":
            self._succeed(idx, event, KeySpan(stn, kid, public, idx, (event.act,), data["old_kid"]))
        else:
            officers = self._check_officers(event, stn, kid, public)
            self._spans[kid] = KeySpan(stn, kid, public, idx, officers)

    def _check_officers(self, event: Event, stn: str, kid: str, public: PublicKey) -> tuple[str, ...]:
        """Hold the approvals against the request: two people asked and agreed, and the last one acted here."""
        officers = event.data.get("approvals")
        if type(officers) is not list or not all(type(name) is str for name in officers):
            raise KeyFormatError("key.officers", f"key {kid!r} is registered without the officers' approvals")
        if len(set(officers)) < self.officers or len(set(officers)) != len(officers):
            raise KeyFormatError(
                "key.officers", f"key {kid!r} was approved by fewer than {self.officers} people"
            )
        request = self._requests.get(event.data.get("request", ""))
        if request is None:
            raise KeyFormatError("key.request", f"no earlier event asks for key {kid!r}")
        if (request.stn, request.kid, request.public) != (stn, kid, public):
            raise KeyFormatError(
                "key.officers", f"the officers were asked about another key than this {kid!r}"
            )
        if request.act != officers[0] or event.act != officers[-1]:
            raise KeyFormatError("key.officers", f"the approvals of key {kid!r} are not those of its events")
        return tuple(officers)

    def _succeed(self, idx: int, event: Event, span: KeySpan) -> None:
        old = self._spans.get(span.succeeds or "")
        if old is None:
            raise KeyFormatError("key.unknown", f"no earlier event registers key {span.succeeds!r}")
        if old.stn != span.stn or old.until_idx is not None:
            raise KeyFormatError(
                "key.old", f"key {span.succeeds!r} is no live key that {span.kid!r} could follow"
            )
        verify_succession(
            event.data["old_proof"],
            stn=span.stn,
            kid=span.kid,
            key=span.public,
            old_kid=old.kid,
            old_key=old.public,
        )
        self._spans[span.kid] = replace(
            span, suspect_from_idx=old.suspect_from_idx, compromised_kid=old.compromised_kid
        )
        self._spans[old.kid] = replace(old, until_idx=idx, ended_by=_place(event, idx))
        self._followed_by[old.kid] = span.kid

    def _end(self, idx: int, event: Event) -> None:
        kid = event.data["kid"]
        span = self._spans.get(kid)
        if type(kid) is not str or (span is not None and event.subj != f"station:{span.stn}"):
            raise KeyFormatError("key.station", f"key {kid!r} is not one of {event.subj}")
        if span is None:
            raise KeyFormatError("key.unknown", f"no earlier event registers key {kid!r}, which ends here")
        if event.typ == "key.compromise":
            suspect_from_idx = event.data["suspect_from_idx"]
            if type(suspect_from_idx) is not int or suspect_from_idx < 0:
                raise KeyFormatError("key.event", "suspect_from_idx is a log index")
            self._suspect(kid, suspect_from_idx)
        if span.until_idx is None:
            self._spans[kid] = replace(self._spans[kid], until_idx=idx, ended_by=_place(event, idx))

    def _suspect(self, compromised_kid: str, from_idx: int) -> None:
        """Mark a key and those that follow it; where one is suspect from this index already, so are the rest."""
        kid: str | None = compromised_kid
        while kid is not None:
            span = self._spans[kid]
            if span.suspect_from_idx is not None and span.suspect_from_idx <= from_idx:
                return
            self._spans[kid] = replace(span, suspect_from_idx=from_idx, compromised_kid=compromised_kid)
            kid = self._followed_by.get(kid)


def _place(event: Event, idx: int) -> str:
    return f"{event.typ} at idx {idx} ({event.subj} #{event.sseq})"
