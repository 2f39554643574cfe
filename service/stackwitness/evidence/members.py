"""Write the members of a bundle into a folder, streaming what may be large."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from operator import itemgetter
from pathlib import Path

from sqlalchemy import Connection

from emdi.bundle import (
    FLAGS_HEADER,
    READINGS_HEADER,
    REVIEWS_HEADER,
    Disclosure,
    flag_text_sha256,
    flags_csv_row,
    format_disclosure,
    format_proof,
    make_manifest,
    pack_entries,
    readings_csv_row,
    reviews_csv_row,
)
from emdi.entry import KIND_EVENT, KIND_READING, Entry, encode_entry, parse_entry
from emdi.envelope import parse_envelope
from emdi.errors import BundleError, EmdiError
from emdi.event import parse_event
from emdi.merkle import node_hash
from emdi.scope import Scope, format_scope
from emdi.tiles import TileReader
from stackwitness.errors import LogUnavailable
from stackwitness.evidence import queries
from stackwitness.evidence.domain import Export, Selection, ms_of
from stackwitness.log.reader import Snapshot

README = """Stackwitness export bundle

What: readings as the station signed them, the flags raised on them, what inspectors decided, and
the proof that none of it was changed or left out after it was logged.

Verify with the program of the Stackwitness project (needs no server and no secret):
    stackwitness-verify <this file> --policy <your own copy of the log's policy>

By other means: `checkpoint` is a signed note (c2sp.org/tlog-checkpoint). entries.bin holds records
of index (8 bytes, big-endian), length (2 bytes) and entry; the SHA-256 of a zero byte and the entry
is leaf number index of the Merkle tree (RFC 6962) whose root stands in the checkpoint; proofs.txt
has its inclusion path. An entry is the bytes 45 4D 44 01, a kind, the time of receipt (8 bytes, Unix
ms) and a JWS in compact form, or for index 0 the log's genesis with the service's keys. MANIFEST has
the SHA-256 of each file; export.jws, an event of the same log, names MANIFEST.
"""
MEMO_LIMIT = 100_000
MAX_LOST = 10_000


@dataclass
class Counts:
    """What entries.bin holds."""

    envelopes: int = 0
    readings: int = 0
    flags: int = 0
    reviews: int = 0
    indexes: list[int] = field(default_factory=list)


class ProofTiles:
    """Give inclusion paths of many neighbouring entries, each inner hash computed once."""

    def __init__(self, tiles: TileReader) -> None:
        self._tiles = tiles
        self._memo: dict[tuple[int, int], bytes] = {}

    def inclusion(self, idx: int) -> list[bytes]:
        """Return the inclusion path, leaf sibling first (RFC 6962 2.1.1)."""
        path: list[bytes] = []
        first, end = 0, self._tiles.size
        while end - first > 1:
            middle = first + (1 << ((end - first - 1).bit_length() - 1))
            if idx < middle:
                path.append(self._hash(middle, end))
                end = middle
            else:
                path.append(self._hash(first, middle))
                first = middle
        return path[::-1]

    def _hash(self, first: int, end: int) -> bytes:
        if end - first == 1:
            return self._tiles.leaf(first)
        known = self._memo.get((first, end))
        if known is None:
            middle = first + (1 << ((end - first - 1).bit_length() - 1))
            known = node_hash(self._hash(first, middle), self._hash(middle, end))
            if len(self._memo) >= MEMO_LIMIT:
                self._memo.clear()
            self._memo[(first, end)] = known
        return known


def write_members(
    conn: Connection, export: Export, selection: Selection, snapshot: Snapshot, policy: str, folder: Path
) -> bytes:
    """Write every member that MANIFEST lists, and MANIFEST; return MANIFEST."""
    counts = _write_entries(conn, export, selection, snapshot.tiles, folder)
    proofs = ProofTiles(snapshot.tiles)
    _write_lines(folder / "proofs.txt", (format_proof(idx, proofs.inclusion(idx)) for idx in counts.indexes))
    _write_lines(folder / "readings.csv", _reading_lines(conn, export.stn, selection))
    _write_lines(folder / "flags.csv", _flag_lines(conn, export.stn, selection.size))
    reviews = queries.read_reviews(conn, export.stn, selection.size)
    rows = [
        reviews_csv_row(row.idx, row.review_id, row.flag_id, row.decision, row.account_id) for row in reviews
    ]
    _write_lines(folder / "reviews.csv", [REVIEWS_HEADER, *rows])
    texts = [Disclosure(bytes(row.event_id), bytes(row.salt), row.reason) for row in reviews]
    _write_lines(folder / "disclosures.jsonl", [format_disclosure(text) for text in texts])
    (folder / "README.txt").write_text(README, encoding="utf-8")
    (folder / "policy.txt").write_text(policy, encoding="utf-8")
    (folder / "checkpoint").write_bytes(snapshot.note)
    (folder / "scope.json").write_bytes(format_scope(_scope(export, selection, counts)))
    manifest = make_manifest((path.name, path) for path in sorted(folder.iterdir()))
    (folder / "MANIFEST").write_bytes(manifest)
    return manifest


def _write_entries(
    conn: Connection, export: Export, selection: Selection, tiles: TileReader, folder: Path
) -> Counts:
    counts = Counts()
    lost = list(_lost_entries(conn, export, tiles))

    def take() -> Iterator[tuple[int, bytes]]:
        rows = queries.read_entries(conn, export.stn, selection.size, selection.envelopes)
        for idx, kind, recv_ms, body in merge(rows, lost, key=itemgetter(0)):
            counts.indexes.append(idx)
            _count(counts, kind, body)
            yield idx, encode_entry(kind, recv_ms, body)

    with open(folder / "entries.bin", "wb") as file:
        for record in pack_entries(take()):
            file.write(record)
    return counts


def _lost_entries(
    conn: Connection, export: Export, tiles: TileReader
) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield what the log published about this station and period and the database no longer has.

    Left out, a row deleted at the end of a chain would be missed by nobody who has only the bundle.
    """
    found = queries.find_lost(conn, tiles.size, MAX_LOST)
    if len(found) == MAX_LOST:
        raise LogUnavailable(detail="the database has lost too many entries of the log; run fsck")
    for idx in found:
        entry = parse_entry(tiles.entry(idx))
        if _concerns(entry, export):
            yield idx, entry.kind, entry.recv_ms, entry.body


