"""JWS compact serialization (RFC 7515 7.1) in one strict profile: the header is exactly {alg, kid, typ}."""

import hashlib
import re
from functools import lru_cache
from typing import NamedTuple, Protocol

from emdi.encoding import b64u_decode, b64u_encode, dump_json, load_json
from emdi.errors import EncodingError, EnvelopeError
from emdi.keys import SIGNATURE_BYTES, PublicKey, Signer

MAX_JWS_BYTES = 49152
MAX_HEADER_CHARS = 512
KID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Header(NamedTuple):
    """The protected header; there is no other."""

    alg: str
    kid: str
    typ: str


class Jws(NamedTuple):
    """A well-formed JWS whose signature is not yet checked; `signing_id` is SHA-256 of the signing input."""

    raw: bytes
    header: Header
    payload: bytes
    signing_id: bytes
    signature: bytes


class Signed(Protocol):
    """Anything made of a JWS: an envelope, an event."""

    @property
    def jws(self) -> bytes:
        """Return the exact JWS bytes."""

    @property
    def alg(self) -> str:
        """Return the algorithm the header names."""


def split_jws(raw: bytes, typ: str) -> Jws:
    """Take a JWS apart without checking its signature.

    Raises EnvelopeError: envelope.size, envelope.form, envelope.base64, envelope.header, envelope.typ.
    """
    if len(raw) > MAX_JWS_BYTES:
        raise EnvelopeError("envelope.size", f"{len(raw)} bytes, at most {MAX_JWS_BYTES} allowed")
    parts = raw.split(b".")
    if len(parts) != 3:
        raise EnvelopeError("envelope.form", "not three parts joined by dots")
    header = _parse_header(parts[0])
    if header.typ != typ:
        raise EnvelopeError("envelope.typ", f"typ is {header.typ!r}, not {typ!r}")
    signature = _decode(parts[2])
    if len(signature) != SIGNATURE_BYTES:
        raise EnvelopeError("envelope.signature", "a signature is 64 bytes")
    signing_id = hashlib.sha256(raw[: len(parts[0]) + 1 + len(parts[1])]).digest()
    return Jws(raw, header, _decode(parts[1]), signing_id, signature)


def sign_jws(signer: Signer, typ: str, payload: bytes) -> bytes:
    """Return the compact JWS over the payload bytes, header members in the order alg, kid, typ."""
    header = dump_json({"alg": signer.public.alg, "kid": signer.kid, "typ": typ})
    signing_input = f"{b64u_encode(header)}.{b64u_encode(payload)}".encode("ascii")
    return signing_input + b"." + b64u_encode(signer.sign(signing_input)).encode("ascii")


def verify_signature(signed: Signed, key: PublicKey) -> None:
    """Check the signature under the registered key.

    Raises EnvelopeError: envelope.alg, envelope.signature.
    """
    if signed.alg != key.alg:
        raise EnvelopeError("envelope.alg", f"signed with {signed.alg}, the key is registered for {key.alg}")
    signing_input, _, signature = signed.jws.rpartition(b".")
    if not key.verify(b64u_decode(signature), signing_input):
        raise EnvelopeError("envelope.signature", "the signature does not hold")


def _decode(part: bytes) -> bytes:
    try:
        return b64u_decode(part)
    except EncodingError as error:
        raise EnvelopeError("envelope.base64", error.message) from None


# A station repeats one header for ever, hence the cache.
@lru_cache(maxsize=1024)
def _parse_header(part: bytes) -> Header:
    if len(part) > MAX_HEADER_CHARS:
        raise EnvelopeError("envelope.header", "header too long")
    members = load_json(_decode(part))
    if not isinstance(members, dict) or members.keys() != {"alg", "kid", "typ"}:
        raise EnvelopeError("envelope.header", "the header holds exactly alg, kid and typ")
    alg, kid, typ = members["alg"], members["kid"], members["typ"]
    if alg not in ("Ed25519", "ES256"):
        raise EnvelopeError("envelope.alg", f"algorithm {alg!r} is not Ed25519 or ES256")
    if not isinstance(kid, str) or KID.fullmatch(kid) is None:
        raise EnvelopeError("envelope.kid", "kid is 1 to 64 of A-Z a-z 0-9 . _ -")
    if not isinstance(typ, str):
        raise EnvelopeError("envelope.typ", "typ is not a string")
    return Header(alg, kid, typ)
