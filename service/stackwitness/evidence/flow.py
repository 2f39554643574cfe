"""Ask for exports, and build them: choose, write, seal in the log, prove the seal, zip."""

import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import structlog
from sqlalchemy import Connection

from emdi.errors import EmdiError
from emdi.event import Event
from emdi.keys import Signer
from emdi.pack import MAX_AT_MS
from emdi.scope import MAX_STATIONS
from stackwitness import clock
from stackwitness.accounts.domain import Account
from stackwitness.db.roles import EVERY_AGENCY
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Forbidden, NotFound, StackwitnessError, Unprocessable
from stackwitness.evidence import queries
from stackwitness.evidence.build import Watch, ignore, write_and_seal
from stackwitness.evidence.domain import EPOCH, FOR_EVER, Export, at_of, ms_of
from stackwitness.evidence.frozen import alone, ask_frozen
from stackwitness.evidence.sealing import finish, zip_members
from stackwitness.log.events import append_explained
from stackwitness.settings import Settings
from stackwitness.wiring import Wiring

MAX_PURPOSE = 500
MAX_LISTED = 200
# Whoever else may ask for a bundle gets one without the texts.
READS_TEXTS = frozenset({"regulator"})
log = structlog.get_logger("evidence")


def request_export(
    conn: Connection,
    signer: Signer,
    account: Account,
    *,
    stn: str | Sequence[str],
    from_at: datetime = EPOCH,
    to_at: datetime = FOR_EVER,
    entries: tuple[int, int] | None = None,
    purpose: str,
    redact: bool = False,
    defer: bool = True,
) -> Export:
    """Log and store a request for one station or several and queue its building, in the caller's transaction.

    In a frozen log nothing is logged, and what was asked already is returned: `ask_frozen`.

    `entries` bounds it to log indexes, half-open. Only a regulator gets the texts behind salted hashes, and
    nobody when `redact`. Raises NotFound station.unknown, Unprocessable export.period | export.purpose |
    export.entries | export.stations.
    """
    purpose = " ".join(purpose.split())
    if not purpose.isprintable() or not 0 < len(purpose) <= MAX_PURPOSE:
        raise Unprocessable("export.purpose", f"Say in 1 to {MAX_PURPOSE} characters what the export is for")
    if not 0 <= ms_of(from_at) < ms_of(to_at) <= MAX_AT_MS:
        raise Unprocessable(
            "export.period", "The period ends before it starts, or is not within 1970 to 9999"
        )
    if entries is not None and not 0 <= entries[0] < entries[1] < 2**53:
        raise Unprocessable("export.entries", "The log indexes end before they start")
    first_idx, end_idx = entries or (None, None)
    draft = Export(
        export_id=f"x{secrets.token_hex(8)}",
        stns=_check_stations(conn, [stn] if isinstance(stn, str) else stn),
        from_at=at_of(ms_of(from_at)),
        to_at=at_of(ms_of(to_at)),
        first_idx=first_idx,
        end_idx=end_idx,
        purpose=purpose,
        account_id=account.account_id,
        redacted=redact or account.role not in READS_TEXTS,
        requested_at=clock.now_utc(),
    )
    if (frozen := ask_frozen(conn, draft, defer=defer)) is not None:
        return frozen
    events = [_log_request(conn, signer, draft, stn) for stn in draft.stns]
    export = replace(draft, requested_at=at_of(events[0].ts_ms))
    queries.insert_request(conn, export, [event.event_id for event in events])
    if defer:
        queries.defer_build(conn, export.export_id)
    return export


def _log_request(conn: Connection, signer: Signer, export: Export, stn: str) -> Event:
    """Have the chain of one station say who asked for what; why, by salted hash."""
    data = {
        "export_id": export.export_id,
        "stns": list(export.stns),
        "from_ms": ms_of(export.from_at),
        "to_ms": ms_of(export.to_at),
        "entries": None if export.entries is None else list(export.entries),
        "redacted": export.redacted,
    }
    return append_explained(
        conn,
        signer,
        typ="export.requested",
        subj=f"station:{stn}",
        act=export.account_id,
        why=export.purpose,
        data=data,
    )


def _check_stations(conn: Connection, stns: Sequence[str]) -> tuple[str, ...]:
    wanted = sorted(set(stns))
    if not 0 < len(wanted) <= MAX_STATIONS:
        raise Unprocessable("export.stations", f"An export is about 1 to {MAX_STATIONS} stations")
    if queries.find_stations(conn, wanted) != wanted:
        raise NotFound("station.unknown", "There is no such station")
    return tuple(wanted)


def stations_of(conn: Connection, agency: str) -> list[str]:
    """Return the stations of an agency; raise NotFound("agency.unknown") when it has none."""
    stns = queries.find_stations_of(conn, agency)
    if not stns:
        raise NotFound("agency.unknown", "No station belongs to such an agency")
    return stns


def find_export(conn: Connection, export_id: str) -> Export:
    """Return an export. Raises NotFound."""
    export = queries.find_export(conn, export_id)
    if export is None:
        raise NotFound("export.unknown", "There is no such export")
    return export


def check_reader(account: Account, export: Export) -> None:
    """Raise Forbidden("export.texts") for a bundle with texts and a role whose own bundle would have none."""
    if not export.redacted and account.role not in READS_TEXTS:
        raise Forbidden(
            "export.texts",
            "This bundle discloses texts to its requester",
            detail=f"Only a regulator may take it along; you are {account.role}: ask for one of your own",
        )


def list_exports(conn: Connection, stn: str | None = None) -> list[Export]:
    """Return the newest exports of a station, or of all."""
    return queries.list_exports(conn, stn, MAX_LISTED)


def bundle_path(settings: Settings, export_id: str) -> Path:
    """Return where a finished bundle lies."""
    if re.fullmatch(r"x(?:[0-9a-f]{16}|[0-9a-f]{32})", export_id) is None:
        raise NotFound("export.unknown", "There is no such export")
    return settings.export_dir / f"{export_id}.zip"


def build_export(wiring: Wiring, export_id: str, watch: Watch = ignore) -> Path:
    """Build a requested export and return the bundle's path; `watch` hears of its progress.

    Safe to repeat after a crash at any point: a build that was interrupted goes on with the members that are
    finished, and all of them are on disk before the log hears of them. A failure is noted in the request and raised.
    """
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        export = find_export(conn, export_id)
    target = bundle_path(wiring.settings, export_id)
    if export.state == "done" and target.exists():
        return target
    folder = wiring.settings.export_dir / f"{export_id}.parts"
    with alone(export, folder):
        _build(wiring, export, folder, target, watch)
    return target


def _build(wiring: Wiring, export: Export, folder: Path, target: Path, watch: Watch) -> None:
    try:
        with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
            queries.set_state(conn, export.export_id, "building")
        if export.frozen or export.manifest_sha256 is None:
            write_and_seal(wiring, export, folder, watch)
        if export.frozen:
            zip_members(folder, target)
        else:
            finish(wiring, export.export_id, folder, target)
    except Exception as error:
        why = str(error) if isinstance(error, StackwitnessError | EmdiError) else type(error).__name__
        log.error("export.failed", export_id=export.export_id, error=str(error))
        with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
            queries.set_state(conn, export.export_id, "failed", why)
        raise
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        queries.set_state(conn, export.export_id, "done")
    shutil.rmtree(folder, ignore_errors=True)
