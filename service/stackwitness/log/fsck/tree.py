"""Four witnesses for each leaf (bundle, tile, log_entry.leaf, stored bytes), and the tree over what most
say.
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emdi.checkpoint import Checkpoint
from emdi.entry import encode_entry, parse_entry
from emdi.errors import EmdiError
from emdi.merkle import HASH_BYTES, CompactRange, leaf_hash, root_of
from emdi.tiles import TILE_WIDTH, decode_bundle, entries_path, tile_path
from stackwitness.log.disk import Disk
from stackwitness.log.fsck.naming import name_body
from stackwitness.log.fsck.report import Report
from stackwitness.log.fsck.rows import TABLES, StoredRow

MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Leaf:
    """One entry as the log has it: bytes (None when no copy gives the leaf hash) and hash."""

    idx: int
    entry: bytes | None
    hash: bytes


class DiskTiles:
    """Read bundles and level-0 tiles of the published size; what is missing or damaged becomes a finding."""

    def __init__(self, disk: Disk, size: int, report: Report, stored: int = 0) -> None:
        self._disk = disk
        self._report = report
        self.size = self._find_end(size, stored)

    def _find_end(self, size: int, stored: int) -> int:
        """Return the published size, or where the files end that the database (`stored` entries) knows nothing of:
        a checkpoint may claim any size, and is not believed here without its files.
        """
        n = stored // TILE_WIDTH
        while n * TILE_WIDTH < size:
            width = min(TILE_WIDTH, size - n * TILE_WIDTH)
            if not any(
                (self._disk.root / path).exists() for path in (entries_path(n, width), entries_path(n))
            ):
                gone = f"the published entries from {n * TILE_WIDTH} to {size - 1} are gone"
                self._report.miss("disk.missing", "disk", entries_path(n, width), gone, n * TILE_WIDTH)
                return max(min(stored, size), n * TILE_WIDTH)
            n += 1
        return size

    @property
    def folder(self) -> Path:
        """Where the log is published."""
        return self._disk.root

    def bundle(self, n: int) -> list[bytes | None]:
        """Return the entries of bundle `n`, None for each that cannot be read."""
        width = min(TILE_WIDTH, self.size - n * TILE_WIDTH)
        data = self.read(entries_path(n, width), entries_path(n))
        try:
            found: list[bytes | None] = [*decode_bundle(data or b"")[:width]]
        except EmdiError as error:
            self._report.tamper("disk.bundle", "disk", entries_path(n, width), str(error), n * TILE_WIDTH)
            found = []
        return found + [None] * (width - len(found))

    def hashes(self, level: int, n: int, width: int) -> list[bytes | None]:
        """Return the hashes of one tile, None for each that cannot be read."""
        data = self.read(tile_path(level, n, width), tile_path(level, n)) or b""
        found: list[bytes | None] = []
        found += [
            data[at : at + HASH_BYTES] for at in range(0, min(len(data), HASH_BYTES * width), HASH_BYTES)
        ]
        return found + [None] * (width - len(found))

    def read(self, path: str, full: str) -> bytes | None:
        """Return a file or the full one in its place; a missing one is a finding."""
        for name in (path, full):
            try:
                return read_plain(self._disk, name)
            except OSError:
                continue
        self._report.miss("disk.missing", "disk", path, "the file is gone")
        return None


def read_plain(disk: Disk, path: str) -> bytes:
    """Return a file's bytes, if it is a file and no larger than any of ours; raises OSError.

    A pipe in its place would keep the checker waiting for ever, a sparse file would fill its memory.
    """
    place = disk.root / path
    if not place.is_file() or place.stat().st_size > MOST_BYTES:
        raise FileNotFoundError(path)
    return disk.read(path)


class Tree:
    """Grow the tree leaf by leaf; compare every tile above level 0, and the roots at the sizes that were
    signed.
    """

    def __init__(self, tiles: DiskTiles, report: Report) -> None:
        self.range = CompactRange()
        self.roots: dict[int, bytes] = {}
        self._wanted: set[int] = set()
        self._sizes: list[int] = []
        self._tiles = tiles
        self._report = report
        self._levels: list[list[bytes]] = []

    def want(self, sizes: Sequence[int]) -> None:
        """Remember the roots at these sizes."""
        self._wanted |= set(sizes)
        self._sizes = sorted(self._wanted)
        if 0 in self._wanted:
            self.roots[0] = self.range.root()

    def add(self, leaf: bytes) -> None:
        """Add the next leaf hash."""
        idx = self.range.size
        self.range.append(leaf)
        if self.range.size in self._wanted:
            self.roots[self.range.size] = self.range.root()
        if idx < self._tiles.size:
            self._push(0, idx, leaf)

    def add_tile(self, leaves: bytes) -> None:
        """Add the 256 leaf hashes of one published tile, in a third of the time of adding each."""
        start = self.range.size
        if start % TILE_WIDTH or start + TILE_WIDTH > self._tiles.size:
            for at in range(0, len(leaves), HASH_BYTES):
                self.add(leaves[at : at + HASH_BYTES])
            return
        levels = subtree_levels(leaves)
        for size in self._sizes[
            bisect_right(self._sizes, start) : bisect_left(self._sizes, start + TILE_WIDTH)
        ]:
            inside = [levels[k][((size - start) >> k) - 1] for k in range(7, -1, -1) if size - start >> k & 1]
            self.roots[size] = CompactRange.from_hashes(size, (*self.range.stack, *inside)).root()
        tiles = CompactRange.from_hashes(start // TILE_WIDTH, self.range.stack)
        tiles.append(levels[8][0])
        self.range = CompactRange.from_hashes(start + TILE_WIDTH, tiles.stack)
        if self.range.size in self._wanted:
            self.roots[self.range.size] = self.range.root()
        if not self._levels:
            self._levels.append([])
        self._push(1, start // TILE_WIDTH, levels[8][0])

    def close(self) -> None:
        """Compare the partial tiles of the published size."""
        for level, hashes in enumerate(self._levels):
            if level and hashes:
                self._compare(level, (self._tiles.size >> 8 * level) // TILE_WIDTH, hashes)

    def _push(self, level: int, index: int, value: bytes) -> None:
        if level == len(self._levels):
            self._levels.append([])
        hashes = self._levels[level]
        hashes.append(value)
        if len(hashes) == TILE_WIDTH:
            n = index // TILE_WIDTH
            if level:
                self._compare(level, n, hashes)
            self._levels[level] = []
            self._push(level + 1, n, root_of(hashes))

    def _compare(self, level: int, n: int, hashes: list[bytes]) -> None:
        stored = self._tiles.hashes(level, n, len(hashes))
        span = TILE_WIDTH**level
        for place, (here, there) in enumerate(zip(hashes, stored, strict=True)):
            if there is not None and here != there:
                first = (n * TILE_WIDTH + place) * span
                text = f"the hash over entries {first}..{first + span - 1} does not fit them"
                self._report.tamper("disk.tile", "disk", tile_path(level, n, len(hashes)), text, first)


def subtree_levels(leaves: bytes) -> list[list[bytes]]:
    """Return the hashes of the complete subtrees over 256 leaf hashes: 256 leaves, 128 pairs, ..., the one root."""
    sha256 = hashlib.sha256  # node_hash's call alone costs a third of a million hashes
    levels = [[leaves[at : at + HASH_BYTES] for at in range(0, len(leaves), HASH_BYTES)]]
    while len(levels[-1]) > 1:
        below = iter(levels[-1])
        levels.append(
            [sha256(b"\x01" + left + right).digest() for left, right in zip(below, below, strict=True)]
        )
    return levels


def settle_leaf(
    idx: int, bundle: bytes | None, tile: bytes | None, row: StoredRow | None, report: Report
) -> Leaf | None:
    """Let the copies of one leaf vote, and name those that disagree; None when there is no copy at all."""
    stored = None if row is None or row.body is None else stored_entry(row)
    votes = {
        "bundle": None if bundle is None else leaf_hash(bundle),
        "tile": tile,
        "leaf": None if row is None else row.leaf,
        "stored": None if stored is None else leaf_hash(stored),
    }
    if len(set(votes.values())) == 1 and votes["leaf"] is not None:
        return Leaf(idx, bundle, votes["leaf"])
    counted = Counter(vote for vote in votes.values() if vote is not None)
    if not counted:
        report.miss("log_entry.missing", "log_entry", str(idx), "no copy of the entry is left", idx)
        return None
    # most_common keeps first-seen order among equals: of two against two, the disk is believed.
    truth = counted.most_common(1)[0][0]
    name = name_entry(bundle if votes["bundle"] == truth else stored, row)
    if votes["bundle"] not in (truth, None):
        report.tamper(
            "disk.bundle", "disk", entries_path(idx // TILE_WIDTH), f"{name} was edited on disk", idx
        )
    if votes["tile"] not in (truth, None):
        text = f"the hash of {name} was edited on disk"
        report.tamper("disk.tile", "disk", tile_path(0, idx // TILE_WIDTH), text, idx)
    if row is None:
        report.miss("log_entry.missing", "log_entry", str(idx), f"the row of {name} is gone", idx)
    else:
        _compare_row(idx, row, votes, truth, name, report)
    kept = bundle if votes["bundle"] == truth else stored if votes["stored"] == truth else None
    return Leaf(idx, kept, truth)


def _compare_row(
    idx: int, row: StoredRow, votes: dict[str, bytes | None], truth: bytes, name: str, report: Report
) -> None:
    table = TABLES.get(row.kind, "log_entry")
    if row.leaf != truth:
        report.tamper("log_entry.leaf", "log_entry", str(idx), f"the leaf hash of {name} was edited", idx)
    if row.body is None:
        report.miss(f"{table}.missing", table, row.entry_id.hex(), f"the row of {name} is gone", idx)
    elif votes["stored"] != truth:
        text = f"the stored bytes of {name} are not those that were logged"
        report.tamper(f"{table}.edited", table, row.entry_id.hex(), text, idx)


def stored_entry(row: StoredRow) -> bytes | None:
    """Return the entry the database's own columns make; None when they make none."""
    try:
        return encode_entry(row.kind, row.recv_ms, bytes(row.body or b""))
    except EmdiError:
        return None


