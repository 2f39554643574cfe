"""Write the log's bundles and tiles to disk (c2sp.org/tlog-tiles), ahead of the checkpoint that covers
them.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from emdi.checkpoint import Checkpoint, parse_checkpoint
from emdi.entry import encode_entry
from emdi.merkle import leaf_hash, root_of
from emdi.note import parse_note
from emdi.tiles import decode_bundle, encode_bundle, entries_path, tile_path
from stackwitness.log.disk import Disk
from stackwitness.log.errors import LogCorrupt, LogForked

TILE = 256
HASH = 32


def publish(conn: sa.Connection, log_dir: Path, size: int) -> None:
    """Write every bundle and tile of the log up to `size` that the published checkpoint does not cover
    yet.
    """
    Publisher(Disk(log_dir)).publish(conn, size)


class Publisher:
    """Keep the unfinished tiles in memory between calls; any error drops them, and the next call reads the
    disk.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._writer: TileWriter | None = None

    def publish(self, conn: sa.Connection, size: int) -> None:
        """Write tiles up to `size`; raises OSError, and LogCorrupt when stored bytes do not give the
        stored leaf.
        """
        writer, self._writer = self._writer, None
        if writer is not None and writer.size == size:  # nothing new: what is on disk is durable already
            self._writer = writer
            return
        if writer is None:
            writer = TileWriter.load(self._disk, published_size(self._disk))
        if writer.size > size:
            raise LogForked(f"{writer.size} entries are on disk, the database has {size}")
        for entry in read_entries(conn, writer.size, size):
            writer.append(entry)
        if writer.size != size:
            raise LogCorrupt(f"log_entry has no row with idx {writer.size}")
        writer.flush()
        self._writer = writer


class TileWriter:
    """Append entries to the tiles of one log; full tiles are written at once, partial ones by `flush`."""

    def __init__(self, disk: Disk, size: int, bundle: list[bytes], levels: list[list[bytes]]) -> None:
        self._disk = disk
        self.size = size
        self._bundle = bundle
        self._levels = levels

    @classmethod
    def load(cls, disk: Disk, size: int) -> "TileWriter":
        """Read the unfinished tiles of a published size."""
        bundle: list[bytes] = []
        if width := size % TILE:
            data = _read_tile(disk, entries_path(size // TILE, width), entries_path(size // TILE))
            bundle = decode_bundle(data)[:width]
        levels: list[list[bytes]] = []
        while total := size >> 8 * len(levels):
            level, (n, width) = len(levels), divmod(total, TILE)
            data = _read_tile(disk, tile_path(level, n, width), tile_path(level, n)) if width else b""
            levels.append([data[HASH * i : HASH * (i + 1)] for i in range(width)])
        return cls(disk, size, bundle, levels)

    def append(self, entry: bytes) -> None:
        """Add one entry; writes each bundle and tile it fills."""
        self._bundle.append(entry)
        if len(self._bundle) == TILE:
            n = self.size // TILE
            self._disk.write(entries_path(n), encode_bundle(self._bundle))
            self._disk.remove_folder(entries_path(n) + ".p")
            self._bundle = []
        self._push(0, self.size, leaf_hash(entry))
        self.size += 1

    def _push(self, level: int, index: int, value: bytes) -> None:
        if level == len(self._levels):
            self._levels.append([])
        hashes = self._levels[level]
        hashes.append(value)
        if len(hashes) == TILE:
            n = index // TILE
            self._disk.write(tile_path(level, n), b"".join(hashes))
            self._disk.remove_folder(tile_path(level, n) + ".p")
            self._levels[level] = []
            self._push(level + 1, n, root_of(hashes))

    def flush(self) -> None:
        """Write the partial tiles of the present size."""
        if self._bundle:
            self._disk.write(entries_path(self.size // TILE, len(self._bundle)), encode_bundle(self._bundle))
        for level, hashes in enumerate(self._levels):
            if hashes:
                n = (self.size >> 8 * level) // TILE
                self._disk.write(tile_path(level, n, len(hashes)), b"".join(hashes))


def read_checkpoint(disk: Disk) -> Checkpoint | None:
    """Return the checkpoint on disk, unverified; None before the first."""
    with contextlib.suppress(FileNotFoundError):
        return parse_checkpoint(parse_note(disk.read("checkpoint")).text)
    return None


def published_size(disk: Disk) -> int:
    """Return how many entries the checkpoint on disk covers; 0 before the first."""
    checkpoint = read_checkpoint(disk)
    return 0 if checkpoint is None else checkpoint.size


def read_entries(conn: sa.Connection, start: int, stop: int) -> Iterator[bytes]:
    """Yield the entries start..stop-1 as hashed, from the one place where the database keeps their bytes.

    Raises LogCorrupt when a row is gone or its bytes no longer give the leaf hash: such bytes are never
    published.
    """
    query = sa.text(
        "SELECT idx, kind, recv_ms, leaf, body FROM log_bytes WHERE idx >= :a AND idx < :b ORDER BY idx"
    )
    rows = conn.execute(query.execution_options(yield_per=1000), {"a": start, "b": stop})
    for idx, row in enumerate(rows, start):
        yield _entry_of(idx, row)


def _entry_of(idx: int, row: sa.Row[Any]) -> bytes:
    if row.idx != idx:
        raise LogCorrupt(f"log_entry has no row with idx {idx}")
    if row.body is None:
        raise LogCorrupt(f"the bytes of entry {idx} are gone from the database")
    entry = encode_entry(row.kind, row.recv_ms, bytes(row.body))
    if leaf_hash(entry) != bytes(row.leaf):
        raise LogCorrupt(f"the bytes of entry {idx} do not give its leaf hash")
    return entry


def _read_tile(disk: Disk, partial: str, full: str) -> bytes:
    try:
        return disk.read(partial)
    except FileNotFoundError:
        return disk.read(full)
