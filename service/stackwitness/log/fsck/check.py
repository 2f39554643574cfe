"""Re-derive everything from disk and database, and name what does not fit."""

from collections.abc import Callable, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from emdi.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from emdi.entry import Entry, parse_entry
from emdi.envelope import Envelope
from emdi.errors import EmdiError
from emdi.event import Event
from emdi.merkle import HASH_BYTES, leaf_hash
from emdi.note import parse_note
from emdi.policy import Policy, parse_policy
from emdi.tiles import TILE_WIDTH
from stackwitness.db.roles import EVERY_AGENCY, act_as
from stackwitness.log.disk import Disk
from stackwitness.log.fsck import rows
from stackwitness.log.fsck.anchors import check_anchors
from stackwitness.log.fsck.guards import check_detection, check_guards, count_unchecked
from stackwitness.log.fsck.heads import check_heads
from stackwitness.log.fsck.history import History, at_of, entry_id_of
from stackwitness.log.fsck.parallel import WORTH_ENTRIES, check_spans, fits, read_hints, take_summary
from stackwitness.log.fsck.projection import Projection
from stackwitness.log.fsck.report import Report
from stackwitness.log.fsck.rows import TABLES, StoredRow
from stackwitness.log.fsck.runs import check_runs
from stackwitness.log.fsck.signatures import Signatures
from stackwitness.log.fsck.spans import Hints, Summary
from stackwitness.log.fsck.tree import DiskTiles, Tree, check_roots, read_plain, settle_leaf, stored_entry
from stackwitness.log.genesis import Genesis
from stackwitness.log.previous import read_previous

Progress = Callable[[int, int], None]


