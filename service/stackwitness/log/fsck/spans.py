"""Check a span of the log in a process of its own: bytes, rows, readings, signatures, and the chains inside it.

A span is clean only when all copies of every entry agree and nothing in it is unusual; then its summary is all the
parent needs. On any doubt its tiles are summed up one by one, and those still in doubt the parent looks at itself,
entry by entry, and finds the words for it. What
comes from the database here (keys, channel numbers) are hints: the parent compares them with what the log says.
"""

import gc
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from psycopg import sql
from psycopg.pq import ExecStatus

from emdi.encoding import b64_encode, b64u_decode
from emdi.entry import KIND_EVENT, KIND_READING, Entry, parse_entry
from emdi.errors import EmdiError
from emdi.event import Event, parse_event
from emdi.keyring import KEY_EVENTS
from emdi.keys import PublicKey
from emdi.merkle import leaf_hash
from emdi.tiles import TILE_WIDTH, decode_bundle, entries_path, tile_path
from stackwitness.db.session import connect
from stackwitness.log.disk import Disk
from stackwitness.log.fsck.projection import PACKED_AS_THEY_LIE, PG_EPOCH_US, ROW
from stackwitness.log.fsck.signatures import verify_fast
from stackwitness.log.fsck.spelling import Read, Spellings
from stackwitness.log.fsck.tree import read_plain

SPAN = 16 * TILE_WIDTH
GAP = 4 * SPAN  # envelope numbers further apart than this are asked for separately
RUN_READINGS = 65_536  # compared at once: some megabytes
SIGNATURE_CHARS = 87  # of a JWS: 64 bytes, and the dot before them
# A span's rows lie together, which the planner cannot know of tables that grew since their statistics.
_SETTINGS = (
    "enable_seqscan = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    "max_parallel_workers_per_gather = 0",
    "jit = off",
    "work_mem = '64MB'",
)
_HEADER_BYTES = 19
_TRAILER = b"\xff\xff"
_ENVELOPES = """COPY (
SELECT e.idx, e.kind, e.entry_id, e.recv_ms, e.leaf, v.envelope_no, v.env_id, v.stn, v.ep, v.seq, v.kid, v.iat_ms,
       v.recv_ms, v.first_at, v.last_at, v.reading_count, v.jws
FROM log_entry e JOIN envelope v ON v.env_id = e.entry_id
WHERE e.kind = 1 AND e.idx >= {first} AND e.idx < {end} ORDER BY e.idx) TO STDOUT (FORMAT BINARY)"""
_EVENTS = """COPY (
SELECT e.idx, e.kind, e.entry_id, e.recv_ms, e.leaf, w.event_id, w.typ, w.subj, w.sseq, w.sprev, w.recv_ms, w.jws
FROM log_entry e JOIN event w ON w.event_id = e.entry_id
WHERE e.kind = 2 AND e.idx >= {first} AND e.idx < {end} ORDER BY e.idx) TO STDOUT (FORMAT BINARY)"""
_READINGS = f"""COPY (
SELECT envelope_no, {PACKED_AS_THEY_LIE} FROM reading
WHERE envelope_no >= {{first}} AND envelope_no <= {{last}} GROUP BY envelope_no) TO STDOUT (FORMAT BINARY)"""
_READINGS_AT = slice(6, 14), slice(18, None)  # of such a row: envelope number, packed readings
_LOGGED = struct.Struct(">hiqihi32siqi32s")
_NUMBER_AT = _LOGGED.size + 4
_URL = str.maketrans("+/", "-_")


@dataclass(frozen=True)
class Hints:
    """What a worker starts from: where the log is, the database's address and snapshot, keys and channels."""

    url: str
    snapshot: str
    log_dir: str
    keys: dict[str, PublicKey]
    service_keys: dict[str, PublicKey]
    channels: dict[tuple[str, str], int]


@dataclass
class Segment:
    """One station's unbroken run of envelopes within a span."""

    first: tuple[int, int, str]
    last: tuple[int, int, bytes]
    last_ms: int


@dataclass
class Summary:
    """What a clean span says to the rest of the log; `doubt` says why the parent must look itself."""

    first: int
    end: int
    leaves: bytes = b""
    doubt: str | None = None
    events: list[tuple[int, Entry]] = field(default_factory=list)
    segments: dict[str, Segment] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    envelopes: int = 0
    readings: int = 0


class Doubt(Exception):
    """Something in a span is not as usual."""


_checker: "SpanChecker | None" = None


def open_checker(hints: Hints) -> None:
    """Prepare this worker process."""
    global _checker
    # A span's million small objects are in no cycles: looking for them takes a twentieth of the time.
    gc.disable()
    _checker = SpanChecker(hints)


def check_span(first: int, end: int) -> list[Summary]:
    """Check the published entries first..end-1 in this worker process; on a doubt, each tile by itself."""
    assert _checker is not None
    summary = _checker.check(first, end)
    if summary.doubt is None:
        return [summary]
    return [_checker.check(start, start + TILE_WIDTH) for start in range(first, end, TILE_WIDTH)]


