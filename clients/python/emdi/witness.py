"""Requests to witnesses (c2sp.org/tlog-witness): what a log sends, and what a witness checks before it cosigns."""

import hashlib
from dataclasses import dataclass

from emdi.checkpoint import Checkpoint, parse_checkpoint
from emdi.encoding import b64_decode, b64_encode, parse_uint
from emdi.errors import EncodingError, NoteError, ProofError, WitnessError
from emdi.merkle import HASH_BYTES, empty_root, verify_consistency
from emdi.note import MAX_SIGNATURES, Note, VerifierKey, format_note, parse_note, verify_note

MAX_PROOF = 63
MAX_REQUEST_BYTES = 1 << 19  # 100 signatures, some of them ML-DSA-44, and a proof
MAX_ANSWER_BYTES = 1 << 16
SIZE_TYPE = "text/x.tlog.size"


@dataclass(frozen=True, slots=True)
class CosignatureRequest:
    """Ask for a cosignature: `proof` shows that `checkpoint` (a signed note) extends the tree of size `old`."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest tree of a log that a witness has cosigned; size 0 before the first."""

    size: int = 0
    root: bytes = empty_root()


def format_request(request: CosignatureRequest) -> bytes:
    """Return the body of an add-checkpoint call."""
    lines = [f"old {request.old}", *(b64_encode(item) for item in request.proof)]
    return ("\n".join(lines) + "\n\n").encode() + request.checkpoint


def parse_request(data: bytes) -> tuple[CosignatureRequest, Checkpoint]:
    """Parse the body of an add-checkpoint call together with its checkpoint, whose signatures are not checked.

    Raises WitnessError("witness.request") for whatever is not well-formed, and when `old` is above the size.
    """
    if len(data) > MAX_REQUEST_BYTES:
        raise WitnessError("witness.request", "request too long")
    head, blank, note = data.partition(b"\n\n")
    first, *rest = head.split(b"\n")
    if not blank or not first.startswith(b"old ") or len(rest) > MAX_PROOF:
        raise WitnessError("witness.request", "an old size, at most 63 hashes, a blank line and a checkpoint")
    try:
        old, proof = parse_uint(first[4:]), tuple(b64_decode(line) for line in rest)
        checkpoint = parse_checkpoint(parse_note(note).text)
    except (EncodingError, NoteError) as error:
        raise WitnessError("witness.request", error.message) from None
    if any(len(item) != HASH_BYTES for item in proof):
        raise WitnessError("witness.request", "a hash is 32 bytes")
    if old > checkpoint.size:
        raise WitnessError("witness.request", f"old size {old} is above the checkpoint's {checkpoint.size}")
    return CosignatureRequest(old, proof, note), checkpoint


def check_extension(seen: Seen, request: CosignatureRequest, checkpoint: Checkpoint) -> None:
    """Check that the checkpoint extends what the witness has seen.

    Raises WitnessError: witness.conflict (409) when `old` is not the size seen, witness.proof (422) for another
    root at the same size, a proof that does not hold, one from size 0, or an empty tree with another root.
    """
    if request.old != seen.size:
        raise WitnessError("witness.conflict", str(seen.size))
    if checkpoint.size == 0 and checkpoint.root != empty_root():
        raise WitnessError("witness.proof", "the empty tree has another root")
    if seen.size == 0:
        if request.proof:
            raise WitnessError("witness.proof", "from size 0 there is no proof")
        return
    try:
        verify_consistency(seen.size, checkpoint.size, seen.root, checkpoint.root, request.proof)
    except ProofError as error:
        raise WitnessError("witness.proof", error.message) from None


def parse_size(body: bytes) -> int:
    """Read the size in the answer 409 (`<size>` and a newline); raise WitnessError("witness.answer")."""
    try:
        return parse_uint(body.removesuffix(b"\n"))
    except EncodingError as error:
        raise WitnessError("witness.answer", error.message) from None


def take_cosignatures(note: Note, body: bytes, keys: tuple[VerifierKey, ...]) -> tuple[str, ...]:
    """Return the signature lines in the answer 200 that are by these keys over this note, each verified.

    Lines by unknown keys are dropped. Raises WitnessError("witness.answer") when the body is no sequence of
    signature lines, a known key's line does not hold, or none is by a known key.
    """
    if len(body) > MAX_ANSWER_BYTES:
        raise WitnessError("witness.answer", "answer too long")
    try:
        text = body.decode()
        lines = text.removesuffix("\n").split("\n")
        if not text.endswith("\n") or len(lines) > MAX_SIGNATURES:
            raise WitnessError("witness.answer", "not a sequence of signature lines")
        signatures = parse_note(format_note(note.text, [text])).signatures
        verify_note(format_note(note.text, [text]), keys)
    except UnicodeDecodeError:
        raise WitnessError("witness.answer", "not UTF-8") from None
    except NoteError as error:
        raise WitnessError("witness.answer", error.message) from None
    known = {(key.name, key.keyid) for key in keys}
    pairs = zip(lines, signatures, strict=True)
    return tuple(f"{line}\n" for line, item in pairs if (item.name, item.keyid) in known)


def origin_path(origin: str) -> str:
    """Return where a witness publishes what it cosigned last: `<hex SHA-256 of the origin>/checkpoint`."""
    return f"{hashlib.sha256(origin.encode()).hexdigest()}/checkpoint"
