"""The service's own key, which signs events: which one was valid at which log index, and how one follows another.

A succession needs both keys: the event `service.key` is signed by the old one and carries a proof by the new one
that names the old. So a line of keys can be followed forwards from leaf 0 and backwards from the key in use.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from emdi.encoding import b64u_decode, b64u_encode, dump_json, load_json
from emdi.errors import EnvelopeError, KeyFormatError
from emdi.event import TYP_EVENT, Event
from emdi.jws import sign_jws, split_jws, verify_signature
from emdi.keys import PublicKey, Signer

SERVICE_KEY, SERVICE_COMPROMISE = "service.key", "service.compromise"
SERVICE_EVENTS = frozenset({SERVICE_KEY, SERVICE_COMPROMISE})
SERVICE_PROOF = "service.proof"
SUBJECT = "log"


@dataclass(frozen=True, slots=True)
class ServiceSpan:
    """A key of the service: signs entries after `since_idx` up to and including `until_idx` (None: still in use).

    `until_idx` is the index of the event by which `followed_by` took over; what it signed at `suspect_from_idx`
    and later is suspect.
    """

    kid: str
    public: PublicKey
    since_idx: int
    until_idx: int | None = None
    followed_by: str | None = None
    suspect_from_idx: int | None = None


def seal_service_proof(new: Signer, origin: str, old_kid: str, old_public: PublicKey) -> str:
    """Return the JWS by which a new key of the service of log `origin` says which key it follows."""
    return sign_jws(
        new, TYP_EVENT, dump_json(_claims(origin, new.kid, new.public, old_kid, old_public))
    ).decode("ascii")


def verify_service_proof(
    proof: str, *, origin: str, kid: str, key: PublicKey, old_kid: str, old_key: PublicKey
) -> None:
    """Check that `key` says it follows `old_key` in log `origin`; raise EnvelopeError("key.proof" | ...)."""
    parts = split_jws(proof.encode("utf-8", "surrogatepass"), TYP_EVENT)
    signing_input, _, _ = parts.raw.rpartition(b".")
    named = load_json(parts.payload) == _claims(origin, kid, key, old_kid, old_key)
    header = (parts.header.kid, parts.header.alg) == (kid, key.alg)
    if not (named and header and key.verify(parts.signature, signing_input)):
        raise EnvelopeError("key.proof", f"key {kid} did not sign that it follows {old_kid} in log {origin}")


@dataclass
class ServiceKeys:
    """Take leaf 0's key, then the log's events in order; one that breaks a rule is refused and changes nothing."""

    origin: str = ""
    _spans: dict[str, ServiceSpan] = field(default_factory=dict)

    def begin(self, origin: str, kid: str, public: PublicKey) -> None:
        """Take the key that leaf 0 names."""
        self.origin = origin
        self._spans[kid] = ServiceSpan(kid, public, 0)

    def take_event(self, idx: int, event: Event) -> None:
        """Learn from `service.key` or `service.compromise`; the event's own signature is checked here.

        Raises KeyFormatError (key.event, key.duplicate, key.old), EnvelopeError (key.unknown, key.revoked,
        key.proof and what a signature raises); KeyError and TypeError for missing members.
        """
        verify_signature(event, self.public_at(event.kid, idx))
        if event.subj != SUBJECT:
            raise KeyFormatError("key.event", f"{event.typ} stands on subject {event.subj}")
        if event.typ == SERVICE_KEY:
            self._succeed(idx, event)
        else:
            self._suspect(event)

    def public_at(self, kid: str, idx: int) -> PublicKey:
        """Return the key valid at log index `idx`; raise EnvelopeError key.unknown | key.revoked."""
        span = self._spans.get(kid)
        if span is None or span.since_idx >= max(idx, 1):
            raise EnvelopeError(
                "key.unknown", f"nothing before this entry makes {kid!r} a key of the service"
            )
        if span.until_idx is not None and span.until_idx < idx:
            raise EnvelopeError(
                "key.revoked",
                f"the service's key {kid!r} was followed by {span.followed_by!r} at idx {span.until_idx}",
            )
        return span.public

    def suspect(self, kid: str, idx: int) -> bool:
        """Tell whether what this key signed at `idx` may be a thief's, by the events taken so far."""
        span = self._spans.get(kid)
        return span is not None and span.suspect_from_idx is not None and idx >= span.suspect_from_idx

    def spans(self) -> list[ServiceSpan]:
        """Return the service's keys in their order; the last one is in use."""
        return list(self._spans.values())

    def _succeed(self, idx: int, event: Event) -> None:
        data = event.data
        kid, old_kid = data["kid"], data["old_kid"]
        if type(kid) is not str or old_kid != event.kid:
            raise KeyFormatError("key.event", "old_kid is the key that signs the event")
        if kid in self._spans:
            raise KeyFormatError("key.duplicate", f"key {kid!r} is a key of the service already")
        public = PublicKey.from_bytes(data["alg"], b64u_decode(data["public_b64u"]))
        old = self._spans[old_kid]
        names = {"origin": self.origin, "old_kid": old_kid, "old_key": old.public}
        verify_service_proof(data["proof"], kid=kid, key=public, **names)
        self._spans[old_kid] = replace(old, until_idx=idx, followed_by=kid)
        self._spans[kid] = ServiceSpan(kid, public, idx)

    def _suspect(self, event: Event) -> None:
        kid, from_idx = event.data["kid"], event.data["suspect_from_idx"]
        if type(from_idx) is not int or from_idx < 0:
            raise KeyFormatError("key.event", "suspect_from_idx is a log index")
        span = self._spans.get(kid)
        if span is None or span.until_idx is None:
            raise KeyFormatError("key.old", f"key {kid!r} is none that another one followed: rotate first")
        known = span.suspect_from_idx
        self._spans[kid] = replace(span, suspect_from_idx=from_idx if known is None else min(known, from_idx))


def _claims(origin: str, kid: str, public: PublicKey, old_kid: str, old_public: PublicKey) -> dict[str, Any]:
    return {
        "v": 1,
        "typ": SERVICE_PROOF,
        "log": origin,
        "kid": kid,
        "alg": public.alg,
        "public_b64u": b64u_encode(public.raw),
        "succeeds": old_kid,
        "succeeds_public_b64u": b64u_encode(old_public.raw),
    }
