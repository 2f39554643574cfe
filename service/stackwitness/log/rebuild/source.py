"""The published log to restore from: this server's own folder, or a mirror over HTTP, verified before it is used."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from emdi.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from emdi.entry import Entry, parse_entry
from emdi.errors import EmdiError
from emdi.merkle import CompactRange, leaf_hash, root_of
from emdi.note import parse_note
from emdi.policy import NO_QUORUM, Policy
from emdi.tiles import TILE_WIDTH, decode_bundle, entries_path
from stackwitness.errors import LogUnavailable
from stackwitness.log.disk import Disk
from stackwitness.log.errors import LogCorrupt, LogForked
from stackwitness.log.publisher import TileWriter
from stackwitness_client.errors import ServerError
from stackwitness_client.http import ServerLink

FETCH_TIMEOUT_S = 30.0
Read = Callable[[str], bytes]
Progress = Callable[[str, int, int], None]


@dataclass
class VerifiedLog:
    """A log whose every leaf was hashed up to a signed root; `entries` reads it again, each bundle checked."""

    name: str
    read: Read
    note: bytes
    checkpoint: Checkpoint
    policy: Policy
    bundle_roots: list[bytes] = field(default_factory=list)
    roots: dict[int, bytes] = field(default_factory=dict)

    def entries(self) -> Iterator[tuple[int, Entry, bytes]]:
        """Yield (index, entry, leaf hash) of the whole log; raises LogCorrupt when a bundle changed meanwhile."""
        for n, root in enumerate(self.bundle_roots):
            bundle = self._bundle(n)
            leaves = [leaf_hash(entry) for entry in bundle]
            if root_of(leaves) != root:
                raise LogCorrupt(f"bundle {n} changed while it was read")
            for place, (entry, leaf) in enumerate(zip(bundle, leaves, strict=True)):
                yield n * TILE_WIDTH + place, parse_entry(entry), leaf

    def verify(self, wanted: Sequence[int], progress: Progress) -> None:
        """Hash every entry and compare the root; remember the roots at the sizes `wanted`. Raises LogCorrupt."""
        tree, sizes = CompactRange(), {*wanted, self.checkpoint.size}
        size = self.checkpoint.size
        for n in range(-(-size // TILE_WIDTH)):
            progress("Verifying the published log", n * TILE_WIDTH, size)
            leaves = [leaf_hash(entry) for entry in self._bundle(n)]
            self.bundle_roots.append(root_of(leaves))
            for leaf in leaves:
                tree.append(leaf)
                if tree.size in sizes:
                    self.roots[tree.size] = tree.root()
        if tree.root() != self.checkpoint.root:
            raise LogCorrupt(f"the entries of {self.name} do not give the root that was signed at {size}")

    def opens(self, note: bytes) -> Checkpoint:
        """Return the checkpoint of another note that this log's key signed, cosigned or not; raises EmdiError."""
        return open_checkpoint(note, replace(self.policy, quorum=NO_QUORUM))[0]

    def restore(self, disk: Disk) -> bool:
        """Write bundles, tiles and checkpoint where this folder does not hold them; tell whether it did."""
        if _holds(disk, self):
            return False
        writer = TileWriter(disk, 0, [], [])
        for n in range(len(self.bundle_roots)):
            for entry in self._bundle(n):
                writer.append(entry)
        writer.flush()
        disk.write("checkpoint", self.note)
        return True

    def _bundle(self, n: int) -> list[bytes]:
        width = min(TILE_WIDTH, self.checkpoint.size - n * TILE_WIDTH)
        try:
            entries = decode_bundle(_read_either(self.read, entries_path(n, width), entries_path(n)))[:width]
        except FileNotFoundError:
            raise LogCorrupt(f"{self.name} has no bundle {n}") from None
        except EmdiError as error:
            raise LogCorrupt(f"bundle {n} of {self.name} is damaged: {error}") from None
        if len(entries) != width:
            raise LogCorrupt(f"bundle {n} of {self.name} has {len(entries)} entries instead of {width}")
        return entries


def open_source(
    place: str, policy: Policy, signed: bytes, stack: ExitStack, *, cache: Path | None = None
) -> VerifiedLog:
    """Open a folder or URL and check its checkpoint under the policy; leaves are checked by `verify`.

    `signed` is the signer's last note (empty: not at hand): the source must reach as far, with the same root, or
    the folder must hold the bundles behind its checkpoint. What comes over HTTP is kept in `cache`. Raises
    LogForked, LogCorrupt, EmdiError, LogUnavailable("log.source").
    """
    read = _fetcher(place, stack, cache) if "://" in place else Disk(Path(place)).read
    try:
        note = read("checkpoint")
    except FileNotFoundError:
        if not signed:
            raise LogCorrupt(f"{place} has no checkpoint") from None
        note = signed  # the bundles were durable before the signature, the checkpoint was not yet
    checkpoint, _ = open_checkpoint(note, policy)
    if signed:
        last = parse_checkpoint(parse_note(signed).text)
        if last.size == checkpoint.size and last.root != checkpoint.root:
            raise LogForked(f"the signer signed another root at size {last.size}")
        if last.size > checkpoint.size:
            note, (checkpoint, _) = signed, open_checkpoint(signed, policy)
    return VerifiedLog(place, read, note, checkpoint, policy)


def _fetcher(url: str, stack: ExitStack, cache: Path | None) -> Read:
    link = ServerLink(url, timeout_s=FETCH_TIMEOUT_S)  # a server's or monitor's address, or its log's
    stack.callback(link.close)
    # What one place served is nobody else's.
    kept = None if cache is None else Disk(cache / hashlib.sha256(link.url.encode()).hexdigest())

    def read(path: str) -> bytes:
        # Only what is named after its content's place for ever may be kept; all of it is verified anyway.
        if kept is not None and path != "checkpoint" and (kept.root / path).exists():
            return kept.read(path)
        try:
            data = link.tile(path)
        except ServerError as error:
            raise LogUnavailable(
                "log.source", "The source of the log does not answer", detail=f"{path}: {error.message}"
            ) from None
        if kept is not None and path != "checkpoint":
            kept.write(path, data)
        return data

    return read


def _read_either(read: Read, partial: str, full: str) -> bytes:
    try:
        return read(partial)
    except FileNotFoundError:
        return read(full)


def _holds(disk: Disk, log: VerifiedLog) -> bool:
    """Tell whether a folder holds every bundle of a verified log (or more), and a checkpoint."""
    try:
        if parse_checkpoint(parse_note(disk.read("checkpoint")).text).size < log.checkpoint.size:
            return False
        mine = VerifiedLog(str(disk.root), disk.read, log.note, log.checkpoint, log.policy, log.bundle_roots)
        return all(
            root_of([leaf_hash(entry) for entry in mine._bundle(n)]) == root
            for n, root in enumerate(log.bundle_roots)
        )
    except (OSError, EmdiError, LogCorrupt):
        return False
