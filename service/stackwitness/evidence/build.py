"""Write the members of a bundle, over a head of the log that covers all that is newest about its stations."""

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from sqlalchemy import Connection

from emdi.bundle import bundle_note_text
from emdi.checkpoint import parse_checkpoint
from emdi.errors import EmdiError, NoteError
from emdi.note import parse_note, sign_note
from emdi.policy import Policy, parse_policy
from emdi.scope import COMMON_SUBJECTS
from emdi.tiles import TileReader
from stackwitness.db.roles import EVERY_AGENCY, act_as
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import LogUnavailable
from stackwitness.evidence import queries
from stackwitness.evidence.bundle.plan import (
    PLAN,
    Plan,
    concern_of,
    find_subjects,
    load_plan,
    make_plan,
    save_plan,
)
from stackwitness.evidence.bundle.published import speaks_of
from stackwitness.evidence.bundle.queries import count_entries, find_newest_ids
from stackwitness.evidence.domain import Export
from stackwitness.evidence.frozen import find_covered_end, find_kept, keep_bundled
from stackwitness.evidence.members import Bench, write_members
from stackwitness.evidence.sealing import KeyChanged, find_late_key, seal, sync_folder
from stackwitness.log.errors import QuorumMissing
from stackwitness.log.heads import DailyHead, find_newest, request_head
from stackwitness.log.notekeys import load_export_key
from stackwitness.log.policies import read_policy
from stackwitness.log.queries import find_places
from stackwitness.wiring import Wiring

LOG_WITHIN_S = 60.0
SAY_EVERY_S = 0.5
log = structlog.get_logger("evidence")

Watch = Callable[[int, int], None]


def ignore(done: int, of: int) -> None:
    """Watch nothing."""


class Progress:
    """Say in the request how many entries are written, at most twice a second and on a connection of its own."""

    def __init__(self, wiring: Wiring, export_id: str, of: int, watch: Watch) -> None:
        self._watch = watch
        self._wiring = wiring
        self._export_id = export_id
        self._of = of
        self._done = 0
        self._said = float("-inf")

    def advance(self, count: int) -> None:
        """Count entries that were written."""
        self._done += count
        if time.monotonic() - self._said >= SAY_EVERY_S:
            self.say()

    def say(self) -> None:
        """Store the numbers now."""
        self._said = time.monotonic()
        self._watch(min(self._done, self._of), self._of)
        with unit_of_work(self._wiring.engine, "sw_export", EVERY_AGENCY) as conn:
            queries.set_progress(conn, self._export_id, min(self._done, self._of), self._of)

    def finish(self) -> None:
        """Store that all is written, members of an earlier attempt among it."""
        self._done = self._of
        self.say()


def write_and_seal(wiring: Wiring, export: Export, folder: Path, watch: Watch) -> None:
    """Write the members and have the log name them; raises LogUnavailable, EmdiError."""
    while True:
        try:
            _write_and_seal(wiring, export, folder, watch)
            return
        except KeyChanged:
            shutil.rmtree(folder)


def _write_and_seal(wiring: Wiring, export: Export, folder: Path, watch: Watch) -> None:
    plan = load_plan(folder) if _readable(folder) else None
    if plan is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    ensure = _ensure_end if export.frozen else _ensure_head
    head = ensure(wiring, export) if plan is None else None
    with (
        wiring.engine.connect().execution_options(isolation_level="REPEATABLE READ") as conn,
        conn.begin(),
    ):
        act_as(conn, "sw_export", EVERY_AGENCY)
        if plan is None and head is not None:
            plan = _plan(wiring, conn, export, head, folder)
        assert plan is not None
        policy = read_policy(conn)
        if policy is None:
            raise LogUnavailable(detail="the log has no leaf 0")
        # Entries are written once, and the readings of each envelope again.
        progress = Progress(wiring, export.export_id, 2 * count_entries(conn, plan.choice), watch)
        progress.say()
        tiles = TileReader(wiring.log_reader.file, plan.size)
        bench = Bench(conn, export, plan, tiles, wiring.log_reader, policy, folder, progress.advance)
        manifest = write_members(bench)
    progress.finish()
    checkpoint = parse_checkpoint(parse_note((folder / "checkpoint").read_bytes()).text)
    note = bundle_note_text(export.export_id, manifest, checkpoint.origin, plan.size)
    (folder / "bundle.note").write_bytes(sign_note(note, load_export_key(wiring.settings)))
    sync_folder(folder)
    if not export.frozen:
        seal(wiring, export, plan, manifest)
        return
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        digest = hashlib.sha256(manifest).digest()
        keep_bundled(conn, export, digest, (folder / "checkpoint").read_bytes())