def name_entry(entry: bytes | None, row: StoredRow | None) -> str:
    """Name an entry for people: what kind, whose, which number."""
    if entry is not None:
        try:
            parsed = parse_entry(entry)
            return name_body(parsed.kind, parsed.body)
        except EmdiError:
            pass
    return "an entry" if row is None else f"{TABLES.get(row.kind, 'entry')} {row.entry_id.hex()[:16]}"


def check_roots(
    tree: Tree, checkpoint: Checkpoint | None, heads: list[tuple[int, int, bytes]], report: Report
) -> None:
    """Compare the tree with the signed checkpoint and with every row of log_head."""
    if checkpoint is not None and tree.roots.get(checkpoint.size) != checkpoint.root:
        text = f"the entries do not give the root that was signed at size {checkpoint.size}"
        report.tamper("checkpoint.root", "disk", "checkpoint", text)
    previous = 0
    for size, prev, root in heads:
        if prev != previous:
            report.miss(
                "log_head.missing", "log_head", str(size), f"follows {prev}, the row before is {previous}"
            )
        if tree.roots.get(size) != root:
            report.tamper("log_head.root", "log_head", str(size), "the entries do not give this root")
        previous = size
    if previous != tree.range.size:
        text = f"log_head ends at {previous}, the log has {tree.range.size} entries"
        report.miss("log_head.missing", "log_head", str(previous), text)
