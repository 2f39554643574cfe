"""Signed notes (c2sp.org/signed-note) with Ed25519, cosignatures (c2sp.org/tlog-cosignature) with Ed25519 or
ML-DSA-44.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from emdi.encoding import b64_decode, b64_encode, parse_uint
from emdi.errors import EncodingError, NoteError

try:
    from cryptography.hazmat.primitives.asymmetric import mldsa
except ImportError:  # older builds of cryptography: keys of kind 6 are then refused by name
    mldsa = None  # type: ignore[assignment]

KIND_ED25519 = 1
KIND_COSIGNATURE = 4
KIND_MLDSA = 6
COSIGNING_KINDS = (KIND_COSIGNATURE, KIND_MLDSA)
PUBLIC_BYTES = {KIND_ED25519: 32, KIND_COSIGNATURE: 32, KIND_MLDSA: 1312}
MAX_NOTE_BYTES = 1 << 20
MAX_SIGNATURES = 100
_DASH = "\u2014 "
_NO_MLDSA = "this build of the cryptography library has no ML-DSA-44: key kind 6 cannot be used"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A verifier key: name, kind (1 signature, 4 cosignature/v1, 6 ML-DSA-44 cosignature) and the public
    key (32 bytes, for kind 6 1312).
    """

    name: str
    kind: int
    public: bytes

    @property
    def keyid(self) -> bytes:
        """Return the four bytes that precede each signature by this key."""
        return hashlib.sha256(f"{self.name}\n".encode() + bytes([self.kind]) + self.public).digest()[:4]

    @classmethod
    def parse(cls, vkey: str) -> "VerifierKey":
        """Read `name+hex8+base64`; raise NoteError("note.vkey" | "note.kind")."""
        parts = vkey.split("+", 2)
        if len(parts) != 3:
            raise NoteError("note.vkey", "a vkey is name+id+key")
        name, keyid, encoded = parts
        check_name(name)
        try:
            blob = b64_decode(encoded)
        except EncodingError as error:
            raise NoteError("note.vkey", error.message) from None
        if len(blob) < 2 or PUBLIC_BYTES.get(blob[0]) != len(blob) - 1:
            raise NoteError("note.kind", "only keys of kinds 1, 4 (Ed25519) and 6 (ML-DSA-44) are supported")
        key = cls(name, blob[0], blob[1:])
        if key.keyid.hex() != keyid:
            raise NoteError("note.vkey", "the key id does not fit name and key")
        try:
            key.load()
        except ValueError as error:
            raise NoteError("note.vkey", str(error)) from None
        return key

    def load(self) -> Callable[[bytes, bytes], None]:
        """Return what checks (signature, message) and raises InvalidSignature; ValueError for a bad key,
        NoteError("note.unsupported") where ML-DSA is missing.
        """
        if self.kind != KIND_MLDSA:
            return Ed25519PublicKey.from_public_bytes(self.public).verify
        try:
            if mldsa is not None:
                return mldsa.MLDSA44PublicKey.from_public_bytes(self.public).verify
        except UnsupportedAlgorithm:
            pass
        raise NoteError("note.unsupported", _NO_MLDSA)

    def format(self) -> str:
        """Return the vkey text."""
        return f"{self.name}+{self.keyid.hex()}+{b64_encode(bytes([self.kind]) + self.public)}"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: key name, key id and the bytes after it; verified only by verify_note."""

    name: str
    keyid: bytes
    blob: bytes

    def line(self) -> str:
        """Return the signature line, newline included."""
        return f"{_DASH}{self.name} {b64_encode(self.keyid + self.blob)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A well-formed note whose signatures are not yet checked; `text` ends in a newline."""

    text: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class VerifiedNote:
    """A note and the keys whose signatures hold; `times_s`: Unix time a cosigner stated (0 for kind 1)."""

    text: str
    keys: tuple[VerifierKey, ...]
    times_s: tuple[int, ...]

    @property
    def by(self) -> tuple[str, ...]:
        """Return the names of the keys whose signatures hold."""
        return tuple(key.name for key in self.keys)


class NoteSigner:
    """Sign notes (kind 1) or cosign checkpoints (kinds 4 and 6) with the key of a 32-byte seed."""

    def __init__(self, name: str, seed: bytes, kind: int = KIND_ED25519) -> None:
        check_name(name)
        if kind not in PUBLIC_BYTES:
            raise NoteError("note.kind", "only keys of kinds 1, 4 (Ed25519) and 6 (ML-DSA-44) are supported")
        if len(seed) != 32:
            raise NoteError("note.seed", "a seed is 32 bytes")
        self._sign, public = _load_mldsa(seed) if kind == KIND_MLDSA else _load_ed25519(seed)
        self.verifier = VerifierKey(name, kind, public)

    @property
    def vkey(self) -> str:
        """Return the text of the verifier key."""
        return self.verifier.format()

    def sign(self, text: str) -> str:
        """Return the signature line, newline included, over a note text that ends in a newline."""
        if self.verifier.kind != KIND_ED25519:
            raise NoteError("note.kind", "a cosigner signs with cosign()")
        _check_text(text)
        return self._line(self._sign(text.encode()))

    def cosign(self, text: str, time_s: int) -> str:
        """Return the cosignature line, newline included, over a checkpoint text at a Unix time in s."""
        if self.verifier.kind not in COSIGNING_KINDS or not 0 <= time_s < 2**63:
            raise NoteError("note.kind", "only a key of kind 4 or 6 cosigns, at a time >= 0")
        _check_text(text)
        return self._line(time_s.to_bytes(8, "big") + self._sign(_cosigned(self.verifier, text, time_s)))

    def _line(self, blob: bytes) -> str:
        return Signature(self.verifier.name, self.verifier.keyid, blob).line()


