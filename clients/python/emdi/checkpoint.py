"""Checkpoints (c2sp.org/tlog-checkpoint): what a log states about its size and root."""

from dataclasses import dataclass

from emdi.encoding import b64_decode, b64_encode, parse_uint
from emdi.errors import EncodingError, NoteError
from emdi.merkle import HASH_BYTES
from emdi.note import VerifiedNote, check_name
from emdi.policy import Policy


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Origin, size and root of a log."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the three-line note text."""
        return f"{self.origin}\n{self.size}\n{b64_encode(self.root)}\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """Parse a checkpoint text of exactly three lines; raise NoteError("checkpoint.form")."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] != "":
        raise NoteError("checkpoint.form", "a checkpoint has exactly three lines")
    check_name(lines[0])
    try:
        size, root = parse_uint(lines[1], "checkpoint.form"), b64_decode(lines[2])
    except EncodingError as error:
        raise NoteError("checkpoint.form", error.message) from None
    if len(root) != HASH_BYTES:
        raise NoteError("checkpoint.form", "a root is 32 bytes")
    return Checkpoint(lines[0], size, root)


def open_checkpoint(note_bytes: bytes, policy: Policy) -> tuple[Checkpoint, VerifiedNote]:
    """Check a signed checkpoint against the policy and parse it; raise NoteError or PolicyError."""
    note = policy.check(note_bytes)
    return parse_checkpoint(note.text), note
