"""The Merkle tree of RFC 6962 section 2.1: roots, inclusion and consistency proofs, and the compact range."""

import hashlib
from collections.abc import Sequence

from emdi.errors import ProofError

HASH_BYTES = 32


def leaf_hash(entry: bytes) -> bytes:
    """Return SHA-256(00 || entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def empty_root() -> bytes:
    """Return the root of the tree without leaves, SHA-256("")."""
    return hashlib.sha256(b"").digest()


class CompactRange:
    """Hold the roots of the complete subtrees over leaves [0, size), largest first: enough to append."""

    def __init__(self, size: int = 0, stack: Sequence[bytes] = ()) -> None:
        if len(stack) != size.bit_count() or any(len(item) != HASH_BYTES for item in stack):
            raise ProofError("merkle.range", "number or length of hashes does not fit the size")
        self.size = size
        self.stack = list(stack)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash at index `size`."""
        node, index = leaf, self.size
        while index & 1:
            node = node_hash(self.stack.pop(), node)
            index >>= 1
        self.stack.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Return the root of the tree over all leaves appended so far."""
        if not self.stack:
            return empty_root()
        node = self.stack[-1]
        for left in reversed(self.stack[:-1]):
            node = node_hash(left, node)
        return node

    def to_hashes(self) -> tuple[bytes, ...]:
        """Return the subtree roots, largest subtree first."""
        return tuple(self.stack)

    @classmethod
    def from_hashes(cls, size: int, hashes: Sequence[bytes]) -> "CompactRange":
        """Restore a range; raise ProofError("merkle.range") when the hashes do not fit the size."""
        return cls(size, hashes)


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the tree root over leaf hashes."""
    tree = CompactRange()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


def split_point(count: int) -> int:
    """Return the largest power of two smaller than `count` (count >= 2)."""
    return int(1 << ((count - 1).bit_length() - 1))


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return PATH(index, leaves), leaf sibling first (RFC 6962 2.1.1)."""
    if not 0 <= index < len(leaves):
        raise ProofError("proof.index", f"index {index} outside a tree of {len(leaves)}")
    if len(leaves) == 1:
        return []
    half = split_point(len(leaves))
    if index < half:
        return [*inclusion_path(leaves[:half], index), root_of(leaves[half:])]
    return [*inclusion_path(leaves[half:], index - half), root_of(leaves[:half])]


def consistency_path(leaves: Sequence[bytes], first: int) -> list[bytes]:
    """Return PROOF(first, leaves): the first `first` leaves are a prefix of the tree (RFC 6962 2.1.2)."""
    if not 0 < first <= len(leaves):
        raise ProofError("proof.size", f"no proof from {first} to {len(leaves)}")
    return _subproof(leaves, first, True)


def _subproof(leaves: Sequence[bytes], first: int, whole: bool) -> list[bytes]:
    if first == len(leaves):
        return [] if whole else [root_of(leaves)]
    half = split_point(len(leaves))
    if first <= half:
        return [*_subproof(leaves[:half], first, whole), root_of(leaves[half:])]
    return [*_subproof(leaves[half:], first - half, False), root_of(leaves[:half])]


def verify_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf` is leaf `index` of the tree (RFC 9162 2.1.3.2).

    `size` and `root` must come from one signature-checked checkpoint: a wrong size can pass this check.
    Raises ProofError: proof.hash, proof.index, proof.length, proof.inclusion.
    """
    _check_hashes([leaf, root, *path])
    if not 0 <= index < size:
        raise ProofError("proof.index", f"index {index} outside a tree of {size}")
    here, last, node = index, size - 1, leaf
    for item in path:
        if last == 0:
            raise ProofError("proof.length", "path too long")
        if here & 1 or here == last:
            node = node_hash(item, node)
            here, last = _climb(here, last)
        else:
            node = node_hash(node, item)
        here >>= 1
        last >>= 1
    if last != 0:
        raise ProofError("proof.length", "path too short")
    if node != root:
        raise ProofError("proof.inclusion", f"leaf {index} is not in the tree of size {size}")


def verify_consistency(first: int, second: int, root1: bytes, root2: bytes, path: Sequence[bytes]) -> None:
    """Check that the tree of size `first` is a prefix of the tree of size `second` (RFC 9162 2.1.4.2).

    Sizes and roots must come from signature-checked checkpoints; from size 0 there is no proof to check.
    Raises ProofError: proof.hash, proof.size, proof.length, proof.consistency.
    """
    _check_hashes([root1, root2, *path])
    if not 0 < first <= second:
        raise ProofError("proof.size", f"no consistency from {first} to {second}")
    if first == second:
        if path or root1 != root2:
            raise ProofError("proof.consistency", "two trees of the same size differ")
        return
    if not path:
        raise ProofError("proof.length", "proof is empty")
    hashes = [root1, *path] if first & (first - 1) == 0 else list(path)
    here, last = first - 1, second - 1
    while here & 1:
        here >>= 1
        last >>= 1
    old = new = hashes[0]
    for item in hashes[1:]:
        if last == 0:
            raise ProofError("proof.length", "proof too long")
        if here & 1 or here == last:
            old, new = node_hash(item, old), node_hash(item, new)
            here, last = _climb(here, last)
        else:
            new = node_hash(new, item)
        here >>= 1
        last >>= 1
    if last != 0:
        raise ProofError("proof.length", "proof too short")
    if old != root1 or new != root2:
        raise ProofError("proof.consistency", f"the tree of {first} is not a prefix of the tree of {second}")


def _climb(here: int, last: int) -> tuple[int, int]:
    """Skip the levels on which this node has no sibling."""
    if not here & 1:
        while here and not here & 1:
            here >>= 1
            last >>= 1
    return here, last


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(item) != HASH_BYTES for item in hashes):
        raise ProofError("proof.hash", "a hash is not 32 bytes")
