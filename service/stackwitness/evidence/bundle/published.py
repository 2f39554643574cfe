"""What the log published and the database no longer shows: rows deleted, or ascribed to somebody else."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from emdi.encoding import b64u_decode
from emdi.entry import KIND_EVENT, KIND_GENESIS, KIND_READING, Entry, parse_entry
from emdi.envelope import Envelope, parse_envelope
from emdi.errors import EmdiError
from emdi.event import parse_event
from emdi.tiles import TileReader
from stackwitness.errors import LogUnavailable
from stackwitness.evidence.bundle import queries

MAX_LOST = 10_000
# Names as the formats spell them; a text with an escape in it is parsed whole instead.
_STN = re.compile(rb'"stn"\s*:\s*"([A-Za-z0-9._-]{1,64})"')
_SUBJ = re.compile(rb'"subj"\s*:\s*"([A-Za-z0-9._:-]{1,81})"')


@dataclass(frozen=True)
class Concern:
    """Whom a bundle is about, and which envelopes of theirs: `holds(envelope, idx, recv_ms)`."""

    stns: frozenset[str]
    subjects: frozenset[str]
    holds: Callable[[Envelope, int, int], bool]

    def names(self, entry: Entry) -> bool:
        """Tell whether the entry's own signed text is about one of them, whatever the database says."""
        if entry.kind == KIND_GENESIS:
            return False
        name = name_of(entry)
        return name in (self.subjects if entry.kind == KIND_EVENT else self.stns)

    def wants(self, idx: int, entry: Entry) -> bool:
        """Tell whether the entry belongs into the bundle."""
        if not self.names(entry):
            return False
        if entry.kind != KIND_READING:
            return True
        try:
            return self.holds(parse_envelope(entry.body), idx, entry.recv_ms)
        except EmdiError:
            return False


def name_of(entry: Entry) -> str | None:
    """Return the station or subject an entry names; None when its body cannot be read."""
    event = entry.kind == KIND_EVENT
    try:
        payload = b64u_decode(entry.body.split(b".", 2)[1].decode("ascii"))
        match = (_SUBJ if event else _STN).search(payload) if b"\\" not in payload else None
        if match is not None:
            return match[1].decode("ascii")
        return parse_event(entry.body).subj if event else parse_envelope(entry.body).stn
    except (EmdiError, IndexError, UnicodeDecodeError):
        return None


def find_strays(
    conn: Connection, tiles: TileReader, concern: Concern, first: int, end: int
) -> Iterator[tuple[int, Entry]]:
    """Yield (idx, entry) of what belongs into the bundle and what the database would leave out, unordered.

    Rows that are gone are looked for in the whole log below `end`. Rows that say another station or subject than
    was signed are looked for from `first` on, by reading the published entries themselves: further back, a head of
    the log names the chain's end. Raises LogUnavailable when the database has lost too much of the log.
    """
    lost = queries.find_lost(conn, end, MAX_LOST)
    if len(lost) == MAX_LOST:
        raise LogUnavailable(detail="the database has lost too many entries of the log; run fsck")
    known = queries.find_known(conn, sorted(concern.stns), sorted(concern.subjects), first)
    seen = set(lost)
    for idx in lost:
        entry = parse_entry(tiles.entry(idx))
        if concern.wants(idx, entry):
            yield idx, entry
    for idx in range(first, end):
        if idx in known or idx in seen:
            continue
        entry = parse_entry(tiles.entry(idx))
        if concern.wants(idx, entry):
            yield idx, entry


def speaks_of(tiles: TileReader, concern: Concern, first: int, end: int) -> bool:
    """Tell whether any published entry first..end-1 names one of them."""
    return any(concern.names(parse_entry(data)) for data in tiles.entries(first, end))
