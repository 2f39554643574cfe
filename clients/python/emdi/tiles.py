"""Tiles and entry bundles (c2sp.org/tlog-tiles): the log as static files, and proofs read from them."""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from emdi.errors import ProofError, TileError
from emdi.merkle import HASH_BYTES, CompactRange, empty_root, node_hash, split_point

TILE_WIDTH = 256
TILE_HEIGHT = 8
MAX_LEVEL = 63
_CACHED_FILES = 256
_Key = TypeVar("_Key")
_File = TypeVar("_File")
_PATH = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


class TileRef(NamedTuple):
    """What a tile path names: `level` is None for an entry bundle; `width` 1..256 entries."""

    level: int | None
    n: int
    width: int


def tile_path(level: int, n: int, width: int = TILE_WIDTH) -> str:
    """Return `tile/<L>/<N>[.p/<W>]`."""
    if not 0 <= level <= MAX_LEVEL:
        raise TileError("tile.path", f"no level {level}")
    return f"tile/{level}/{_number(n)}{_partial(width)}"


def entries_path(n: int, width: int = TILE_WIDTH) -> str:
    """Return `tile/entries/<N>[.p/<W>]`."""
    return f"tile/entries/{_number(n)}{_partial(width)}"


def parse_tile_path(path: str) -> TileRef:
    """Read a tile path in its only spelling; raise TileError("tile.path")."""
    match = _PATH.fullmatch(path) if path.isascii() and len(path) < 100 else None
    if match is None:
        raise TileError("tile.path", "not a tile path")
    level = None if match[1] == "entries" else int(match[1])
    n = int(match[2].replace("x", "").replace("/", ""))
    width = int(match[3]) if match[3] else TILE_WIDTH
    if n >= 2**63 or (match[3] and width >= TILE_WIDTH) or (level is not None and level > MAX_LEVEL):
        raise TileError("tile.path", "number out of range")
    if path != (entries_path(n, width) if level is None else tile_path(level, n, width)):
        raise TileError("tile.path", "not the canonical tile path")
    return TileRef(level, n, width)


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Return the entry bundle: each entry after its length as two bytes, big-endian."""
    if not 1 <= len(entries) <= TILE_WIDTH or any(not 0 < len(entry) <= 0xFFFF for entry in entries):
        raise TileError("tile.bundle", "a bundle has 1 to 256 entries of 1 to 65535 bytes")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(data: bytes) -> list[bytes]:
    """Split an entry bundle; raise TileError("tile.bundle") when a length overruns or there are over 256."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 >= end or end > len(data) or len(entries) == TILE_WIDTH:
            raise TileError(
                "tile.bundle", f"entry {len(entries)} overruns the bundle, or is empty, or beyond 256"
            )
        entries.append(data[at + 2 : end])
        at = end
    return entries


def widths(size: int) -> list[tuple[int, int, int]]:
    """Return (level, n, width) of every hash tile of a log of this size, lowest level first."""
    tiles: list[tuple[int, int, int]] = []
    level = 0
    while size:
        full, rest = divmod(size, TILE_WIDTH)
        tiles += [(level, n, TILE_WIDTH) for n in range(full)]
        if rest:
            tiles.append((level, full, rest))
        level, size = level + 1, full
    return tiles