def _readable(folder: Path) -> bool:
    """Tell whether an interrupted build left its checkpoint whole."""
    try:
        parse_checkpoint(parse_note((folder / "checkpoint").read_bytes()).text)
        return (folder / PLAN).exists()
    except (OSError, NoteError):
        return False


def _ensure_head(wiring: Wiring, export: Export) -> DailyHead:
    """Return a head of the log, itself published, that covers all that is newest about the stations.

    The newest head there is serves, when nothing about them was published since.
    """
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        newest_ids = [*find_newest_ids(conn, export.stns)]
        if (key_id := queries.find_newest_key(conn)) is not None:
            newest_ids.append(key_id)
    for entry_id in newest_ids:
        if wiring.log_reader.await_receipt(entry_id, LOG_WITHIN_S) is None:
            raise LogUnavailable(detail="the log does not publish the newest entries")
    size = wiring.log_reader.snapshot().size
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        head = find_newest(conn)
        subjects = find_subjects(conn, export, size)
        late_key = head is not None and find_late_key(conn, head.as_of - 1)
    # The log's own events move on all the time, the head's own among them.
    concern = concern_of(export, set(subjects) - set(COMMON_SUBJECTS))
    tiles = TileReader(wiring.log_reader.file, size)
    if head is None or late_key or speaks_of(tiles, concern, head.as_of, size):
        head = request_head(wiring.engine, size)
    if wiring.log_reader.await_receipt(head.event_id, LOG_WITHIN_S) is None:
        raise LogUnavailable(detail="the log does not publish the head's event")
    return head


def _ensure_end(wiring: Wiring, export: Export) -> DailyHead:
    """Return the head that covers a frozen log, once the final checkpoint is published."""
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        end = find_covered_end(conn)
    if wiring.log_reader.await_receipt(end.event_id, LOG_WITHIN_S) is None:
        raise LogUnavailable(detail="the final checkpoint is not published")
    if wiring.log_reader.snapshot().size != end.freeze.size:
        raise LogUnavailable(detail="the published log does not end with log.freeze; run fsck")
    return end.head


def _plan(wiring: Wiring, conn: Connection, export: Export, head: DailyHead, folder: Path) -> Plan:
    policy = parse_policy(read_policy(conn) or "")
    snapshot = wiring.log_reader.await_quorum(policy)
    note = snapshot.note
    place = find_places(conn, [head.event_id], (2,))[0]
    if place.idx >= snapshot.size:
        raise LogUnavailable(detail="the published log went back")
    last_idx = place.idx
    if export.frozen:
        note = find_kept(conn, policy, note)
        last_idx = snapshot.size - 1  # log.freeze belongs to it: it is what shows that nothing can follow
    _weigh_quorum(wiring, export, policy, note)
    tiles = TileReader(wiring.log_reader.file, snapshot.size)
    plan = make_plan(conn, export, tiles, head, last_idx)
    (folder / "checkpoint").write_bytes(note)
    save_plan(plan, folder)
    return plan


def _weigh_quorum(wiring: Wiring, export: Export, policy: Policy, note: bytes) -> None:
    """Warn that the bundle's checkpoint lacks witnesses, as the log does; raise QuorumMissing where settings require them."""
    try:
        policy.check(note)
    except EmdiError as error:
        if wiring.settings.require_quorum:
            raise QuorumMissing(error.message) from None
        log.warning("export.quorum", export_id=export.export_id, missing=error.message)
