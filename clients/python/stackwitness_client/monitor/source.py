"""What a monitor reads: a log over HTTP or in a folder, and its tiles once a signed root vouches for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from emdi.checkpoint import Checkpoint
from emdi.errors import EmdiError, TileError
from emdi.merkle import HASH_BYTES, leaf_hash, root_of
from emdi.tiles import TILE_HEIGHT, TILE_WIDTH, TileReader, decode_bundle, entries_path, tile_path
from stackwitness_client.errors import ClientError
from stackwitness_client.http import ServerLink

Read = Callable[[str], bytes]


class Source(Protocol):
    """Where a log's files come from."""

    name: str

    def read(self, path: str) -> bytes:
        """Return the file at this path below /log; raise FileNotFoundError, or ServerError when unreachable."""


class HttpSource:
    """A log, or a mirror of one, behind a URL (without /log)."""

    def __init__(self, link: ServerLink) -> None:
        self.name = link.url
        self._link = link

    def read(self, path: str) -> bytes:
        """Fetch /log/<path>."""
        return self._link.tile(path)


class FolderSource:
    """A mirror's folder, or the log's own."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder

    def read(self, path: str) -> bytes:
        """Read the file below the folder."""
        try:
            return (self._folder / path).read_bytes()
        except (NotADirectoryError, IsADirectoryError):
            raise FileNotFoundError(path) from None


class TilesDiffer(ClientError):
    """Say that files served do not give the signed root; `idx` and `served` when it is one entry."""

    def __init__(self, message: str, idx: int | None = None, leaf: bytes = b"", served: bytes = b"") -> None:
        super().__init__("monitor.tiles", message)
        self.idx = idx
        self.leaf = leaf
        self.served = served


class TrustedTiles:
    """The tiles of one signed tree, each held against the hash above it up to the root before it is used.

    `keep(path, data)` is given every tile that held. Raises TilesDiffer for one that does not, and
    FileNotFoundError for one that is not served.
    """

    def __init__(self, read: Read, tree: Checkpoint, keep: Callable[[str, bytes], None]) -> None:
        self._read = read
        self._keep = keep
        self.tree = tree
        self._edge: dict[int, list[bytes]] = {}
        self._last: dict[int, tuple[int, list[bytes]]] = {}
        self.reader = TileReader(read, tree.size)
        self._take_edge()

    def hashes(self, level: int, n: int) -> list[bytes]:
        """Return the hashes of a tile of this tree."""
        width = min(TILE_WIDTH, (self.tree.size >> TILE_HEIGHT * level) - n * TILE_WIDTH)
        if width < TILE_WIDTH:
            return self._edge[level]
        if self._last.get(level, (-1, []))[0] != n:
            above = self.hashes(level + 1, n // TILE_WIDTH)[n % TILE_WIDTH]
            found = _split(self._read(tile_path(level, n)))
            if len(found) != TILE_WIDTH or root_of(found) != above:
                raise TilesDiffer(f"tile {tile_path(level, n)} is not what the tile above it says")
            self._last[level] = (n, found)
            self._keep(tile_path(level, n), b"".join(found))
        return self._last[level][1]

    def entries(self, n: int) -> list[bytes]:
        """Return the entries of bundle `n` of this tree, each hashed and held against its leaf."""
        hashes = self.hashes(0, n)
        try:
            entries = decode_bundle(self._fetch(entries_path(n, len(hashes)), entries_path(n)))[: len(hashes)]
        except TileError as error:
            raise TilesDiffer(f"bundle {n} cannot be read: {error.message}") from None
        for at, leaf in enumerate(hashes):
            if at >= len(entries) or leaf_hash(entries[at]) != leaf:
                idx, served = n * TILE_WIDTH + at, entries[at] if at < len(entries) else b""
                raise TilesDiffer(
                    f"entry {idx} is served with other bytes than the log holds", idx, leaf, served
                )
        return entries

    def _take_edge(self) -> None:
        """Take the partial tiles of the right edge: together they give the root."""
        kept: dict[str, bytes] = {}

        def remember(path: str) -> bytes:
            kept[path] = self._read(path)
            return kept[path]

        try:
            root = TileReader(remember, self.tree.size).root()
        except EmdiError as error:
            raise TilesDiffer(f"the tiles cannot be read: {error}") from None
        if root != self.tree.root:
            raise TilesDiffer(f"the tiles of size {self.tree.size} do not give the signed root")
        size, level = self.tree.size, 0
        while size:
            n, width = divmod(size, TILE_WIDTH)
            if width:
                path = tile_path(level, n, width)
                data = (kept.get(path) or kept[tile_path(level, n)])[: width * HASH_BYTES]
                self._edge[level] = _split(data)
                self._keep(path, data)
            size, level = n, level + 1

    def _fetch(self, path: str, full: str) -> bytes:
        try:
            return self._read(path)
        except FileNotFoundError:
            return self._read(full)


def _split(data: bytes) -> list[bytes]:
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
