"""Envelopes: what a station signs, a JWS over its place in the station's chain and a pack of readings."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from emdi.columns import Columns, columns_of, read_spelled
from emdi.encoding import b64u_decode, b64u_encode, dump_json, load_flat_json
from emdi.errors import EncodingError, EnvelopeError
from emdi.jws import KID, MAX_JWS_BYTES, Jws, sign_jws, split_jws, verify_signature
from emdi.keys import Signer
from emdi.pack import Record, format_pack, parse_pack

__all__ = [
    "MAX_JWS_BYTES",
    "TYP_READING",
    "ZERO_HASH",
    "Envelope",
    "Skip",
    "env_id_of",
    "parse_columns",
    "parse_envelope",
    "seal_envelope",
    "verify_signature",
]

TYP_READING = "emdi-rd+jws"
STN = KID
ZERO_HASH = bytes(32)
_REQUIRED = frozenset({"v", "stn", "ep", "seq", "prev", "iat", "cp", "p"})
_WITH_SKIP = _REQUIRED | {"skip"}
SKIP_WHY = re.compile(r"[A-Za-z0-9 ._-]{1,64}")


class Skip(NamedTuple):
    """The station admits that it lost envelopes `first`..`last` of this epoch."""

    first: int
    last: int
    why: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed envelope; `env_id` is SHA-256 of the signing input, `cp` the last checkpoint verified."""

    jws: bytes
    kid: str
    alg: str
    typ: str
    payload: bytes
    env_id: bytes
    stn: str
    ep: int
    seq: int
    prev: bytes
    iat_ms: int
    cp: tuple[int, bytes] | None
    skip: Skip | None
    records: tuple[Record, ...]


def parse_envelope(jws: bytes) -> Envelope:
    """Parse one envelope strictly; its signature is NOT checked (see verify_signature).

    Raises EnvelopeError (envelope.*), EncodingError (json.*), PackError (pack.*).
    """
    parts = split_jws(jws, TYP_READING)
    claims = load_flat_json(parts.payload)
    envelope = _take_claims(parts, claims)
    return replace(envelope, payload=parts.payload, records=parse_pack(claims["p"], envelope.stn))


def parse_columns(jws: bytes) -> tuple[Envelope, Columns]:
    """Parse one envelope exactly as `parse_envelope`, its readings as columns; leaves `records` and `payload`
    empty.

    Raises as `parse_envelope`, in the same order.
    """
    parts = split_jws(jws, TYP_READING)
    spelled = read_spelled(parts.payload)
    if spelled is not None:
        claims, columns = spelled
        return _take_claims(parts, claims), columns
    claims = load_flat_json(parts.payload)
    envelope = _take_claims(parts, claims)
    return envelope, columns_of(parse_pack(claims["p"], envelope.stn))


def _take_claims(parts: Jws, claims: Any) -> Envelope:
    """Return the envelope of these claims, without payload and pack."""
    if type(claims) is not dict or (claims.keys() != _REQUIRED and claims.keys() != _WITH_SKIP):
        raise EnvelopeError(
            "envelope.claims", "claims are exactly v stn ep seq prev iat cp p, and maybe skip"
        )
    check_version(claims["v"])
    stn = claims["stn"]
    if type(stn) is not str or STN.fullmatch(stn) is None:
        raise EnvelopeError("envelope.stn", "stn is 1 to 64 of A-Z a-z 0-9 . _ -")
    seq, prev = take_uint(claims, "seq"), take_hash(claims["prev"], "prev")
    skip = _take_skip(claims["skip"], seq) if "skip" in claims else None
    if seq == 0 and prev != ZERO_HASH:
        raise EnvelopeError("envelope.prev", "prev of seq 0 is 32 zero bytes")
    return Envelope(
        jws=parts.raw,
        kid=parts.header.kid,
        alg=parts.header.alg,
        typ=parts.header.typ,
        payload=b"",
        env_id=parts.signing_id,
        stn=stn,
        ep=take_uint(claims, "ep"),
        seq=seq,
        prev=prev,
        iat_ms=take_uint(claims, "iat"),
        cp=_take_checkpoint(claims["cp"]),
        skip=skip,
        records=(),
    )


def seal_envelope(
    signer: Signer,
    *,
    stn: str,
    ep: int,
    seq: int,
    prev: bytes,
    iat_ms: int,
    cp: tuple[int, bytes] | None,
    records: Sequence[Record],
    skip: Skip | None = None,
) -> Envelope:
    """Sign readings into an envelope; what the parser would refuse is refused here, with the same codes."""
    claims: dict[str, Any] = {
        "v": 1,
        "stn": stn,
        "ep": ep,
        "seq": seq,
        "prev": b64u_encode(prev),
        "iat": iat_ms,
    }
    claims["cp"] = None if cp is None else [cp[0], b64u_encode(cp[1])]
    if skip is not None:
        claims["skip"] = {"from": skip.first, "to": skip.last, "why": skip.why}
    payload = dump_json(claims)[:-1] + b',"p":' + format_pack(stn, records) + b"}"
    return parse_envelope(sign_jws(signer, TYP_READING, payload))


def env_id_of(jws: bytes) -> bytes:
    """Return SHA-256 of the JWS signing input, the envelope's name in chain and log."""
    return hashlib.sha256(jws.rpartition(b".")[0]).digest()


def check_version(version: object) -> None:
    """Refuse any version but the integer 1."""
    if type(version) is not int or version != 1:
        raise EnvelopeError("envelope.v", "v is 1")


def take_uint(claims: dict[str, Any], name: str) -> int:
    """Return the claim as an integer >= 0; raise EnvelopeError("envelope.<name>")."""
    value = claims[name]
    if type(value) is not int or value < 0:
        raise EnvelopeError(f"envelope.{name}", f"{name} is not an integer >= 0")
    return value


def take_hash(text: object, name: str) -> bytes:
    """Return 32 bytes from canonical base64url; raise EnvelopeError("envelope.<name>")."""
    if type(text) is str and len(text) == 43:
        try:
            return b64u_decode(text)
        except EncodingError:
            pass
    raise EnvelopeError(f"envelope.{name}", f"{name} is not a base64url SHA-256")


def _take_checkpoint(value: object) -> tuple[int, bytes] | None:
    if value is None:
        return None
    if type(value) is not list or len(value) != 2 or type(value[0]) is not int or value[0] < 1:
        raise EnvelopeError("envelope.cp", "cp is null or [size, root]")
    return value[0], take_hash(value[1], "cp")


def _take_skip(value: object, seq: int) -> Skip:
    if type(value) is not dict or value.keys() != {"from", "to", "why"}:
        raise EnvelopeError("envelope.skip", "skip is {from, to, why}")
    first, last, why = take_uint(value, "from"), take_uint(value, "to"), value["why"]
    if not first <= last or seq != last + 1:
        raise EnvelopeError("envelope.skip", "seq is the one after skip.to, and from <= to")
    if type(why) is not str or SKIP_WHY.fullmatch(why) is None:
        raise EnvelopeError("envelope.skip", "why is 1 to 64 plain characters")
    return Skip(first, last, why)