def fsck(
    engine: sa.Engine,
    log_dir: Path,
    policy: Policy | None = None,
    *,
    signer_dir: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check the whole log and every table derived from it, in one database snapshot.

    `policy` should be the checker's own copy; without one leaf 0 is believed. `signer_dir` adds the signer's
    memory where it may be read. `progress(done, total)` is called now and then. A running log may go on.
    """
    report = Report()
    disk = Disk(log_dir)
    note = _read(
        disk, "checkpoint"
    )  # before the database's snapshot, so that the snapshot holds all it covers
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as conn, conn.begin():
        act_as(conn, "sw_export", EVERY_AGENCY)
        check = _Check(conn, disk, note, report)
        try:
            check.run(policy, signer_dir, progress or (lambda done, total: None))
        finally:
            check.signatures.close()
    return report


class _Check:
    """One run: the state that its steps share."""

    def __init__(self, conn: sa.Connection, disk: Disk, note: bytes | None, report: Report) -> None:
        self.conn = conn
        self.report = report
        self.note = note
        self.checkpoint = self._parse(note)
        self.stored = rows.count_entries(conn)
        self.tiles = DiskTiles(disk, self.checkpoint.size if self.checkpoint else 0, report, self.stored)
        self.tree = Tree(self.tiles, report)
        self.signatures = Signatures(report, max(self.stored, self.tiles.size))
        before = read_previous(conn)
        self.history = History(report, self.signatures, b"" if before is None else before[1])
        query = "SELECT stn, name, channel_no FROM channel"
        channels = {(row.stn, row.name): row.channel_no for row in rows.read_table(conn, query)}
        self.projection = Projection(conn, channels, report)

    def run(self, policy: Policy | None, signer_dir: Path | None, progress: Progress) -> None:
        signer = _signer_checkpoint(signer_dir, self.report)
        heads = rows.read_heads(self.conn)
        signed = [checkpoint.size for checkpoint in (self.checkpoint, signer) if checkpoint]
        self.tree.want([size for size, _, _ in heads] + signed)
        total = max(self.stored, self.tiles.size)
        done = self._check_spans(total, progress)
        for n in range(done // TILE_WIDTH, -(-total // TILE_WIDTH)):
            progress(n * TILE_WIDTH, total)
            self._check_bundle(n, total)
        self.tree.close()
        progress(total, total)
        self.report.entries = self.report.size = self.tree.range.size
        check_roots(self.tree, self.checkpoint, heads, self.report)
        self._check_signed(policy, signer)
        self._check_pending()
        self.signatures.close()
        self.projection.close()
        self.history.records.compare(self.conn, self.report)
        self._check_caches()
        check_guards(self.conn, self.report, self.history.records)
        count_unchecked(self.conn, self.report)
        check_anchors(self.conn, self.tiles.folder, self.report)
        check_detection(self.conn, self.report)
        check_runs(self.conn, self.report)
        check_heads(self.conn, Disk(self.tiles.folder), self.report)
        for table, key in rows.read_orphans(self.conn, total, whole=self.report.exit_code == 0):
            text = "the row has neither a log entry nor a place in the queue"
            self.report.tamper(f"{table}.unlogged", table, key.hex(), text)
        for idx, aside in rows.read_framed(self.conn):
            text = f"the envelope of idx {idx} is set aside as if its station contradicted itself: it did not"
            self.report.tamper("quarantine.same", "quarantine", str(aside), text, aside)
        for idx in rows.read_strays(self.conn, total):
            text = "the row stands beyond the end of the log"
            self.report.tamper("log_entry.place", "log_entry", str(idx), text, idx)

    def _check_spans(self, total: int, progress: Progress) -> int:
        """Check what other processes can; return up to which index. What is in doubt is looked at here."""
        end = self.tiles.size - self.tiles.size % TILE_WIDTH
        if self.tiles.size < WORTH_ENTRIES:
            return 0
        hints, done = read_hints(self.conn, self.tiles.folder), 0
        # Processes that are killed, or that the database lets in no more, leave the rest to this one.
        with suppress(BrokenProcessPool):
            for summary in check_spans(hints, TILE_WIDTH, end):
                if not done:  # leaf 0 names the key that signs events; the processes have begun meanwhile
                    self._check_bundle(0, total)
                progress(summary.first, total)
                self._take(summary, hints, total)
                done = summary.end
        return done

    def _take(self, summary: Summary, hints: Hints, total: int) -> None:
        if fits(summary, self.history, hints):
            for at in range(0, len(summary.leaves), HASH_BYTES * TILE_WIDTH):
                self.tree.add_tile(summary.leaves[at : at + HASH_BYTES * TILE_WIDTH])
            take_summary(summary, self.history)
            self.projection.pass_over(summary.readings)
        else:
            for n in range(summary.first // TILE_WIDTH, summary.end // TILE_WIDTH):
                self._check_bundle(n, total)

    def _check_bundle(self, n: int, total: int) -> None:
        start, stop = n * TILE_WIDTH, min((n + 1) * TILE_WIDTH, total)
        stored = rows.read_log_rows(self.conn, start, stop)
        on_disk = max(0, min(stop, self.tiles.size) - start)
        bundle = (self.tiles.bundle(n) if on_disk else []) + [None] * (stop - start - on_disk)
        hashes = (self.tiles.hashes(0, n, on_disk) if on_disk else []) + [None] * (stop - start - on_disk)
        for place, idx in enumerate(range(start, stop)):
            row = stored.get(idx)
            leaf = settle_leaf(idx, bundle[place], hashes[place], row, self.report)
            if leaf is None:
                continue
            self.tree.add(leaf.hash)
            if leaf.entry is not None:
                self._check_entry(idx, leaf.entry, row)

    def _check_entry(self, idx: int | None, data: bytes, row: StoredRow | None) -> None:
        try:
            entry = parse_entry(data)
        except EmdiError as error:
            self.report.tamper("entry.malformed", "log_entry", str(idx), str(error), idx)
            return
        parsed = self.history.take(idx, entry)
        if row is None or parsed is None:
            return
        differing = [
            f"{name} is {_plain(stored)}, the entry says {_plain(wanted)}"
            for name, stored, wanted in _columns(entry, parsed, row)
            if stored != wanted
        ]
        table = TABLES[entry.kind]
        if differing and row.body is not None:
            key = row.entry_id.hex()
            self.report.tamper(f"{table}.edited", table, key, "; ".join(differing), idx)
        if isinstance(parsed, Envelope) and entry.kind == 1 and row.envelope_no is not None:
            self.projection.check(idx, parsed, row.envelope_no)

    def _check_pending(self) -> None:
        for row in rows.read_pending_rows(self.conn):
            self.report.pending += 1
            table = TABLES.get(row.kind, "log_pending")
            key = row.entry_id.hex()
            if row.body is None:
                self.report.miss(f"{table}.missing", table, key, "it waits for the log, but its row is gone")
                continue
            entry = stored_entry(row)
            if entry is None or leaf_hash(entry) != row.leaf:
                text = "the queued leaf hash is not that of the row"
                self.report.tamper("log_pending.edited", "log_pending", key, text)
            self._check_entry(None, entry or b"", row)

    def _check_signed(self, policy: Policy | None, signer: Checkpoint | None) -> None:
        log_keys = self.history.log_keys
        if self.note is not None and self.checkpoint is not None:
            try:
                open_checkpoint(self.note, policy or parse_policy(log_keys.policy_text() if log_keys else ""))
            except EmdiError as error:
                # The log may go on without its witnesses: a quorum that is missing is no forgery.
                say = self.report.miss if error.code == "policy.quorum" else self.report.tamper
                code = "checkpoint.quorum" if error.code == "policy.quorum" else "checkpoint.signature"
                say(code, "disk", "checkpoint", str(error))
        elif self.note is None and self.tree.range.size and signer is not None:
            self.report.miss("checkpoint.missing", "disk", "checkpoint", "the signed checkpoint is gone")
        if signer is not None and self.tree.roots.get(signer.size) != signer.root:
            text = f"signed another tree at size {signer.size}; the log has {self.tree.range.size} entries"
            self.report.tamper("signer.root", "signer", "state", text)

    def _check_caches(self) -> None:
        history = self.history
        stored = {
            row.stn: (row.ep, row.seq, bytes(row.env_id or b""), row.last_at)
            for row in rows.read_table(self.conn, "SELECT stn, ep, seq, env_id, last_at FROM station_head")
        }
        wanted = {
            # A station silent since the shard began: its latest reading stands in the shard before.
            stn: (*head, at_of(history.last_at_ms[stn]) if stn in history.last_at_ms else stored[stn][3])
            for stn, head in history.stations.items()
            if stn in history.last_at_ms or stn in stored
        }
        self._compare_cache("station_head", stored, wanted)
        subjects = {
            row.subj: (row.sseq, bytes(row.event_id or b""))
            for row in rows.read_table(self.conn, "SELECT subj, sseq, event_id FROM subject_head")
        }
        self._compare_cache("subject_head", subjects, dict(history.subjects))

    def _compare_cache(
        self, table: str, stored: Mapping[str, tuple[object, ...]], wanted: Mapping[str, tuple[object, ...]]
    ) -> None:
        for key in sorted(stored.keys() | wanted.keys()):
            here, there = stored.get(key), wanted.get(key)
            if here is None:
                self.report.miss(f"{table}.missing", table, key, "the head has no row")
            elif here != there:
                text = f"the row says {_plain(here)}, the log says {_plain(there)}"
                self.report.tamper(f"{table}.edited", table, key, text)

    def _parse(self, note: bytes | None) -> Checkpoint | None:
        try:
            return None if note is None else parse_checkpoint(parse_note(note).text)
        except EmdiError as error:
            self.report.tamper("checkpoint.malformed", "disk", "checkpoint", str(error))
            return None


def _columns(
    entry: Entry, parsed: Envelope | Event | Genesis, row: StoredRow
) -> list[tuple[str, object, object]]:
    """Return (column, stored, wanted) of the row an entry stands for."""
    columns: list[tuple[str, object, object]] = [
        ("kind", row.kind, entry.kind),
        ("recv_ms", row.recv_ms, entry.recv_ms),
        ("its row's recv_ms", row.row_recv_ms, entry.recv_ms),
    ]
    wanted_id = entry_id_of(entry.kind, parsed)
    if wanted_id is not None:
        columns.append(("entry_id", row.entry_id, wanted_id))
    if isinstance(parsed, Envelope):
        names = ("stn", "ep", "seq", "kid")
        columns += [(name, getattr(row, name), getattr(parsed, name)) for name in names]
    if isinstance(parsed, Envelope) and entry.kind == 1:
        times = [record.at_ms for record in parsed.records]
        columns += [
            ("iat_ms", row.iat_ms, parsed.iat_ms),
            ("first_at", row.first_at, at_of(min(times))),
            ("last_at", row.last_at, at_of(max(times))),
            ("reading_count", row.reading_count, len(times)),
        ]
    if isinstance(parsed, Event):
        columns += [
            (name, getattr(row, name), getattr(parsed, name)) for name in ("typ", "subj", "sseq", "sprev")
        ]
    return columns


def _signer_checkpoint(signer_dir: Path | None, report: Report) -> Checkpoint | None:
    """Return what the signer signed last; None when nothing, or when its folder is not ours to read."""
    if signer_dir is None:
        return None
    try:
        state = (signer_dir / "state").read_bytes()
        note = state.partition(b"\n\n")[2]
        return parse_checkpoint(parse_note(note).text) if note else None
    except PermissionError:
        pass
    except OSError:
        report.miss("signer.no_state", "signer", "state", "the signer's state is gone")
    except EmdiError as error:
        report.tamper("signer.state", "signer", "state", str(error))
    return None


def _read(disk: Disk, path: str) -> bytes | None:
    try:
        return read_plain(disk, path)
    except OSError:
        return None


def _plain(value: object) -> str:
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()[:16]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return "(" + ", ".join(_plain(item) for item in value) + ")"
    return repr(value)
