"""The mirror: a copy of the log in its own layout (c2sp.org/tlog-tiles), durable, and readable at any size."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from emdi.anchor import FOLDER, is_anchor_file
from emdi.errors import TileError
from emdi.tiles import TILE_WIDTH, TileReader, parse_tile_path

CHECKPOINT = "checkpoint"


class Mirror:
    """Files below `root`, as the log serves them below /log; the checkpoint is renamed into place last."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._unsynced: set[Path] = set()
        root.mkdir(parents=True, exist_ok=True)

    def put(self, path: str, data: bytes) -> None:
        """Keep a file; it is durable after the next `sync`. A file of these bytes is left as it is."""
        target = self.root / path
        with contextlib.suppress(FileNotFoundError):
            if target.stat().st_size == len(data) and target.read_bytes() == data:
                return
        self._make_folder(target.parent)
        write_durably(target, data, sync_folder=False)
        self._unsynced.add(target.parent)

    def sync(self) -> None:
        """Make every name given since the last call survive a power cut."""
        for folder in self._unsynced:
            sync_folder(folder)
        self._unsynced.clear()

    def publish(self, note: bytes) -> None:
        """Put a checkpoint over what is kept, once all of it is durable."""
        self.sync()
        write_durably(self.root / CHECKPOINT, note)

    def checkpoint(self) -> bytes | None:
        """Return the checkpoint kept last, None before the first."""
        with contextlib.suppress(FileNotFoundError):
            return (self.root / CHECKPOINT).read_bytes()
        return None

    def read(self, path: str) -> bytes:
        """Return a file, or one that begins with it: the full tile, or the widest partial one kept.

        Raises FileNotFoundError.
        """
        with contextlib.suppress(FileNotFoundError):
            return (self.root / path).read_bytes()
        ref = parse_tile_path(path)
        stem = self.root / path.partition(".p/")[0]
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            return stem.read_bytes()
        widest = max(_widths(stem.with_name(f"{stem.name}.p")), default=0)
        if widest < ref.width:
            raise FileNotFoundError(path)
        return (stem.with_name(f"{stem.name}.p") / str(widest)).read_bytes()

    def tiles(self, size: int) -> TileReader:
        """Return a reader of the first `size` entries kept."""
        return TileReader(self.read, size)

    def drop_partial(self, path: str) -> None:
        """Remove the partial tiles of a tile that is full now."""
        folder = (self.root / path).with_name(f"{Path(path).name}.p")
        for width in _widths(folder):
            (folder / str(width)).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def write_durably(target: Path, data: bytes, *, sync_folder: bool = True) -> None:
    """Replace a file so that a reader, or a restart, sees the old bytes or the new ones and nothing between."""
    draft = target.with_name(f".{target.name}.draft")
    with open(draft, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(target)
    if sync_folder:
        _sync(target.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    _sync(folder)


def servable(path: str) -> bool:
    """Tell whether a path below /log is one the log itself would serve."""
    if path in (CHECKPOINT, "previous/head", "previous/checkpoint") or (
        path.startswith("heads/") and path[6:].isdigit()
    ):
        return True
    if path.startswith(f"{FOLDER}/"):
        return is_anchor_file(path.removeprefix(f"{FOLDER}/"))
    try:
        parse_tile_path(path)
    except TileError:
        return False
    return True


def _widths(folder: Path) -> Iterable[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(name) for name in os.listdir(folder) if name.isdigit() and int(name) < TILE_WIDTH]
    return []


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