class SpanChecker:
    """One worker: its own connection, in the parent's snapshot."""

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self._disk = Disk(Path(hints.log_dir))
        self._spellings = Spellings(hints.channels)
        self._conn = connect(hints.url, autocommit=True)
        self._conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        self._conn.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(hints.snapshot))
        for setting in _SETTINGS:
            self._conn.execute(f"SET LOCAL {setting}")
        self._conn.execute(
            "SELECT set_config('role', 'sw_export', true), set_config('stackwitness.agency', '*', true)"
        )

    def check(self, first: int, end: int) -> Summary:
        """Return what the span says, or the doubt."""
        summary = Summary(first, end)
        try:
            entries = [parse_entry(data) for data in self._read_entries(summary, first, end)]
            self._compare_events(summary, first, end, entries)
            read = self._read_envelopes(summary, first, entries)
            numbers = self._compare_envelopes(summary, first, end, entries, read)
            self._compare_readings(numbers)
        except (Doubt, EmdiError, OSError, KeyError, ValueError, struct.error) as doubt:
            summary.doubt = f"{type(doubt).__name__}: {doubt}"
        return summary

    def _read_entries(self, summary: Summary, first: int, end: int) -> list[bytes]:
        entries: list[bytes] = []
        leaves: list[bytes] = []
        for n in range(first // TILE_WIDTH, end // TILE_WIDTH):
            bundle = decode_bundle(read_plain(self._disk, entries_path(n)))
            hashes = [leaf_hash(entry) for entry in bundle]
            if len(bundle) != TILE_WIDTH or b"".join(hashes) != read_plain(self._disk, tile_path(0, n)):
                raise Doubt(f"tile {n}")
            entries += bundle
            leaves += hashes
        summary.leaves = b"".join(leaves)
        return entries

    def _read_envelopes(self, summary: Summary, first: int, entries: Sequence[Entry]) -> dict[int, Read]:
        found: dict[int, Read] = {}
        stations: dict[str, list[tuple[int, Read]]] = {}
        keys = self._hints.keys
        for idx, entry in enumerate(entries, first):
            kind, _, jws = entry
            if kind == KIND_EVENT:
                continue
            if kind != KIND_READING:
                raise Doubt(f"an entry of kind {kind} at {idx}")
            found[idx] = read = self._spellings.read(jws)
            key = keys[read.kid]
            if key.alg != read.alg or not verify_fast(key, read.signature, jws[:-SIGNATURE_CHARS]):
                raise Doubt(f"the signature at {idx}")
            stations.setdefault(read.stn, []).append((idx, read))
        for stn, run in stations.items():
            summary.segments[stn] = _chain(stn, [read for _, read in run])
            for idx, read in run:
                low, _ = summary.keys.get((stn, read.kid), (idx, idx))
                summary.keys[stn, read.kid] = low, idx
        summary.envelopes = len(found)
        summary.readings = sum(read.reading_count for read in found.values())
        return found

    def _compare_envelopes(
        self, summary: Summary, first: int, end: int, entries: Sequence[Entry], read: dict[int, Read]
    ) -> list[tuple[int, Read]]:
        """Compare log_entry and envelope rows byte for byte with the entries; return envelope numbers."""
        numbers: list[tuple[int, Read]] = []
        rows = iter(self._copy(_ENVELOPES, first=first, end=end))
        for idx, envelope in read.items():
            row = next(rows, b"")
            number = int.from_bytes(row[_NUMBER_AT : _NUMBER_AT + 8], "big", signed=True)
            entry = entries[idx - first]
            leaf = summary.leaves[32 * (idx - first) : 32 * (idx - first + 1)]
            if row != _envelope_row(idx, entry, leaf, envelope, number):
                raise Doubt(f"the row of entry {idx}")
            numbers.append((number, envelope))
        if next(rows, None) is not None:
            raise Doubt("a surplus row")
        return numbers

    def _compare_events(self, summary: Summary, first: int, end: int, entries: Sequence[Entry]) -> None:
        places = [idx for idx, entry in enumerate(entries, first) if entry.kind == KIND_EVENT]
        rows = iter(self._copy(_EVENTS, first=first, end=end))
        for idx in places:
            entry = entries[idx - first]
            event = parse_event(entry.body)
            if event.typ in KEY_EVENTS:
                raise Doubt(f"a key event at {idx}")
            signature = entry.body[entry.body.rindex(b".") + 1 :]
            self._check_event(event, entry.body, signature)
            leaf = summary.leaves[32 * (idx - first) : 32 * (idx - first + 1)]
            if next(rows, b"") != _event_row(idx, entry, leaf, event):
                raise Doubt(f"the row of entry {idx}")
            summary.events.append((idx, entry))
        if next(rows, None) is not None:
            raise Doubt("a surplus row")

    def _check_event(self, event: Event, jws: bytes, signature_b64u: bytes) -> None:
        key = self._hints.service_keys[event.kid]
        if key.alg != event.alg or not verify_fast(key, b64u_decode(signature_b64u), jws[:-SIGNATURE_CHARS]):
            raise Doubt(f"the signature of {event.subj} #{event.sseq}")

    def _compare_readings(self, numbers: list[tuple[int, Read]]) -> None:
        """Compare the rows of `reading`, all of an envelope at once."""
        numbers.sort(key=lambda pair: pair[0])
        start = readings = 0
        for place in range(1, len(numbers) + 1):
            readings += numbers[place - 1][1].reading_count
            if (
                place == len(numbers)
                or numbers[place][0] - numbers[place - 1][0] > GAP
                or readings > RUN_READINGS
            ):
                self._compare_run(numbers[start:place])
                start, readings = place, 0

    def _compare_run(self, run: Sequence[tuple[int, Read]]) -> None:
        wanted = {number.to_bytes(8, "big", signed=True): read.packed for number, read in run}
        if len(wanted) != len(run):
            raise Doubt("two envelopes of one number")
        lying = self._copy(_READINGS, first=run[0][0], last=run[-1][0])
        number_at, packed_at = _READINGS_AT
        found = {row[number_at]: row[packed_at] for row in lying}
        for number, packed in wanted.items():
            rows = found.get(number, b"")
            # Mostly they lie as they were written; an envelope over two pages may come in two parts.
            if rows != packed and sorted(_split(rows)) != sorted(_split(packed)):
                raise Doubt(f"the readings of envelope_no {int.from_bytes(number, 'big')}")

    def _copy(self, query: str, **bounds: int) -> list[bytes]:
        """Return the rows of a binary COPY, without its header and trailer."""
        composed = sql.SQL(query).format(**{name: sql.Literal(value) for name, value in bounds.items()})
        # libpq's own calls: psycopg's generator costs ten times as much for each of a million rows.
        pgconn = self._conn.pgconn
        result = pgconn.exec_(composed.as_bytes(self._conn))
        if result.status != ExecStatus.COPY_OUT:
            raise Doubt(f"COPY: {result.error_message.decode(errors='replace')}")
        rows: list[bytes] = []
        take, keep = pgconn.get_copy_data, rows.append
        length, data = take(0)
        while length > 0:
            keep(bytes(data))
            length, data = take(0)
        while pgconn.get_result() is not None:
            pass
        if not rows or not rows.pop().endswith(_TRAILER):
            raise Doubt("COPY: broken off")
        if rows:
            rows[0] = rows[0][_HEADER_BYTES:]
        return rows


def _chain(stn: str, run: Sequence[Read]) -> Segment:
    """Return the segment these envelopes make; raises Doubt where one does not follow the one before."""
    start, last = run[0], run[-1]
    unbroken = (
        [read.seq for read in run] == list(range(start.seq, start.seq + len(run)))
        and all(read.ep == start.ep and not read.skips for read in run)
        # A zero byte behind each id makes its text as long as four characters for three bytes allow: one encoding.
        and "".join([f"{read.prev_b64u}A" for read in run[1:]])
        == b64_encode(b"".join([read.env_id + b"\0" for read in run[:-1]])).translate(_URL)
    )
    if not unbroken:
        raise Doubt(f"the chain of {stn}")
    at = start.ep, start.seq, start.prev_b64u
    return Segment(at, (last.ep, last.seq, last.env_id), max(read.last_ms for read in run))


@lru_cache(maxsize=4096)
def _row_packer(stn_bytes: int, kid_bytes: int) -> struct.Struct:
    return struct.Struct(f">hiqihi32siqi32s iqi32s i{stn_bytes}s iqiq i{kid_bytes}s iqiqiqiqiii")


def _envelope_row(idx: int, entry: Entry, leaf: bytes, read: Read, number: int) -> bytes:
    """Return the row that _ENVELOPES gives: how many columns, then each behind its length."""
    stn, kid, (_, recv_ms, body) = read.stn.encode(), read.kid.encode(), entry
    fixed = _row_packer(len(stn), len(kid)).pack(
        *(17, 8, idx, 2, 1, 32, read.env_id, 8, recv_ms, 32, leaf),
        *(8, number, 32, read.env_id, len(stn), stn, 8, read.ep, 8, read.seq, len(kid), kid),
        *(8, read.iat_ms, 8, recv_ms),
        *(8, read.first_ms * 1000 - PG_EPOCH_US, 8, read.last_ms * 1000 - PG_EPOCH_US),
        *(4, read.reading_count, len(body)),
    )
    return fixed + body


def _event_row(idx: int, entry: Entry, leaf: bytes, event: Event) -> bytes:
    typ, subj = event.typ.encode(), event.subj.encode()
    return b"".join(
        (
            _LOGGED.pack(12, 8, idx, 2, 2, 32, event.event_id, 8, entry.recv_ms, 32, leaf),
            struct.pack(">i32si", 32, event.event_id, len(typ)) + typ + len(subj).to_bytes(4, "big") + subj,
            struct.pack(">iqi32siqi", 8, event.sseq, 32, event.sprev, 8, entry.recv_ms, len(entry.body)),
            entry.body,
        )
    )


def _split(packed: bytes) -> list[bytes]:
    return [packed[at : at + ROW.size] for at in range(0, len(packed), ROW.size)]
