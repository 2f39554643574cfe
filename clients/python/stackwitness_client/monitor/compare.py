"""Put two views of one log side by side: the trees two auditors were shown, and the proof when they are two."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emdi.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from emdi.errors import NoteError
from emdi.note import parse_note
from emdi.policy import NO_QUORUM, Policy
from emdi.proof_file import ProofFile
from emdi.tiles import TileReader
from stackwitness_client.errors import ClientError
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor.mirror import CHECKPOINT, Mirror
from stackwitness_client.monitor.source import HttpSource
from stackwitness_client.monitor.sync import prefix_of


class CompareError(ClientError):
    """Say that two views cannot be compared."""


@dataclass(frozen=True)
class View:
    """One side: a signed checkpoint and, when it brings them, the log's files behind it."""

    name: str
    note: bytes
    tree: Checkpoint
    read: Callable[[str], bytes] | None


@dataclass(frozen=True)
class Compared:
    """`proof` when the two are two histories; `undecided` when no tiles could say so."""

    says: str
    proof: ProofFile | None = None
    undecided: bool = False


def open_view(given: str, policy: Policy | None) -> View:
    """Read a view: a URL (log, mirror or witness note), a checkpoint file, a monitor's home or a log's folder.

    Raises CompareError, ServerError, and what a note refuses (NoteError, PolicyError).
    """
    read: Callable[[str], bytes] | None = None
    if given.startswith(("http://", "https://")):
        read = HttpSource(ServerLink(given)).read
        note = read(CHECKPOINT)
    else:
        note, read = _from_disk(Path(given))
    if policy is not None:
        policy.check(note)
    try:
        return View(given, note, parse_checkpoint(parse_note(note).text), read)
    except NoteError as error:
        raise CompareError("compare.note", f"{given} is not a checkpoint: {error}") from None


def open_witness(url: str, origin: str, policy: Policy) -> View:
    """Read the checkpoint a witness holds of a log (c2sp.org/tlog-witness); its own quorum is not asked for.

    Raises CompareError when it holds none, ServerError, NoteError and PolicyError.
    """
    path = f"/{hashlib.sha256(origin.encode()).hexdigest()}/{CHECKPOINT}"
    link = ServerLink(url, timeout_s=10.0)
    try:
        answer = link.ask("GET", path, accept=(404,))
    finally:
        link.close()
    if answer.status == 404:
        raise CompareError("compare.witness", f"{url} holds no checkpoint of {origin}")
    tree, _ = open_checkpoint(answer.body, replace(policy, quorum=NO_QUORUM))
    return View(url, answer.body, tree, None)


def compare(one: View, two: View, sources: Sequence[Callable[[str], bytes]], made_ms: int) -> Compared:
    """Hold two checkpoints of one log against each other; `sources` are further places to take tiles from."""
    if one.tree.origin != two.tree.origin:
        raise CompareError("compare.origin", f"{one.tree.origin} and {two.tree.origin} are two logs")
    if one.tree.size == two.tree.size:
        if one.tree.root == two.tree.root:
            return Compared(f"the same tree of {one.tree.size} entries")
        says = f"two different trees of {one.tree.size} entries were signed"
        return Compared(
            says, ProofFile("fork", says, made_ms, (one.note, two.note), (), None, _names(one, two))
        )
    small, large = (one, two) if one.tree.size < two.tree.size else (two, one)
    for read in (large.read, *sources, small.read):
        prefix = (
            None
            if read is None
            else prefix_of(TileReader(read, large.tree.size), large.tree, small.tree.size)
        )
        if prefix is None:
            continue
        if prefix.root == small.tree.root:
            return Compared(
                f"the tree of {small.tree.size} entries is a prefix of the tree of {large.tree.size}"
            )
        says = f"the signed tree of {small.tree.size} entries is not a prefix of the signed tree of {large.tree.size}"
        seen = _names(large, small)
        return Compared(says, ProofFile("fork", says, made_ms, (large.note, small.note), (), prefix, seen))
    return Compared(
        f"no source has the tiles of the tree of {large.tree.size} entries; give one with --url",
        undecided=True,
    )


def _names(one: View, two: View) -> dict[str, list[str]]:
    return {"views": [one.name, two.name]}


def _from_disk(path: Path) -> tuple[bytes, Callable[[str], bytes] | None]:
    try:
        if path.is_file():
            data = path.read_bytes()
            # An alarm's proof file holds a checkpoint too: the last one it names.
            return (json.loads(data)["notes"][-1].encode(), None) if data.startswith(b"{") else (data, None)
        folder = path / "mirror" if (path / "mirror").is_dir() else path
        return (folder / CHECKPOINT).read_bytes(), Mirror(folder).read
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise CompareError("compare.view", f"{path} holds no checkpoint: {error}") from None
