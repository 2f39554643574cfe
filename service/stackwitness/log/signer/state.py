"""What the signer remembers, and how it is read, checked and made anew."""

import base64
from dataclasses import dataclass
from datetime import UTC, date, datetime

from emdi.checkpoint import parse_checkpoint
from emdi.encoding import b64_decode, parse_uint
from emdi.entry import KIND_GENESIS, parse_entry
from emdi.errors import EmdiError
from emdi.merkle import CompactRange, empty_root, leaf_hash
from emdi.note import VerifierKey, verify_note
from emdi.tiles import decode_bundle, entries_path
from stackwitness.log.disk import Disk
from stackwitness.log.errors import SignerRefused, SignerUnavailable

HEADER = "stackwitness signer state v1"
BUNDLE = 256
STATE = "state"


@dataclass(frozen=True)
class SignerState:
    """The last signed note (empty before the first), and the tree's right edge at the last multiple of 256
    below.
    """

    note: bytes
    size: int
    root: bytes
    boundary: int
    hashes: tuple[bytes, ...]

    def format(self) -> bytes:
        """Return the state file's bytes."""
        hashes = [base64.b64encode(item).decode() for item in self.hashes]
        return "\n".join([HEADER, str(self.boundary), *hashes, "", ""]).encode() + self.note


EMPTY = SignerState(b"", 0, empty_root(), 0, ())


def parse_state(data: bytes, keys: list[VerifierKey]) -> SignerState:
    """Read a state file and check the note in it; raises SignerRefused("signer.state")."""
    try:
        head, _, note = data.partition(b"\n\n")
        header, boundary, *hashes = head.decode().split("\n")
        if header != HEADER:
            raise SignerRefused("signer.state", "the state file is of another version")
        start = parse_uint(boundary, "signer.state")
        edge = CompactRange.from_hashes(start, [b64_decode(item) for item in hashes])
        signed = parse_checkpoint(verify_note(note, keys).text) if note else None
    except (EmdiError, ValueError) as error:
        raise SignerRefused("signer.state", f"the state file is damaged: {error}") from None
    size, root = (signed.size, signed.root) if signed else (0, empty_root())
    if start != size - size % BUNDLE:
        raise SignerRefused("signer.state", "the state file's tree does not fit its note")
    return SignerState(note, size, root, start, edge.to_hashes())


def extend(log: Disk, last: SignerState, size: int, root: bytes) -> tuple[int, tuple[bytes, ...]]:
    """Re-hash the bundles from the last boundary on; return the right edge at the new boundary.

    Raises SignerRefused when the old root does not come out at the old size, or the new one at the new.
    """
    tree = CompactRange.from_hashes(last.boundary, last.hashes)
    if tree.size == last.size and tree.root() != last.root:
        raise SignerRefused("signer.state", "the state file's tree does not give the signed root")
    edge = (tree.size, tree.to_hashes())
    for start in range(last.boundary, size, BUNDLE):
        for entry in read_bundle(log, start // BUNDLE, min(BUNDLE, size - start)):
            tree.append(leaf_hash(entry))
            if tree.size == last.size and tree.root() != last.root:
                raise SignerRefused(
                    "signer.rewritten", f"the bundles on disk no longer give the root signed at {last.size}"
                )
        if tree.size % BUNDLE == 0:
            edge = (tree.size, tree.to_hashes())
    if tree.root() != root:
        raise SignerRefused("signer.root", f"the bundles on disk do not give the claimed root at size {size}")
    return edge


def read_bundle(log: Disk, n: int, width: int) -> list[bytes]:
    """Return the first `width` entries of bundle `n`, each checked to be one; raises
    SignerRefused("signer.bundle").
    """
    try:
        try:
            data = log.read(entries_path(n, width))
        except FileNotFoundError:
            data = log.read(entries_path(n))
        entries = decode_bundle(data)[:width]
        for entry in entries:
            parse_entry(entry)
    except FileNotFoundError:
        raise SignerRefused("signer.bundle", f"bundle {n} is missing") from None
    except OSError as error:
        raise SignerUnavailable(f"bundle {n} cannot be read: {error}") from None
    except EmdiError as error:
        raise SignerRefused("signer.bundle", f"bundle {n} is damaged: {error}") from None
    if len(entries) != width:
        raise SignerRefused("signer.bundle", f"bundle {n} has {len(entries)} entries instead of {width}")
    return entries


def adopt_checkpoint(log: Disk, keys: list[VerifierKey], genesis_on: date) -> SignerState:
    """Make a state from the checkpoint and the bundles on disk: the explicit answer to a lost state.

    The checkpoint must bear a signature of these keys, the bundles must give its root, and leaf 0 must be of
    the UTC day that the caller believes the log began. Raises SignerRefused.
    """
    try:
        note = log.read("checkpoint")
        signed = parse_checkpoint(verify_note(note, keys).text)
    except FileNotFoundError:
        raise SignerRefused(
            "signer.no_checkpoint", "there is no checkpoint on disk to take the state from: restore it first"
        ) from None
    except EmdiError as error:
        raise SignerRefused(
            "signer.state", f"the checkpoint on disk was not signed with this key: {error}"
        ) from None
    boundary, hashes = extend(log, EMPTY, signed.size, signed.root)
    began_on = read_genesis_date(log, signed.size)
    if began_on != genesis_on:
        raise SignerRefused("signer.genesis", f"this log began on {began_on}, not on {genesis_on}")
    return SignerState(note, signed.size, signed.root, boundary, hashes)


def read_genesis_date(log: Disk, size: int) -> date:
    """Return the UTC day of leaf 0 in a log of `size` entries; raises SignerRefused("signer.genesis")."""
    first = parse_entry(read_bundle(log, 0, min(BUNDLE, size))[0]) if size else None
    if first is None or first.kind != KIND_GENESIS:
        raise SignerRefused("signer.genesis", "the log on disk does not begin with a leaf 0")
    return datetime.fromtimestamp(first.recv_ms / 1000, UTC).date()
