"""Signature keys of stations and of the service: Ed25519 (RFC 8032) and ES256 (RFC 7518 3.4)."""

import os
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from emdi.errors import KeyFormatError

Alg = Literal["Ed25519", "ES256"]
SIGNATURE_BYTES = 64

# Public halves of keys whose private halves are printed in RFCs and public test vectors.
PUBLISHED_TEST_KEYS = frozenset(
    bytes.fromhex(text)
    for text in (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "56ae723251c7d098e2eb9570e7b2f1ef21f88551b68560a66e26f83b55e70456",
        "04f7731b0085e9b76ac2bd7857230a9545659f548a02bf601f4a05212a513442",
        "64848ad8abed6e85981b3b3875b252b8767ebb4b02f703aca3b1e71bbd6a8e50",
        "1a5cd907143c384c41e830c5bce12aa8817ec5649aaabf2c31388b35b2d744d6",
        "047fcdce2770f6c45d4183cbee6fdb4b7b580733357be9ef13bacf6e3c7bd15445"
        "c7f144cd1bbd9b7e872cdfedb9eeb9f4b3695d6ea90b24ad8a4623288588e5ad",
    )
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A verification key: `raw` is 32 bytes (Ed25519) or the 65-byte uncompressed P-256 point (ES256)."""

    alg: Alg
    raw: bytes

    @classmethod
    def from_bytes(cls, alg: str, raw: bytes) -> "PublicKey":
        """Check algorithm, length and (ES256) that the point is on the curve; raise KeyFormatError."""
        if alg not in ("Ed25519", "ES256"):
            raise KeyFormatError("key.alg", f"unknown algorithm {alg!r}")
        key = cls(cast(Alg, alg), bytes(raw))
        _load_public(key)
        return key

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Tell whether the 64-byte signature over `data` holds; never raises for a bad signature."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        public = _load_public(self)
        try:
            if isinstance(public, ed25519.Ed25519PublicKey):
                public.verify(signature, data)
            else:
                r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
                public.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer(Protocol):
    """Whatever can sign for a key id: a key in a file, a secure element, a TPM."""

    @property
    def kid(self) -> str:
        """Name the key."""

    @property
    def public(self) -> PublicKey:
        """Return the verification key."""

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature (ES256 as r||s)."""


PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


class LocalKey:
    """Sign with a private key held in this process and kept in a PKCS8 PEM file of mode 0600."""

    def __init__(self, kid: str, private: PrivateKey) -> None:
        self.kid = kid
        self._private = private
        self.public = _public_of(private)

    @classmethod
    def generate(cls, alg: Alg, kid: str) -> "LocalKey":
        """Make a new key from the operating system's randomness."""
        if alg == "Ed25519":
            return cls(kid, ed25519.Ed25519PrivateKey.generate())
        return cls(kid, ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_seed(cls, seed: bytes, kid: str) -> "LocalKey":
        """Make the Ed25519 key of a 32-byte seed."""
        if len(seed) != 32:
            raise KeyFormatError("key.seed", "a seed is 32 bytes")
        return cls(kid, ed25519.Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load(cls, path: Path, kid: str) -> "LocalKey":
        """Read a PKCS8 PEM file; raise KeyFormatError when it is no usable key or others may read it."""
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise KeyFormatError("key.mode", f"{path} is readable by others; chmod 600 it")
        try:
            private = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise KeyFormatError("key.pem", f"{path}: {error}") from None
        if isinstance(private, ed25519.Ed25519PrivateKey):
            return cls(kid, private)
        if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP256R1):
            return cls(kid, private)
        raise KeyFormatError("key.alg", f"{path} is neither Ed25519 nor P-256")

    def save(self, path: Path) -> None:
        """Write the key as PKCS8 PEM, mode 0600, synced; never overwrites a file."""
        pem = self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature (ES256 as r||s)."""
        if isinstance(self._private, ed25519.Ed25519PrivateKey):
            return self._private.sign(data)
        r, s = decode_dss_signature(self._private.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def refuse_published(public: PublicKey) -> None:
    """Raise KeyFormatError("key.published") for a key whose private half stands in public documents."""
    if public.raw in PUBLISHED_TEST_KEYS:
        raise KeyFormatError("key.published", "this is a published test key: anyone can sign with it")


def _public_of(private: PrivateKey) -> PublicKey:
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return PublicKey("Ed25519", private.public_key().public_bytes_raw())
    point = private.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return PublicKey("ES256", point)


@lru_cache(maxsize=4096)
def _load_public(key: PublicKey) -> ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey:
    try:
        if key.alg == "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(key.raw)
        if len(key.raw) != 65:
            raise KeyFormatError("key.public", "an ES256 key is a 65-byte uncompressed point")
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.raw)
    except ValueError as error:
        raise KeyFormatError("key.public", str(error)) from None
