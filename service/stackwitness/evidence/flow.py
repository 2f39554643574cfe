"""Ask for exports, and build them: select, write, seal in the log, prove the seal, zip."""

import hashlib
import os
import re
import secrets
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection

from emdi.bundle import bundle_note_text, write_bundle
from emdi.encoding import b64_encode
from emdi.errors import EmdiError
from emdi.event import Event, parse_event
from emdi.note import sign_note
from emdi.pack import MAX_AT_MS
from stackwitness import clock
from stackwitness.accounts.domain import Account
from stackwitness.db.roles import EVERY_AGENCY, act_as
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import LogUnavailable, NotFound, StackwitnessError, Unprocessable
from stackwitness.evidence import queries
from stackwitness.evidence.domain import Export, Selection, ms_of
from stackwitness.evidence.members import write_members
from stackwitness.log.events import append_event, lock_subject, read_subject
from stackwitness.log.notekeys import load_export_key
from stackwitness.log.policies import read_policy
from stackwitness.log.queries import find_places
from stackwitness.log.reader import Snapshot
from stackwitness.settings import Settings
from stackwitness.wiring import Wiring

MAX_PURPOSE = 500
MAX_LISTED = 200
ATTEMPTS = 20
LOG_WITHIN_S = 60.0
log = structlog.get_logger("evidence")


def request_export(
    conn: Connection,
    account: Account,
    *,
    stn: str,
    from_at: datetime,
    to_at: datetime,
    purpose: str,
    defer: bool = True,
) -> Export:
    """Store a request and queue its building, in the caller's transaction.

    Raises NotFound station.unknown, Unprocessable export.period | export.purpose.
    """
    purpose = " ".join(purpose.split())
    if not purpose.isprintable() or not 0 < len(purpose) <= MAX_PURPOSE:
        raise Unprocessable("export.purpose", f"Say in 1 to {MAX_PURPOSE} characters what the export is for")
    if not 0 <= ms_of(from_at) < ms_of(to_at) <= MAX_AT_MS:
        raise Unprocessable(
            "export.period", "The period ends before it starts, or is not within 1970 to 9999"
        )
    if not queries.has_station(conn, stn):
        raise NotFound("station.unknown", "There is no such station")
    export_id = f"x{secrets.token_hex(8)}"
    queries.insert_request(conn, export_id, stn, from_at, to_at, purpose, account.account_id, clock.now_utc())
    if defer:
        queries.defer_build(conn, export_id)
    return find_export(conn, export_id)


def find_export(conn: Connection, export_id: str) -> Export:
    """Return an export. Raises NotFound."""
    export = queries.find_export(conn, export_id)
    if export is None:
        raise NotFound("export.unknown", "There is no such export")
    return export


def list_exports(conn: Connection, stn: str | None = None) -> list[Export]:
    """Return the newest exports of a station, or of all."""
    return queries.list_exports(conn, stn, MAX_LISTED)


def bundle_path(settings: Settings, export_id: str) -> Path:
    """Return where a finished bundle lies."""
    if re.fullmatch(r"x[0-9a-f]{16}", export_id) is None:
        raise NotFound("export.unknown", "There is no such export")
    return settings.export_dir / f"{export_id}.zip"


def build_export(wiring: Wiring, export_id: str) -> Path:
    """Build a requested export and return the bundle's path.

    Safe to repeat after a crash at any point: the members are on disk before the log hears of them. A failure
    is noted in the request and raised.
    """
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        export = find_export(conn, export_id)
    target = bundle_path(wiring.settings, export_id)
    if export.state == "done" and target.exists():
        return target
    try:
        with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
            queries.set_state(conn, export_id, "building")
        folder = wiring.settings.export_dir / f"{export_id}.parts"
        if export.manifest_sha256 is None:
            _write_and_seal(wiring, export, folder)
        _finish(wiring, export_id, folder, target)
    except Exception as error:
        why = str(error) if isinstance(error, StackwitnessError | EmdiError) else type(error).__name__
        log.error("export.failed", export_id=export_id, error=str(error))
        with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
            queries.set_state(conn, export_id, "failed", why)
        raise
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        queries.set_state(conn, export_id, "done")
    shutil.rmtree(folder, ignore_errors=True)
    return target


