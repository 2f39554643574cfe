"""Write the members of a bundle into a folder, streaming what may be large; a finished member is not written twice."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from heapq import merge
from operator import itemgetter
from pathlib import Path

from sqlalchemy import Connection

from emdi.bundle import (
    CUSTODY_HEADER,
    FLAGS_HEADER,
    READINGS_HEADER,
    REVIEWS_HEADER,
    Disclosure,
    custody_csv_row,
    flag_text_sha256,
    flags_csv_row,
    format_disclosure,
    format_proof,
    iter_entries,
    make_manifest,
    pack_entries,
    reviews_csv_row,
)
from emdi.entry import KIND_EVENT, KIND_READING, encode_entry, parse_entry
from emdi.envelope import parse_columns
from emdi.errors import BundleError, EmdiError
from emdi.event import Event, parse_event
from emdi.head import parse_head
from emdi.layout import head_names, is_member
from emdi.paths import PathMaker, prove_lines
from emdi.scope import Scope, format_scope
from emdi.tables import CUSTODY, UNKNOWN_SALT
from emdi.tiles import TileReader
from emdi.units import format_at
from stackwitness.errors import LogUnavailable
from stackwitness.evidence.bundle import queries
from stackwitness.evidence.bundle.anchors import anchor_members, choose_anchors, stands
from stackwitness.evidence.bundle.plan import Plan
from stackwitness.evidence.bundle.readme import README
from stackwitness.evidence.domain import Export, ms_of
from stackwitness.evidence.report.members import PDF, write_report
from stackwitness.log.anchored import read_anchors
from stackwitness.log.previous import read_previous
from stackwitness.log.reader import LogReader
from stackwitness_client.parquet import NAMES, write_parquet

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Bench:
    """What every member is made from: one transaction, one plan, the tiles of the checkpoint."""

    conn: Connection
    export: Export
    plan: Plan
    tiles: TileReader
    log: LogReader
    policy: str
    folder: Path
    advance: Advance


def write_members(bench: Bench) -> bytes:
    """Write every member that MANIFEST lists, and MANIFEST; return MANIFEST.

    `checkpoint` is there already. `bench.advance(count)` hears of entries as they are written. Raises
    LogUnavailable, EmdiError.
    """
    plan, stns = bench.plan, bench.export.stns
    _write(bench, "entries.bin", _entry_records(bench))
    paths = PathMaker(bench.tiles.leaf, plan.size)
    _write(
        bench, "proofs.txt", (_text(format_proof(idx, paths.inclusion(idx))) for idx, _ in _entries(bench))
    )
    _write(bench, "readings.csv", map(_text, _reading_lines(bench)))
    _write(bench, "flags.csv", map(_text, _flag_lines(bench.conn, stns, plan.head_as_of)))
    _write(bench, "reviews.csv", map(_text, _review_lines(bench.conn, stns, plan.head_as_of)))
    _write(bench, "custody.csv", map(_text, _custody_lines(bench)))
    _write(bench, "disclosures.jsonl", map(_text, _disclosures(bench)))
    for as_of in plan.heads:
        _write_head(bench, as_of)
    _write_previous(bench)
    _write_states(bench)
    _write_anchors(bench)
    _write(bench, "README.txt", [_text(README)])
    _write(bench, "policy.txt", [_text(bench.policy)])
    _write(bench, "scope.json", [format_scope(_scope(bench))])
    for name, table in NAMES.items():
        _write_parquet(bench.folder, name, table)
    write_report(bench.folder, [(name, path) for name, path in members_in(bench.folder) if name != PDF])
    manifest = make_manifest(members_in(bench.folder))
    (bench.folder / "MANIFEST").write_bytes(manifest)
    return manifest


def members_in(folder: Path) -> list[tuple[str, Path]]:
    """Return (name, path) of every member that lies in the folder, sorted by name."""
    files = [(path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file()]
    return sorted(item for item in files if is_member(item[0]))


def _write(bench: Bench, name: str, chunks: Iterable[bytes]) -> None:
    """Write one member whole or not at all; one that an interrupted build left finished stays."""
    target = bench.folder / name
    if target.exists():
        return
    target.parent.mkdir(exist_ok=True)
    draft = target.with_name(f"{target.name}.part")
    with open(draft, "wb") as file:
        file.writelines(chunks)
    draft.replace(target)


def _write_previous(bench: Bench) -> None:
    """Take along where the shard before this one ended: leaf 0 commits to it, chains go on from it."""
    previous = read_previous(bench.conn)
    if previous is not None:
        _write(bench, "previous/head", [previous[1]])


def _write_states(bench: Bench) -> None:
    """Give the detectors' memory where a station's envelopes do not begin with its first: computed, not stored."""
    try:
        from stackwitness.evidence.carried import find_state
        from stackwitness.evidence.rerun import STATE_MEMBER
    except ImportError:  # no detectors here: the bundle is whole without, its first runs are not run again
        return
    for station in bench.plan.stations:
        try:
            state = find_state(bench.conn, station.stn, station.runs[0][:2]) if station.runs else None
        except EmdiError:  # an edited row before the first envelope: no memory can be vouched for
            continue
        if state is not None:
            _write(bench, STATE_MEMBER.format(stn=station.stn), [state])


def _write_anchors(bench: Bench) -> None:
    envelopes = [idx for idx, data in _entries(bench) if parse_entry(data).kind == KIND_READING]
    first, last = (envelopes[0], envelopes[-1]) if envelopes else (0, 0)
    # Below the head, so that the same plan gives the same bundle however many anchors come later.
    held, origin = read_anchors(bench.conn, bench.plan.head_as_of), bench.log.snapshot().checkpoint.origin
    good = partial(stands, origin=origin, tiles=bench.tiles, read=bench.log.file)
    for name, data in anchor_members(choose_anchors(held, first, last, good), bench.tiles, bench.log.file):
        _write(bench, name, [data])


def _entry_records(bench: Bench) -> Iterator[bytes]:
    rows = queries.read_entries(bench.conn, bench.plan.choice)
    strays = ((idx, *parse_entry(bench.tiles.entry(idx))) for idx in bench.plan.strays)
    last = -1

    def take() -> Iterator[tuple[int, bytes]]:
        nonlocal last
        for idx, kind, recv_ms, body in merge(rows, strays, key=itemgetter(0)):
            if idx > last:
                last = idx
                bench.advance(1)
                yield idx, encode_entry(kind, recv_ms, body)

    yield from pack_entries(take())


def _entries(bench: Bench) -> Iterator[tuple[int, bytes]]:
    """Yield (idx, entry) of entries.bin as it was written."""
    with open(bench.folder / "entries.bin", "rb") as file:
        yield from iter_entries(file)


def _events(bench: Bench) -> Iterator[tuple[int, Event]]:
    for idx, data in _entries(bench):
        if data[4] == KIND_EVENT:
            try:
                yield idx, parse_event(parse_entry(data).body)
            except EmdiError:  # what cannot be read is left for the verifier to name
                continue


def _reading_lines(bench: Bench) -> Iterator[str]:
    """Spell readings.csv from the projection; the same spelling as readings_csv_row, one time text a minute."""
    yield READINGS_HEADER
    last, at_ms, lead, at = -1, -1, "", ""
    for idx, stn, ep, seq, row_ms, name, unit, value, status in queries.read_readings(
        bench.conn, bench.plan.choice
    ):
        if idx != last:
            last, lead = idx, f"{idx},{stn},{ep},{seq},"
            bench.advance(1)
        if row_ms != at_ms:
            at_ms, at = row_ms, format_at(row_ms)
        yield f"{lead}{at},{name},{unit},{'' if value is None else repr(value)},{status}\n"


def _flag_lines(conn: Connection, stns: tuple[str, ...], as_of: int) -> Iterator[str]:
    yield FLAGS_HEADER
    for row in queries.read_flags(conn, stns, as_of):
        period = (ms_of(row.from_at), ms_of(row.to_at))
        digest = flag_text_sha256(row.text_en, row.text_zh)
        try:
            yield flags_csv_row(
                row.idx, row.flag_id, row.detector, row.kind, row.verdict, *period, row.channels, digest
            )
        except BundleError:  # edited into what a table cannot hold: spelled as JSON, the verifier names it
            yield json.dumps([row.idx, row.flag_id, "edited"]) + "\n"


def _review_lines(conn: Connection, stns: tuple[str, ...], as_of: int) -> Iterator[str]:
    yield REVIEWS_HEADER
    for row in queries.read_reviews(conn, stns, as_of):
        yield reviews_csv_row(row.idx, row.review_id, row.flag_id, row.decision, row.account_id)


def _custody_lines(bench: Bench) -> Iterator[str]:
    yield CUSTODY_HEADER
    subjects = {f"station:{stn}" for stn in bench.export.stns}
    for idx, event in _events(bench):
        if event.typ in CUSTODY and event.subj in subjects:
            try:
                yield custody_csv_row(idx, event.subj, event.typ, event.ts_ms, event.act, event.data)
            except (BundleError, KeyError, TypeError):  # left for the verifier to name
                continue


def _disclosures(bench: Bench) -> Iterator[str]:
    """Yield the texts that this requester may see; none of a redacted export."""
    if bench.export.redacted:
        return
    there = {event.event_id for _, event in _events(bench)}
    for row in queries.read_texts(bench.conn, bench.plan.subjects):
        # A database made again from the log does not know the words: they are withheld, not made up.
        if bytes(row.event_id) in there and bytes(row.salt) != UNKNOWN_SALT:
            yield format_disclosure(Disclosure(bytes(row.event_id), bytes(row.salt), row.said))


def _write_head(bench: Bench, as_of: int) -> None:
    try:
        lines = parse_head(bench.log.head_file(as_of))
    except FileNotFoundError:
        raise LogUnavailable(detail=f"the file of the head at size {as_of} is gone") from None
    last = as_of == bench.plan.head_as_of
    subjects = bench.plan.subjects if last else [f"station:{stn}" for stn in bench.export.stns]
    names = [("station", stn) for stn in bench.export.stns] + [("subject", subj) for subj in subjects]
    proven = prove_lines(lines, names)
    file, proofs = head_names(as_of)
    _write(bench, file, (_text(f"{line}\n") for line, _, _ in proven))
    _write(bench, proofs, (_text(format_proof(index, path)) for _, index, path in proven))


def _write_parquet(folder: Path, name: str, table: str) -> None:
    target = folder / name
    if target.exists():
        return
    draft = target.with_name(f"{name}.part")
    try:
        with open(folder / table, "rb") as csv, open(draft, "wb") as sink:
            write_parquet(csv, sink)
    except ValueError:  # a table with an edited row is no table: the CSV shows it, the verifier names it
        draft.unlink(missing_ok=True)
        return
    draft.replace(target)


def _scope(bench: Bench) -> Scope:
    export, plan = bench.export, bench.plan
    counts = dict.fromkeys(("envelopes", "readings", "flags", "reviews"), 0)
    stations = {f"station:{stn}" for stn in export.stns}
    for _, data in _entries(bench):
        try:
            entry = parse_entry(data)
            if entry.kind == KIND_READING:
                counts["readings"] += len(parse_columns(entry.body)[1].at_ms)
                counts["envelopes"] += 1
            elif entry.kind == KIND_EVENT and (event := parse_event(entry.body)).subj in stations:
                counts["flags"] += event.typ == "flag.raised"
                counts["reviews"] += event.typ == "review.decision"
        except EmdiError:  # what cannot be read is left for the verifier to name
            continue
    return Scope(
        export_id=export.export_id,
        stations=plan.stations,
        from_ms=ms_of(export.from_at),
        to_ms=ms_of(export.to_at),
        entries=export.entries,
        requester=export.account_id,
        purpose=export.purpose,
        redacted=export.redacted,
        size=plan.size,
        heads=plan.heads,
        head_as_of=plan.head_as_of,
        **counts,
    )


def _text(line: str) -> bytes:
    return line.encode("utf-8")
