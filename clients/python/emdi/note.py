"""Signed notes (c2sp.org/signed-note) and cosignatures (c2sp.org/tlog-cosignature), both with Ed25519."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from emdi.encoding import b64_decode, b64_encode
from emdi.errors import EncodingError, NoteError

KIND_ED25519 = 1
KIND_COSIGNATURE = 4
MAX_NOTE_BYTES = 1 << 20
MAX_SIGNATURES = 100
_DASH = "\u2014 "


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A verifier key: name, kind (1 signature, 4 cosignature/v1) and 32-byte Ed25519 public key."""

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
        if len(blob) != 33 or blob[0] not in (KIND_ED25519, KIND_COSIGNATURE):
            raise NoteError("note.kind", "only Ed25519 keys (kinds 1 and 4) are supported")
        key = cls(name, blob[0], blob[1:])
        if key.keyid.hex() != keyid:
            raise NoteError("note.vkey", "the key id does not fit name and key")
        try:
            Ed25519PublicKey.from_public_bytes(key.public)
        except ValueError as error:
            raise NoteError("note.vkey", str(error)) from None
        return key

    def format(self) -> str:
        """Return the vkey text."""
        return f"{self.name}+{self.keyid.hex()}+{b64_encode(bytes([self.kind]) + self.public)}"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: key name, key id and the bytes after it; verified only by verify_note."""

    name: str
    keyid: bytes
    blob: bytes


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
    """Sign notes (kind 1) or cosign checkpoints (kind 4) with the Ed25519 key of a 32-byte seed."""

    def __init__(self, name: str, seed: bytes, kind: int = KIND_ED25519) -> None:
        check_name(name)
        if kind not in (KIND_ED25519, KIND_COSIGNATURE):
            raise NoteError("note.kind", "only Ed25519 keys (kinds 1 and 4) are supported")
        if len(seed) != 32:
            raise NoteError("note.seed", "a seed is 32 bytes")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = VerifierKey(name, kind, self._private.public_key().public_bytes_raw())

    @property
    def vkey(self) -> str:
        """Return the text of the verifier key."""
        return self.verifier.format()

    def sign(self, text: str) -> str:
        """Return the signature line, newline included, over a note text that ends in a newline."""
        if self.verifier.kind != KIND_ED25519:
            raise NoteError("note.kind", "a cosigner signs with cosign()")
        _check_text(text)
        return self._line(self._private.sign(text.encode()))

    def cosign(self, text: str, time_s: int) -> str:
        """Return the cosignature/v1 line, newline included, over a checkpoint text at a Unix time in s."""
        if self.verifier.kind != KIND_COSIGNATURE or not 0 <= time_s < 2**63:
            raise NoteError("note.kind", "only a kind 4 key cosigns, at a time >= 0")
        _check_text(text)
        return self._line(time_s.to_bytes(8, "big") + self._private.sign(_cosigned(text, time_s)))

    def _line(self, blob: bytes) -> str:
        return f"{_DASH}{self.verifier.name} {b64_encode(self.verifier.keyid + blob)}\n"


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
    if key.kind == KIND_COSIGNATURE:
        time_s, blob = int.from_bytes(blob[:8], "big"), blob[8:]
        message = _cosigned(text, time_s)
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(blob, message)
    except (InvalidSignature, ValueError):
        raise NoteError("note.signature", f"the signature by {key.name} does not hold") from None
    return time_s


def _cosigned(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


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