class TileReader:
    """Read hashes, entries and proofs of a log of `size` leaves from its static files.

    `read(path)` returns a file or raises FileNotFoundError. Files are not trusted: compare root() with a
    checkpoint.
    """

    def __init__(self, read: Callable[[str], bytes], size: int) -> None:
        self._read = read
        self.size = size
        self._tiles: OrderedDict[tuple[int, int], list[list[bytes]]] = OrderedDict()
        self._bundles: OrderedDict[int, list[bytes]] = OrderedDict()

    def leaf(self, index: int) -> bytes:
        """Return the leaf hash at `index`."""
        self._check_index(index)
        return self._node(0, index)

    def entry(self, index: int) -> bytes:
        """Return the entry at `index`."""
        self._check_index(index)
        return self._bundle(index // TILE_WIDTH)[index % TILE_WIDTH]

    def entries(self, first: int, end: int) -> Iterator[bytes]:
        """Yield entries first..end-1."""
        return (self.entry(index) for index in range(first, end))

    def root(self) -> bytes:
        """Return the tree root."""
        return self._subtree(0, self.size) if self.size else empty_root()

    def root_at(self, size: int) -> bytes:
        """Return the root over the first `size` leaves; raise ProofError("proof.size") beyond the log."""
        if not 0 <= size <= self.size:
            raise ProofError("proof.size", f"no root at {size} of {self.size}")
        return self._subtree(0, size) if size else empty_root()

    def range(self) -> CompactRange:
        """Return the compact range, to append further leaves."""
        return CompactRange(self.size, self._complete(0, self.size))

    def inclusion(self, index: int) -> list[bytes]:
        """Return the inclusion path of leaf `index`, leaf sibling first."""
        self._check_index(index)
        path: list[bytes] = []
        first, end = 0, self.size
        while end - first > 1:
            middle = first + split_point(end - first)
            if index < middle:
                path.append(self._subtree(middle, end))
                end = middle
            else:
                path.append(self._subtree(first, middle))
                first = middle
        return path[::-1]

    def consistency(self, old: int) -> list[bytes]:
        """Return the proof that the first `old` leaves are a prefix of the log (RFC 6962 2.1.2)."""
        if not 0 < old <= self.size:
            raise ProofError("proof.size", f"no proof from {old} to {self.size}")
        path: list[bytes] = []
        first, end, whole = 0, self.size, True
        while old != end:
            middle = first + split_point(end - first)
            if old <= middle:
                path.append(self._subtree(middle, end))
                end = middle
            else:
                path.append(self._subtree(first, middle))
                first, whole = middle, False
        return path[::-1] if whole else [self._subtree(first, end), *path[::-1]]

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.size:
            raise ProofError("proof.index", f"index {index} outside a log of {self.size}")

    def _subtree(self, first: int, end: int) -> bytes:
        """Return the root over leaves first..end-1; 2^k >= count divides `first` for some k."""
        hashes = self._complete(first, end)
        node = hashes[-1]
        for left in reversed(hashes[:-1]):
            node = node_hash(left, node)
        return node

    def _complete(self, first: int, end: int) -> list[bytes]:
        """Return the roots of the complete subtrees covering first..end-1, largest first."""
        hashes: list[bytes] = []
        while first < end:
            height = (end - first).bit_length() - 1
            hashes.append(self._node(height, first >> height))
            first += 1 << height
        return hashes

    def _node(self, height: int, position: int) -> bytes:
        level, layer = divmod(height, TILE_HEIGHT)
        n, inside = divmod(position, TILE_WIDTH >> layer)
        return self._layers(level, n)[layer][inside]

    def _layers(self, level: int, n: int) -> list[list[bytes]]:
        """Return the complete nodes of one tile: its hashes, the nodes above them, and so on."""
        key = (level, n)
        if key not in self._tiles:
            width = self._width(level, n)
            data = self._fetch(level, n, width)
            if len(data) % HASH_BYTES or not width * HASH_BYTES <= len(data) <= TILE_WIDTH * HASH_BYTES:
                raise TileError("tile.size", f"tile {level}/{n} is {len(data)} bytes long")
            layer = [data[at : at + HASH_BYTES] for at in range(0, width * HASH_BYTES, HASH_BYTES)]
            layers = [layer]
            for _ in range(TILE_HEIGHT - 1):
                layer = [node_hash(layer[at], layer[at + 1]) for at in range(0, len(layer) - 1, 2)]
                layers.append(layer)
            _keep(self._tiles, key, layers)
        self._tiles.move_to_end(key)
        return self._tiles[key]

    def _bundle(self, n: int) -> list[bytes]:
        if n not in self._bundles:
            width = self._width(0, n)
            entries = decode_bundle(self._fetch(None, n, width))
            if len(entries) < width:
                raise TileError("tile.size", f"bundle {n} holds {len(entries)} of {width} entries")
            _keep(self._bundles, n, entries)
        self._bundles.move_to_end(n)
        return self._bundles[n]

    def _width(self, level: int, n: int) -> int:
        return min(TILE_WIDTH, (self.size >> (TILE_HEIGHT * level)) - n * TILE_WIDTH)

    def _fetch(self, level: int | None, n: int, width: int) -> bytes:
        try:
            return self._read(_path(level, n, width))
        except FileNotFoundError:
            if width == TILE_WIDTH:
                raise
            # A partial tile may be gone once the full one stands.
            return self._read(_path(level, n, TILE_WIDTH))


def _keep(cache: OrderedDict[_Key, _File], key: _Key, item: _File) -> None:
    cache[key] = item
    if len(cache) > _CACHED_FILES:
        cache.popitem(last=False)


def _path(level: int | None, n: int, width: int) -> str:
    return entries_path(n, width) if level is None else tile_path(level, n, width)


def _number(n: int) -> str:
    if not 0 <= n < 2**63:
        raise TileError("tile.path", f"no tile {n}")
    groups: list[str] = []
    while True:
        n, low = divmod(n, 1000)
        groups.append(f"{low:03d}")
        if not n:
            return "/".join([*(f"x{group}" for group in reversed(groups[1:])), groups[0]])


def _partial(width: int) -> str:
    if not 1 <= width <= TILE_WIDTH:
        raise TileError("tile.path", f"no tile width {width}")
    return "" if width == TILE_WIDTH else f".p/{width}"