def format_note(text: str, lines: Iterable[str]) -> bytes:
    """Join a note text and its signature lines."""
    _check_text(text)
    return (text + "\n" + "".join(lines)).encode()


def sign_note(text: str, *signers: NoteSigner) -> bytes:
    """Return the note over `text` signed by each kind 1 signer."""
    return format_note(text, [signer.sign(text) for signer in signers])


def parse_note(data: bytes) -> Note:
    """Split a note into text and signatures, checking form only; raise NoteError (note.*)."""
    if len(data) > MAX_NOTE_BYTES:
        raise NoteError("note.size", "note too long")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError:
        raise NoteError("note.utf8", "not UTF-8") from None
    _check_characters(whole)
    split = whole.rfind("\n\n")
    if split < 0 or not whole.endswith("\n"):
        raise NoteError("note.form", "no blank line before the signatures, or no final newline")
    text, lines = whole[: split + 1], whole[split + 2 : -1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError("note.count", f"more than {MAX_SIGNATURES} signatures")
    signatures = tuple(_parse_line(line) for line in lines)
    if len({(item.name, item.keyid) for item in signatures}) != len(signatures):
        raise NoteError("note.duplicate", "two signatures by one key")
    return Note(text, signatures)


def verify_note(data: bytes, keys: Iterable[VerifierKey]) -> VerifiedNote:
    """Check a note against known keys (c2sp.org/signed-note "Verification").

    Signatures by unknown keys are ignored. Raises NoteError: note.signature when that of a known key fails,
    note.unverified when no known key signed.
    """
    note = parse_note(data)
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.keyid), key) != key:
            raise NoteError("note.ambiguous", f"two keys named {key.name} share a key id")
    verified: list[VerifierKey] = []
    times: list[int] = []
    for signature in note.signatures:
        found = known.get((signature.name, signature.keyid))
        if found is not None:
            times.append(_verify(found, signature, note.text))
            verified.append(found)
    if not verified:
        raise NoteError("note.unverified", "no signature by a known key")
    return VerifiedNote(note.text, tuple(verified), tuple(times))


def check_name(name: str) -> None:
    """Refuse a key name that is empty or holds a space, a plus sign or a control character."""
    if not name or "+" in name or any(char.isspace() or ord(char) < 0x20 for char in name):
        raise NoteError("note.name", f"{name!r} is not a key name")


def _verify(key: VerifierKey, signature: Signature, text: str) -> int:
    time_s, blob, message = 0, signature.blob, text.encode()
    if key.kind in COSIGNING_KINDS:
        time_s, blob = int.from_bytes(blob[:8], "big"), blob[8:]
        message = _cosigned(key, text, time_s)
    try:
        key.load()(blob, message)
    except (InvalidSignature, ValueError):
        raise NoteError("note.signature", f"the signature by {key.name} does not hold") from None
    return time_s


def _load_ed25519(seed: bytes) -> tuple[Callable[[bytes], bytes], bytes]:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    return private.sign, private.public_key().public_bytes_raw()


def _load_mldsa(seed: bytes) -> tuple[Callable[[bytes], bytes], bytes]:
    try:
        if mldsa is not None:
            private = mldsa.MLDSA44PrivateKey.from_seed_bytes(seed)
            return private.sign, private.public_key().public_bytes_raw()
    except UnsupportedAlgorithm:
        pass
    raise NoteError("note.unsupported", _NO_MLDSA)


def _cosigned(key: VerifierKey, text: str, time_s: int) -> bytes:
    """Return the bytes a cosigner signs (c2sp.org/tlog-cosignature); kind 6 names the cosigner too."""
    if key.kind == KIND_COSIGNATURE:
        return f"cosignature/v1\ntime {time_s}\n{text}".encode()
    lines = text.split("\n")
    try:
        size, root = parse_uint(lines[1]), b64_decode(lines[2])
    except (EncodingError, IndexError):
        raise NoteError("note.cosigned", "only a checkpoint can be cosigned") from None
    names = [name.encode() for name in (key.name, lines[0])]
    if any(not 1 <= len(name) <= 255 for name in names) or len(root) != 32:
        raise NoteError("note.cosigned", "a cosigned name has 1 to 255 bytes, a root 32")
    cosigner, origin = (bytes([len(name)]) + name for name in names)
    span = bytes(8) + size.to_bytes(8, "big")
    return b"subtree/v1\n\0" + cosigner + time_s.to_bytes(8, "big") + origin + span + root


def _parse_line(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise NoteError("note.line", "a signature line is an em dash, a name and base64")
    check_name(name)
    try:
        blob = b64_decode(encoded)
    except EncodingError as error:
        raise NoteError("note.line", error.message) from None
    if len(blob) < 5:
        raise NoteError("note.line", "signature too short")
    return Signature(name, blob[:4], blob[4:])


def _check_text(text: str) -> None:
    _check_characters(text)
    if not text.endswith("\n"):
        raise NoteError("note.form", "a note text ends in a newline")


def _check_characters(text: str) -> None:
    if any(char < " " and char != "\n" for char in set(text)):
        raise NoteError("note.control", "control character in a note")
