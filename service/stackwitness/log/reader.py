"""Read the published log: checkpoint, tiles, proofs and receipts, each from one snapshot."""

import contextlib
import threading
import time
from collections import OrderedDict
from pathlib import Path

import sqlalchemy as sa

from emdi.checkpoint import Checkpoint, parse_checkpoint
from emdi.entry import KIND_EVENT, KIND_QUARANTINED, KIND_READING, MAGIC
from emdi.errors import EmdiError
from emdi.note import parse_note
from emdi.policy import Policy
from emdi.receipt import Receipt, format_receipt
from emdi.tiles import TileReader
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import NotFound
from stackwitness.log.queries import Place, find_places

CACHED_BYTES = 4 << 20  # 512 full tiles: the right edges of a log of 30 million entries, and much behind them
ENTRIES = "tile/entries/"
POLL_S = 0.1
QUORUM_WITHIN_S = 20.0


class Snapshot:
    """One checkpoint and the tiles of exactly its size: whatever is taken from here fits together."""

    def __init__(self, note: bytes, checkpoint: Checkpoint, tiles: TileReader) -> None:
        self.note = note
        self.checkpoint = checkpoint
        self.tiles = tiles
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """The number of entries the checkpoint covers."""
        return self.checkpoint.size

    def receipt(self, place: Place) -> bytes:
        """Return the receipt of an entry below `size`."""
        with self._lock:
            path = self.tiles.inclusion(place.idx)
        extra = MAGIC + bytes([place.kind]) + place.recv_ms.to_bytes(8, "big")
        return format_receipt(Receipt(extra, place.idx, tuple(path), self.note))

    def inclusion(self, idx: int) -> list[bytes]:
        """Return the inclusion path of one entry."""
        with self._lock:
            return self.tiles.inclusion(idx)

    def consistency(self, old: int) -> list[bytes]:
        """Return the proof that the first `old` entries are a prefix."""
        with self._lock:
            return self.tiles.consistency(old)


class LogReader:
    """Serve the log from its folder. Tiles never change once a checkpoint covers them, so they are cached."""

    def __init__(self, log_dir: Path, engine: sa.Engine) -> None:
        self._log_dir = log_dir
        self._engine = engine
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None

    def checkpoint(self) -> bytes:
        """Return the signed checkpoint note; raises NotFound("log.empty") before the first."""
        try:
            return (self._log_dir / "checkpoint").read_bytes()
        except FileNotFoundError:
            raise NotFound("log.empty", "The log has no checkpoint yet") from None

    def file(self, path: str) -> bytes:
        """Return a tile or bundle by its path below the log's folder; raises FileNotFoundError."""
        with self._lock:
            if path in self._files:
                self._files.move_to_end(path)
                return self._files[path]
        data = (self._log_dir / path).read_bytes()
        # Proofs never need an entry bundle, and one alone may weigh as much as the whole cache.
        if not path.startswith(ENTRIES):
            self._keep(path, data)
        return data

    def head_file(self, as_of: int) -> bytes:
        """Return the lines of a daily head; raises FileNotFoundError."""
        return (self._log_dir / "heads" / str(as_of)).read_bytes()

    def _keep(self, path: str, data: bytes) -> None:
        with self._lock:
            if path not in self._files:
                self._files[path] = data
                self._held_bytes += len(data)
            while self._held_bytes > CACHED_BYTES:
                self._held_bytes -= len(self._files.popitem(last=False)[1])

    def snapshot(self) -> Snapshot:
        """Return the newest checkpoint together with its tiles; raises NotFound("log.empty")."""
        note = self.checkpoint()
        snapshot = self._snapshot
        if snapshot is None or snapshot.note != note:
            checkpoint = parse_checkpoint(parse_note(note).text)
            snapshot = Snapshot(note, checkpoint, TileReader(self.file, checkpoint.size))
            self._snapshot = snapshot
        return snapshot

    def tiles(self) -> TileReader:
        """Return a reader over the newest checkpoint's tiles, for one thread; raises
        NotFound("log.empty").
        """
        return TileReader(self.file, self.snapshot().size)

    def receipt(self, entry_id: bytes) -> bytes | None:
        """Return the receipt of an envelope or event (32-byte id); None while it waits, or when it is
        unknown.
        """
        return self.receipts([entry_id]).get(entry_id)

    def receipts(self, entry_ids: list[bytes]) -> dict[bytes, bytes]:
        """Return the receipts that exist, by id; all against one checkpoint."""
        with unit_of_work(self._engine, "sw_read") as conn:
            places = find_places(conn, entry_ids, (KIND_READING, KIND_EVENT, KIND_QUARANTINED))
        if not places:
            return {}
        try:
            snapshot = self.snapshot()
        except NotFound:
            return {}
        return {place.entry_id: snapshot.receipt(place) for place in places if place.idx < snapshot.size}

    def await_receipt(self, entry_id: bytes, seconds: float) -> bytes | None:
        """Return the receipt as soon as a checkpoint covers the entry; None when that takes longer.
        Blocks.
        """
        deadline = time.monotonic() + seconds
        seen = b""
        while True:
            note = self._note_or_nothing()
            if note != seen and (receipt := self.receipt(entry_id)) is not None:
                return receipt
            seen = note
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(POLL_S, left))

    def await_quorum(self, policy: Policy, seconds: float = QUORUM_WITHIN_S) -> Snapshot:
        """Return the newest checkpoint as soon as it meets the policy, and after `seconds` as it then is. Blocks.

        The log goes on without its witnesses; a moment later they may be back. Raises NotFound("log.empty").
        """
        deadline = time.monotonic() + seconds
        while True:
            snapshot = self.snapshot()
            with contextlib.suppress(EmdiError):
                policy.check(snapshot.note)
                return snapshot
            if time.monotonic() > deadline:
                return snapshot
            time.sleep(POLL_S)

    def _note_or_nothing(self) -> bytes:
        try:
            return self.checkpoint()
        except NotFound:
            return b""
