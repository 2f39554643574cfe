"""Receipts (c2sp.org/tlog-proof): the proof, for whoever holds the JWS, that the log contains it."""

from dataclasses import dataclass

from emdi.checkpoint import open_checkpoint
from emdi.encoding import b64_decode, b64_encode, parse_uint
from emdi.entry import PREFIX_BYTES, parse_entry
from emdi.errors import EncodingError, ReceiptError
from emdi.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from emdi.policy import Policy

MAX_RECEIPT_BYTES = 1 << 17
MAX_PATH = 63
_MAGIC = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Receipt:
    """`extra` is the 13-byte entry prefix, `checkpoint` the signed note verbatim; nothing is checked yet."""

    extra: bytes
    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """What a verified receipt proves; size and root come from the signed checkpoint."""

    index: int
    size: int
    root: bytes
    recv_ms: int
    kind: int


def format_receipt(receipt: Receipt) -> bytes:
    """Return the tlog-proof file."""
    head = [_MAGIC, f"extra {b64_encode(receipt.extra)}", f"index {receipt.index}"]
    head += [b64_encode(item) for item in receipt.path]
    return ("\n".join(head) + "\n\n").encode() + receipt.checkpoint


def parse_receipt(data: bytes) -> Receipt:
    """Parse a tlog-proof file; raise ReceiptError("receipt.form" | "receipt.size")."""
    if len(data) > MAX_RECEIPT_BYTES:
        raise ReceiptError("receipt.size", "receipt too long")
    head, blank, checkpoint = data.partition(b"\n\n")
    lines = head.split(b"\n")
    if not blank or not checkpoint or len(lines) < 3 or lines[0] != _MAGIC.encode():
        raise ReceiptError("receipt.form", "not a tlog-proof")
    if not lines[1].startswith(b"extra ") or not lines[2].startswith(b"index "):
        raise ReceiptError("receipt.form", "extra and index lines expected")
    try:
        extra, index = b64_decode(lines[1][6:]), parse_uint(lines[2][6:], "receipt.form")
        path = tuple(b64_decode(line) for line in lines[3:])
    except EncodingError as error:
        raise ReceiptError("receipt.form", error.message) from None
    if len(extra) != PREFIX_BYTES or len(path) > MAX_PATH or any(len(item) != HASH_BYTES for item in path):
        raise ReceiptError("receipt.form", "a prefix is 13 bytes, a hash 32, a path at most 63 hashes")
    return Receipt(extra, index, path, checkpoint)


def verify_receipt(receipt_bytes: bytes, jws: bytes, policy: Policy) -> VerifiedReceipt:
    """Check that the log of the policy contains the JWS at the receipt's index.

    Raises ReceiptError, TileError (entry.*), NoteError, PolicyError, ProofError.
    """
    receipt = parse_receipt(receipt_bytes)
    checkpoint, _ = open_checkpoint(receipt.checkpoint, policy)
    entry = parse_entry(receipt.extra + jws)
    leaf = leaf_hash(receipt.extra + jws)
    verify_inclusion(receipt.index, checkpoint.size, leaf, receipt.path, checkpoint.root)
    return VerifiedReceipt(receipt.index, checkpoint.size, checkpoint.root, entry.recv_ms, entry.kind)