def _write_and_seal(wiring: Wiring, export: Export, folder: Path) -> None:
    """Write the members and have the log name them. When the station's subject moved on meanwhile, start
    again: the bundle's chain of events must end right before the event that seals it.
    """
    for _ in range(ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _await_station(wiring, export.stn)
        snapshot = wiring.log_reader.snapshot()
        with (
            wiring.engine.connect().execution_options(isolation_level="REPEATABLE READ") as conn,
            conn.begin(),
        ):
            act_as(conn, "sw_export", EVERY_AGENCY)
            selection = _select(conn, export, snapshot)
            policy = read_policy(conn)
            if policy is None:
                raise LogUnavailable(detail="the log has no leaf 0")
            manifest = write_members(conn, export, selection, snapshot, policy, folder)
        origin = snapshot.checkpoint.origin
        note = bundle_note_text(export.export_id, manifest, origin, selection.size)
        (folder / "bundle.note").write_bytes(sign_note(note, load_export_key(wiring.settings)))
        _sync(folder)
        if _seal(wiring, export, selection, manifest):
            return
    raise LogUnavailable(detail="the station's events never stood still long enough")


def _await_station(wiring: Wiring, stn: str) -> None:
    """Wait until the log has published the station's newest event and envelope."""
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        head, newest = read_subject(conn, f"station:{stn}"), queries.find_newest(conn, stn)
    for entry_id in (head.event_id if head else None, newest):
        if entry_id is not None and wiring.log_reader.await_receipt(entry_id, LOG_WITHIN_S) is None:
            raise LogUnavailable(detail="the log does not publish the station's newest entry")


def _select(conn: Connection, export: Export, snapshot: Snapshot) -> Selection:
    head = read_subject(conn, f"station:{export.stn}")
    if head is None:
        raise NotFound("station.unknown", "There is no such station")
    return Selection(
        size=snapshot.size,
        envelopes=queries.find_range(conn, export.stn, export.from_at, export.to_at, snapshot.size),
        subject_sseq=head.sseq,
        subject_event_id=head.event_id,
        head=queries.find_head(conn, export.stn, snapshot.size),
    )


def _seal(wiring: Wiring, export: Export, selection: Selection, manifest: bytes) -> bool:
    """Append export.made; False when another event of the station came first, or is not published yet."""
    subj = f"station:{export.stn}"
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        head = lock_subject(conn, subj)
        if head is None or head.event_id != selection.subject_event_id:
            return False
        places = find_places(conn, [head.event_id], (2,))
        if not places or places[0].idx >= selection.size:
            return False
        digest = hashlib.sha256(manifest).digest()
        data = _seal_data(export, selection, digest)
        event = append_event(
            conn, wiring.service_key, typ="export.made", subj=subj, act=export.account_id, data=data
        )
        made_at = clock.now_utc()
        queries.insert_export(conn, export.export_id, export.stn, digest, made_at, event.event_id)
    return True


def _seal_data(export: Export, selection: Selection, digest: bytes) -> dict[str, Any]:
    envelopes, head = selection.envelopes, selection.head
    first, last = (envelopes.first, envelopes.last) if envelopes else ((None, None), (None, None))
    return {
        "export_id": export.export_id,
        "manifest_sha256": digest.hex(),
        "from_ms": ms_of(export.from_at),
        "to_ms": ms_of(export.to_at),
        "ep_first": first[0],
        "seq_first": first[1],
        "ep_last": last[0],
        "seq_last": last[1],
        "head": None if head is None else {"ep": head.ep, "seq": head.seq, "env_id": head.env_id.hex()},
        "size": selection.size,
    }


def _finish(wiring: Wiring, export_id: str, folder: Path, target: Path) -> None:
    """Wait for the seal's receipt, add it with its proof of consistency, and zip."""
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        sealed = queries.find_sealed_event(conn, export_id)
    if sealed is None or not (folder / "MANIFEST").exists():
        raise LogUnavailable("export.lost", "The members of this export are lost; ask for it again")
    event_id, jws = sealed
    if wiring.log_reader.await_receipt(event_id, LOG_WITHIN_S) is None:
        raise LogUnavailable(detail="the log does not publish the export's event")
    snapshot = wiring.log_reader.snapshot()
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        place = find_places(conn, [event_id], (2,))[0]
    event: Event = parse_event(jws)
    path = snapshot.consistency(int(event.data["size"]))
    (folder / "export.jws").write_bytes(jws + b"\n")
    (folder / "export.tlog-proof").write_bytes(snapshot.receipt(place))
    (folder / "consistency.txt").write_text("".join(b64_encode(item) + "\n" for item in path))
    temporary = target.with_suffix(".tmp")
    write_bundle(temporary, [(part.name, part) for part in folder.iterdir()])
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    temporary.replace(target)


def _sync(folder: Path) -> None:
    """Put every member on the disk itself: the log is about to name them for ever."""
    for part in folder.iterdir():
        with open(part, "rb") as file:
            os.fsync(file.fileno())
