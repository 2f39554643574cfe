"""Daily heads: one line for the last envelope of every station and the last event of every subject.

The head of the log at `as_of` covers the entries [0, as_of). Whoever holds it, and later an export, sees whether
the newest envelopes, flags or decisions were left out; whoever holds the entries recomputes it.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from emdi.encoding import parse_uint
from emdi.envelope import STN, Envelope
from emdi.errors import EncodingError, HeadError
from emdi.event import SUBJECT, Event
from emdi.merkle import inclusion_path, leaf_hash, root_of, verify_inclusion

STATION = "station"
SUBJECT_LINE = "subject"
MAX_LINES = 4_000_000
_ID = re.compile(r"[0-9a-f]{64}")


class HeadLine(NamedTuple):
    """One parsed line: `kind` station or subject, `ep` None for a subject, `seq` its seq or sseq, id of 32
    bytes.
    """

    kind: str
    name: str
    ep: int | None
    seq: int
    entry_id: bytes


def station_line(stn: str, ep: int, seq: int, env_id: bytes) -> str:
    """Return the line of a station whose last envelope is (ep, seq)."""
    return f"{STATION} {stn} {ep} {seq} {env_id.hex()}"


def subject_line(subj: str, sseq: int, event_id: bytes) -> str:
    """Return the line of a subject whose last event is number sseq."""
    return f"{SUBJECT_LINE} {subj} {sseq} {event_id.hex()}"


def parse_line(line: str) -> HeadLine:
    """Parse one line strictly; raise HeadError("head.line")."""
    match line.split(" "):
        case [kind, name, ep, seq, entry_id] if kind == STATION and STN.fullmatch(name):
            return HeadLine(kind, name, _take_uint(ep), _take_uint(seq), _take_id(entry_id))
        case [kind, name, sseq, entry_id] if kind == SUBJECT_LINE and SUBJECT.fullmatch(name):
            return HeadLine(kind, name, None, _take_uint(sseq), _take_id(entry_id))
    raise HeadError("head.line", f"not a line of a head: {line[:100]!r}")


def format_head(lines: Iterable[str]) -> bytes:
    """Return the file: lines sorted bytewise, each ended by a line feed; refuse what the parser would refuse."""
    data = "".join(line + "\n" for line in sorted(lines)).encode("ascii", "replace")
    parse_head(data)
    return data


def parse_head(data: bytes) -> list[str]:
    """Return the lines of a head file, in their order.

    Raises HeadError: head.form (not ASCII lines ended by a line feed), head.line, head.order (not sorted
    bytewise), head.duplicate (two lines of one station or subject), head.size (more than MAX_LINES).
    """
    if not data:
        return []
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise HeadError("head.form", "not ASCII") from None
    if not text.endswith("\n"):
        raise HeadError("head.form", "the last line is not ended")
    lines = text[:-1].split("\n")
    if len(lines) > MAX_LINES:
        raise HeadError("head.size", f"more than {MAX_LINES} lines")
    named: set[tuple[str, str]] = set()
    for line in lines:
        kind, name = parse_line(line)[:2]
        if (kind, name) in named:
            raise HeadError("head.duplicate", f"{kind} {name} stands twice")
        named.add((kind, name))
    if any(one >= two for one, two in pairwise(lines)):
        raise HeadError("head.order", "lines are not sorted bytewise")
    return lines


def head_root(lines: Iterable[str]) -> bytes:
    """Return the root of the Merkle tree (RFC 6962 2.1) over the sorted lines, each without its line feed."""
    return root_of(_leaves(lines))


def line_proof(lines: Iterable[str], line: str) -> tuple[int, list[bytes]]:
    """Return the index and inclusion path of a line; raise HeadError("head.missing") when it is not there."""
    ordered = sorted(lines)
    try:
        index = ordered.index(line)
    except ValueError:
        raise HeadError("head.missing", f"not in the head: {line[:100]!r}") from None
    return index, inclusion_path(_leaves(ordered), index)


def verify_line(line: str, index: int, count: int, path: Sequence[bytes], root: bytes) -> HeadLine:
    """Check that a line is line `index` of the head of `count` lines, and return it parsed.

    `count` and `root` must come from the signed event head.daily. Raises HeadError, ProofError (RFC 9162 2.1.3.2).
    """
    parsed = parse_line(line)
    verify_inclusion(index, count, leaf_hash(line.encode("ascii")), path, root)
    return parsed


class HeadsBuilder:
    """Recompute heads from the entries of the log, taken in the order of their indexes."""

    def __init__(self) -> None:
        self.size = 0
        self._heads: dict[tuple[str, str], tuple[tuple[int, int], str, int]] = {}

    def take(self, entry: Envelope | Event, idx: int) -> None:
        """Take one envelope or event that stands at `idx`; entries of other kinds need not be given.

        Raises HeadError("head.order") for an index that does not ascend and for an entry that does not come
        after the last of its station or subject; then nothing has changed.
        """
        if idx < self.size:
            raise HeadError("head.order", f"entry {idx} after entry {self.size - 1}")
        if isinstance(entry, Envelope):
            key, place = (STATION, entry.stn), (entry.ep, entry.seq)
            line = station_line(entry.stn, entry.ep, entry.seq, entry.env_id)
        else:
            key, place = (SUBJECT_LINE, entry.subj), (0, entry.sseq)
            line = subject_line(entry.subj, entry.sseq, entry.event_id)
        known = self._heads.get(key)
        if known is not None and place <= known[0]:
            raise HeadError("head.order", f"entry {idx} is not after entry {known[2]} of {key[0]} {key[1]}")
        self._heads[key] = place, line, idx
        self.size = idx + 1

    def lines(self) -> list[str]:
        """Return the lines of the head over what was taken so far, sorted bytewise."""
        return sorted(line for _, line, _ in self._heads.values())

    def place_of(self, line: str) -> int:
        """Return the index of the entry that a line names; raise HeadError("head.missing")."""
        kind, name = parse_line(line)[:2]
        known = self._heads.get((kind, name))
        if known is None or known[1] != line:
            raise HeadError("head.missing", f"not in the head: {line[:100]!r}")
        return known[2]


def _leaves(lines: Iterable[str]) -> list[bytes]:
    return [leaf_hash(line.encode("ascii")) for line in sorted(lines)]


def _take_uint(text: str) -> int:
    try:
        return parse_uint(text)
    except EncodingError as error:
        raise HeadError("head.line", error.message) from None


def _take_id(text: str) -> bytes:
    if _ID.fullmatch(text) is None:
        raise HeadError("head.line", "an id is 64 lowercase hex digits")
    return bytes.fromhex(text)
