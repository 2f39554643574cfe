"""The shard before this one, as leaf 0 commits to it: where its tree ended, and where every station's chain did."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from emdi.chain import StationHead
from emdi.checkpoint import parse_checkpoint
from emdi.encoding import b64u_decode, b64u_encode
from emdi.errors import EncodingError, HeadError
from emdi.event import Event
from emdi.head import STATION, head_root, parse_head, parse_line
from emdi.note import parse_note

FREEZE = "log.freeze"
_MEMBERS = {"origin", "size", "root_b64u", "head_root_b64u"}


@dataclass(frozen=True, slots=True)
class Previous:
    """The frozen shard: origin, final size and root, and the root over the lines of its final head."""

    origin: str
    size: int
    root: bytes
    head_root: bytes

    def members(self) -> dict[str, Any]:
        """Return the member `previous` of leaf 0."""
        return {
            "origin": self.origin,
            "size": self.size,
            "root_b64u": b64u_encode(self.root),
            "head_root_b64u": b64u_encode(self.head_root),
        }


@dataclass(frozen=True, slots=True)
class Freeze:
    """The end of a log: where its `log.freeze` stands, and which log goes on."""

    idx: int
    successor_origin: str

    @property
    def size(self) -> int:
        """Return the number of entries this log ends with."""
        return self.idx + 1

    @property
    def head_as_of(self) -> int:
        """Return how many entries the last head covers: all but its own event and the freeze."""
        return self.idx - 1


def read_freeze(idx: int, event: Event) -> Freeze:
    """Read the event `log.freeze`, proven at `idx`; raise HeadError("head.freeze") for one that says another place."""
    place, origin = event.data.get("final_size_before"), event.data.get("successor_origin")
    if type(place) is not int or place != idx or type(origin) is not str or not origin:
        raise HeadError("head.freeze", f"log.freeze at idx {idx} speaks of another place, or of no successor")
    return Freeze(idx, origin)


def parse_previous(members: object) -> Previous:
    """Read the member `previous` of leaf 0; raise HeadError("head.previous")."""
    if not isinstance(members, dict) or members.keys() != _MEMBERS:
        raise HeadError("head.previous", f"previous has exactly {sorted(_MEMBERS)}")
    origin, size = members["origin"], members["size"]
    if type(origin) is not str or not origin or type(size) is not int or size < 1:
        raise HeadError("head.previous", "origin or size of the shard before is malformed")
    try:
        root, head = b64u_decode(members["root_b64u"]), b64u_decode(members["head_root_b64u"])
    except (EncodingError, AttributeError, TypeError):
        raise HeadError("head.previous", "a root is not base64url") from None
    if len(root) != 32 or len(head) != 32:
        raise HeadError("head.previous", "a root is 32 bytes")
    return Previous(origin, size, root, head)


def final_lines(lines: Iterable[str], before: Iterable[str] = ()) -> list[str]:
    """Return the lines of a shard's final head: its own, and `station` lines of the shard before for the silent.

    `before` is the final head of the shard before this one. A station that sent nothing in a whole shard keeps
    its line, so its chain can go on in a later one, and what it once sent is not forgotten. Sorted bytewise.
    """
    own = list(lines)
    heard = {line.name for line in map(parse_line, own) if line.kind == STATION}
    kept = [line for line in before if (one := parse_line(line)).kind == STATION and one.name not in heard]
    return sorted(own + kept)


def check_end(previous: Previous, note: bytes) -> None:
    """Check that a note is the checkpoint a shard ended with; who signed it is not asked. Raises HeadError, NoteError."""
    ended = parse_checkpoint(parse_note(note).text)
    if (ended.origin, ended.size, ended.root) != (previous.origin, previous.size, previous.root):
        raise HeadError("head.root", "it is not what leaf 0 commits to")


def chains_of(previous: Previous, head: bytes) -> dict[str, StationHead]:
    """Return where every station's chain goes on, from the file of the final head.

    Raises HeadError: head.root when the lines are not those leaf 0 commits to, and what a malformed file raises.
    """
    lines = parse_head(head)
    if head_root(lines) != previous.head_root:
        raise HeadError("head.root", "it is not what leaf 0 commits to")
    chains = {}
    for line in map(parse_line, lines):
        if line.ep is not None:
            chains[line.name] = StationHead(line.ep, line.seq, line.entry_id)
    return chains