def _concerns(entry: Entry, export: Export) -> bool:
    try:
        if entry.kind == KIND_EVENT:
            return parse_event(entry.body).subj == f"station:{export.stn}"
        envelope = parse_envelope(entry.body)
    except EmdiError:
        return False
    first_ms, end_ms = ms_of(export.from_at), ms_of(export.to_at)
    return envelope.stn == export.stn and any(first_ms <= item.at_ms < end_ms for item in envelope.records)


def _count(counts: Counts, kind: int, body: bytes) -> None:
    """Count by the signed content; what cannot be read is left for the verifier to name."""
    try:
        if kind == KIND_READING:
            counts.readings += len(parse_envelope(body).records)
            counts.envelopes += 1
        elif kind == KIND_EVENT:
            typ = parse_event(body).typ
            counts.flags += typ == "flag.raised"
            counts.reviews += typ == "review.decision"
    except EmdiError:
        return


def _reading_lines(conn: Connection, stn: str, selection: Selection) -> Iterator[str]:
    yield READINGS_HEADER
    if selection.envelopes is None:
        return
    for row in queries.read_readings(conn, stn, selection.size, selection.envelopes):
        place = (row.idx, stn, row.ep, row.seq, row.at_ms)
        yield readings_csv_row(*place, row.name, row.unit, row.value, row.status)


def _flag_lines(conn: Connection, stn: str, size: int) -> Iterator[str]:
    yield FLAGS_HEADER
    for row in queries.read_flags(conn, stn, size):
        period = (ms_of(row.from_at), ms_of(row.to_at))
        digest = flag_text_sha256(row.text_en, row.text_zh)
        try:
            yield flags_csv_row(
                row.idx, row.flag_id, row.detector, row.kind, row.verdict, *period, row.channels, digest
            )
        except (
            BundleError
        ):  # a row edited into what a table cannot hold: spelled as JSON, the verifier names it
            yield json.dumps([row.idx, row.flag_id, "edited"]) + "\n"


def _scope(export: Export, selection: Selection, counts: Counts) -> Scope:
    envelopes = selection.envelopes
    first, last = (envelopes.first, envelopes.last) if envelopes else ((None, None), (None, None))
    return Scope(
        export_id=export.export_id,
        stn=export.stn,
        from_ms=ms_of(export.from_at),
        to_ms=ms_of(export.to_at),
        requester=export.account_id,
        purpose=export.purpose,
        ep_first=first[0],
        seq_first=first[1],
        ep_last=last[0],
        seq_last=last[1],
        size=selection.size,
        readings=counts.readings,
        envelopes=counts.envelopes,
        flags=counts.flags,
        reviews=counts.reviews,
        head=selection.head,
    )


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)
