"""Follow the log: check the newest checkpoint against the last one, take the entries between, keep all of it."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from emdi.checkpoint import Checkpoint
from emdi.encoding import b64_encode
from emdi.entry import parse_entry
from emdi.errors import EmdiError
from emdi.event import parse_event
from emdi.merkle import verify_consistency
from emdi.officers import ACCESS_EVENTS
from emdi.proof_file import Prefix, ProofFile, ProvenLeaf
from emdi.tiles import TILE_WIDTH, TileReader, encode_bundle, entries_path, parse_tile_path
from stackwitness_client.monitor.finding import Finding
from stackwitness_client.monitor.mirror import Mirror
from stackwitness_client.monitor.replay import Between, Replay
from stackwitness_client.monitor.source import Source, TilesDiffer, TrustedTiles
from stackwitness_client.monitor.state import Seen, State

WINDOW_BUNDLES = 16

Progress = Callable[[int, int], None]


class Refused(Exception):
    """Carry the proof that stops a turn: what the log shows cannot be followed."""

    def __init__(self, key: str, proof: ProofFile) -> None:
        super().__init__(proof.says)
        self.key = key
        self.proof = proof


@dataclass
class Sync:
    """Bring state and mirror from the last checkpoint to a newer one of the same log."""

    source: Source
    state: State
    mirror: Mirror
    now_ms: Callable[[], int]
    progress: Progress
    counts: dict[str, int] = field(default_factory=dict)
    _full: list[str] = field(default_factory=list)

    def follow(self, tree: Checkpoint, note: bytes, first_ms: int, last_ms: int) -> int:
        """Take a checkpoint whose signatures hold; return how many entries were new.

        Raises Refused when it is not an extension of the last, or the files are not those it signs;
        ServerError and FileNotFoundError when files cannot be had.
        """
        last = self.state.newest()
        if last is not None and tree.size < last.tree.size:
            self._refuse_shrunk(last, tree, note)
        if last is not None and tree.size == last.tree.size and tree.root != last.tree.root:
            raise self._fork(last, note, None)
        try:
            tiles = TrustedTiles(self.source.read, tree, self._keep)
            if last is not None and tree.size > last.tree.size:
                self._check_extension(last, tree, note, tiles.reader)
            with self.state.transaction():
                self.state.see(tree, note, first_ms, last_ms)
            before = self.state.replayed
            self._take(tiles)
        except TilesDiffer as error:
            raise self._differs(error, tree, note) from None
        self.mirror.publish(note)
        return tree.size - before

    def _keep(self, path: str, data: bytes) -> None:
        self.mirror.put(path, data)
        if parse_tile_path(path).width == TILE_WIDTH:
            self._full.append(path)

    def _take(self, tiles: TrustedTiles) -> None:
        size, at = tiles.tree.size, self.state.replayed
        self._learn_access()
        # Every root the replay asks for is one of the mirrored part, which by then stands on disk.
        ours = self.mirror.tiles(size)
        replay = Replay(self.state, ours.root_at, self._spans(at), self._fetch)
        while at < size:
            end = min(size, (at // TILE_WIDTH + WINDOW_BUNDLES) * TILE_WIDTH)
            with self.state.transaction():
                while at < end:
                    n = at // TILE_WIDTH
                    entries = tiles.entries(n)
                    self._keep(entries_path(n, len(entries)), encode_bundle(entries))
                    for entry in entries[at - n * TILE_WIDTH :]:
                        replay.take(at, entry)
                        at += 1
                replay.flush()
                self.mirror.sync()
                self.state.put("replayed", at)
            # Partial tiles go only once the full one has survived.
            while self._full:
                self.mirror.drop_partial(self._full.pop())
            self.progress(at, size)
        self.counts = replay.counts

    def _learn_access(self) -> None:
        """Learn who holds which role from entries that an earlier version took without asking."""
        if self.state.get("officers", False):
            return
        query = "SELECT idx FROM event WHERE subj >= 'account:' AND subj < 'account;' ORDER BY idx"
        found = []
        for (idx,) in self.state.db.execute(query).fetchall():
            event = parse_event(parse_entry(entry_at(self.mirror, idx)).body)
            if event.typ in ACCESS_EVENTS:
                found.append((idx, event.jws))
        with self.state.transaction():
            self.state.db.executemany("INSERT OR IGNORE INTO key_entry VALUES (?, ?)", found)
            self.state.put("officers", True)
        self.state.reload()

    def _fetch(self, path: str) -> bytes:
        data = self.source.read(path)
        self.mirror.put(path, data)
        return data

    def _spans(self, at: int) -> list[Between]:
        spans, after = [], self.state.seen_below(at + 1)
        for seen in self.state.seen_from(at + 1):
            spans.append(Between(seen.tree.size, seen, after))
            after = seen
        if not spans:  # nothing is new
            newest = self.state.newest()
            assert newest is not None  # the checkpoint being followed was just kept
            spans = [Between(newest.tree.size, newest, None)]
        return spans

    # What cannot be followed --------------------------------------------------------------------------
    def _check_extension(self, last: Seen, tree: Checkpoint, note: bytes, served: TileReader) -> None:
        try:
            path = served.consistency(last.tree.size)
            verify_consistency(last.tree.size, tree.size, last.tree.root, tree.root, path)
        except EmdiError:
            prefix = prefix_of(served, tree, last.tree.size)
            if prefix is None:
                raise TilesDiffer(f"the tiles of size {tree.size} contradict each other") from None
            raise self._fork(last, note, prefix) from None

    def _refuse_shrunk(self, last: Seen, tree: Checkpoint, note: bytes) -> None:
        prefix = None
        if self.state.replayed >= last.tree.size:
            prefix = prefix_of(self.mirror.tiles(last.tree.size), last.tree, tree.size)
        if prefix is not None and prefix.root != tree.root:
            raise self._fork(last, note, prefix)
        says = f"the log shrank: it had {last.tree.size} entries, now it shows a checkpoint of {tree.size}"
        seen = {"seen_ms": [last.last_ms, self.now_ms()]}
        proof = ProofFile("rollback", says, self.now_ms(), (last.note, note), (), None, seen)
        raise Refused(f"rollback:{tree.size}:{tree.root.hex()}", proof)

    def _fork(self, last: Seen, note: bytes, prefix: Prefix | None) -> Refused:
        says = f"the log signed two histories: after {last.tree.size} entries it shows another tree"
        # A prefix speaks of the larger tree, which stands first.
        notes = (last.note, note)
        if prefix is not None and prefix.size == last.tree.size:
            notes = (note, last.note)
        seen = {"seen_ms": [last.last_ms, self.now_ms()], "source": self.source.name}
        proof = ProofFile("fork", says, self.now_ms(), notes, (), prefix, seen)
        return Refused(f"fork:{last.tree.size}:{last.tree.root.hex()}", proof)

    def _differs(self, error: TilesDiffer, tree: Checkpoint, note: bytes) -> Refused:
        path = None
        if error.idx is not None:
            with contextlib.suppress(EmdiError, FileNotFoundError):
                path = TileReader(self.source.read, tree.size).inclusion(error.idx)
        if path is None:
            seen = {"why": error.message, "source": self.source.name}
            proof = ProofFile("tiles", error.message, self.now_ms(), (note,), (), None, seen)
            return Refused(f"tiles:{error.message}", proof)
        entry = {
            "idx": error.idx,
            "leaf": b64_encode(error.leaf),
            "path": [b64_encode(item) for item in path],
        }
        entry |= {"served": b64_encode(error.served), "source": self.source.name}
        proof = ProofFile("entry", error.message, self.now_ms(), (note,), (), None, entry)
        return Refused(f"entry:{error.idx}", proof)


def prefix_of(reader: TileReader, tree: Checkpoint, size: int) -> Prefix | None:
    """Return what the tiles of `tree` prove of its first `size` entries; None when they prove nothing."""
    try:
        root, path = reader.root_at(size), tuple(reader.consistency(size))
        verify_consistency(size, tree.size, root, tree.root, path)
    except (EmdiError, FileNotFoundError):
        return None
    return Prefix(size, root, path)


def prove(finding: Finding, newest: Seen, state: State, mirror: Mirror, made_ms: int) -> ProofFile:
    """Make the proof file of a finding: its leaves against the newest checkpoint, or those it asks for."""
    trees = [found for size in finding.sizes if (found := state.seen_at(size)) is not None] or [newest]
    cover = trees[0]
    reader = mirror.tiles(cover.tree.size)
    leaves = tuple(
        ProvenLeaf(idx, entry_at(mirror, idx), tuple(reader.inclusion(idx))) for idx in finding.leaves
    )
    prefix = None
    if finding.prefix_size is not None:
        prefix = prefix_of(reader, cover.tree, finding.prefix_size)
    notes = tuple(seen.note for seen in trees)
    return ProofFile(finding.type, finding.says, made_ms, notes, leaves, prefix, finding.observed)


def entry_at(mirror: Mirror, idx: int) -> bytes:
    """Return one entry of the mirror."""
    return next(mirror.tiles(idx + 1).entries(idx, idx + 1))
