"""Events: every act of governance as a JWS of the service key, chained per subject; and key proofs."""

import re
from dataclasses import dataclass
from typing import Any

from emdi.encoding import b64u_encode, dump_json, load_json
from emdi.envelope import STN, ZERO_HASH, check_version, take_hash, take_uint
from emdi.errors import EnvelopeError
from emdi.jws import sign_jws, split_jws, verify_signature
from emdi.keys import PublicKey, Signer

__all__ = [
    "TYP_EVENT",
    "Event",
    "parse_event",
    "seal_event",
    "seal_key_proof",
    "seal_succession",
    "verify_key_proof",
    "verify_signature",
    "verify_succession",
]

TYP_EVENT = "emdi-ev+jws"
KEY_PROOF = "key.proof"
_CLAIMS = frozenset({"v", "typ", "subj", "sseq", "sprev", "act", "ts", "ref", "data"})
_TYPE = re.compile(r"[a-z]{1,32}(\.[a-z_]{1,32})?")
SUBJECT = re.compile(r"[a-z]{1,16}(:[A-Za-z0-9._-]{1,64})?")
_ACTOR = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_REF = re.compile(r"[A-Za-z0-9._:/-]{1,128}")


@dataclass(frozen=True, slots=True)
class Event:
    """A parsed event; `event_id` is SHA-256 of the signing input, `sseq` its place in the subject's chain."""

    jws: bytes
    kid: str
    alg: str
    event_id: bytes
    typ: str
    subj: str
    sseq: int
    sprev: bytes
    act: str
    ts_ms: int
    ref: tuple[str | int, ...]
    data: dict[str, Any]


def parse_event(jws: bytes) -> Event:
    """Parse one event strictly; its signature is NOT checked. Raises EnvelopeError and EncodingError."""
    parts = split_jws(jws, TYP_EVENT)
    claims = load_json(parts.payload)
    if type(claims) is not dict or claims.keys() != _CLAIMS:
        raise EnvelopeError("envelope.claims", "claims are exactly v typ subj sseq sprev act ts ref data")
    check_version(claims["v"])
    sseq, sprev, data = take_uint(claims, "sseq"), take_hash(claims["sprev"], "sprev"), claims["data"]
    if sseq == 0 and sprev != ZERO_HASH:
        raise EnvelopeError("envelope.sprev", "sprev of sseq 0 is 32 zero bytes")
    if type(data) is not dict:
        raise EnvelopeError("envelope.data", "data is an object")
    return Event(
        jws=jws,
        kid=parts.header.kid,
        alg=parts.header.alg,
        event_id=parts.signing_id,
        typ=_take_text(claims, "typ", _TYPE),
        subj=_take_text(claims, "subj", SUBJECT),
        sseq=sseq,
        sprev=sprev,
        act=_take_text(claims, "act", _ACTOR),
        ts_ms=take_uint(claims, "ts"),
        ref=_take_refs(claims["ref"]),
        data=data,
    )


def seal_event(
    signer: Signer,
    *,
    typ: str,
    subj: str,
    sseq: int,
    sprev: bytes,
    act: str,
    ts_ms: int,
    ref: tuple[str | int, ...] = (),
    data: dict[str, Any],
) -> Event:
    """Sign an event; what the parser would refuse is refused here, with the same codes."""
    claims = {"v": 1, "typ": typ, "subj": subj, "sseq": sseq, "sprev": b64u_encode(sprev), "act": act}
    claims |= {"ts": ts_ms, "ref": list(ref), "data": data}
    return parse_event(sign_jws(signer, TYP_EVENT, dump_json(claims)))


def seal_key_proof(signer: Signer, stn: str) -> str:
    """Return the JWS by which a new key proves that its holder wants it registered for station `stn`."""
    claims = {"v": 1, "typ": KEY_PROOF, "stn": stn, "kid": signer.kid}
    return sign_jws(signer, TYP_EVENT, dump_json(claims)).decode("ascii")


def verify_key_proof(proof: str, *, stn: str, kid: str, key: PublicKey) -> None:
    """Check a proof of possession: same station, key id and key; raise EnvelopeError("key.proof" | ...)."""
    expected = {"v": 1, "typ": KEY_PROOF, "stn": stn, "kid": kid}
    if STN.fullmatch(stn) is None:
        raise EnvelopeError("key.proof", "the station's id is malformed")
    if not _is_proof(proof, expected, kid, key):
        raise EnvelopeError(
            "key.proof", f"the proof is not for key {kid} of station {stn}, or not signed by it"
        )


def seal_succession(old: Signer, stn: str, kid: str, public: PublicKey) -> str:
    """Return the JWS by which the old key names its successor: key id and public key, so that neither can be
    exchanged.
    """
    claims = _succession(stn, kid, public, old.kid)
    return sign_jws(old, TYP_EVENT, dump_json(claims)).decode("ascii")


def verify_succession(
    proof: str, *, stn: str, kid: str, key: PublicKey, old_kid: str, old_key: PublicKey
) -> None:
    """Check that `old_key` named `key` its successor; raise EnvelopeError("key.old_proof" | ...)."""
    if not _is_proof(proof, _succession(stn, kid, key, old_kid), old_kid, old_key):
        raise EnvelopeError(
            "key.old_proof", f"key {old_kid} did not sign that {kid} of station {stn} follows it"
        )


def _succession(stn: str, kid: str, public: PublicKey, old_kid: str) -> dict[str, Any]:
    return {
        "v": 1,
        "typ": KEY_PROOF,
        "stn": stn,
        "kid": kid,
        "alg": public.alg,
        "public_b64u": b64u_encode(public.raw),
        "succeeds": old_kid,
    }


def _is_proof(proof: str, expected: dict[str, Any], kid: str, key: PublicKey) -> bool:
    parts = split_jws(proof.encode("utf-8", "surrogatepass"), TYP_EVENT)
    claims = load_json(parts.payload)
    check_version(claims.get("v") if isinstance(claims, dict) else None)
    signing_input, _, _ = parts.raw.rpartition(b".")
    named = claims == expected and parts.header.kid == kid and parts.header.alg == key.alg
    return named and key.verify(parts.signature, signing_input)


def _take_text(claims: dict[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = claims[name]
    if type(value) is not str or form.fullmatch(value) is None:
        raise EnvelopeError(f"envelope.{name}", f"{name} is malformed")
    return value


def _take_refs(value: object) -> tuple[str | int, ...]:
    if type(value) is not list or len(value) > 256:
        raise EnvelopeError("envelope.ref", "ref is an array of at most 256 members")
    for item in value:
        if not (type(item) is int and item >= 0) and not (type(item) is str and _REF.fullmatch(item)):
            raise EnvelopeError("envelope.ref", "a reference is a log index or a plain name")
    return tuple(value)
