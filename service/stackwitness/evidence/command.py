"""`stackwitness export`: one bundle, made at once, straight from the database."""

import json
import re
import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Connection

from stackwitness.accounts import queries as accounts
from stackwitness.db.roles import EVERY_AGENCY
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import NotFound, Unprocessable
from stackwitness.evidence import flow
from stackwitness.evidence.domain import EPOCH, FOR_EVER
from stackwitness.stations.queries import list_stations
from stackwitness.wiring import Wiring


@dataclass(frozen=True)
class Wanted:
    """The command's options as they were typed; an empty text is an option that was not given."""

    station: str = ""
    agency: str = ""
    from_at: str = ""
    to_at: str = ""
    entries: str = ""
    purpose: str = "command line"
    account_id: str = "regulator"
    redact: bool = False


def run_export(wiring: Wiring, wanted: Wanted, output: Path) -> str:
    """Build a bundle into `output`, with a bar on a terminal, and return the export's id.

    Raises NotFound account.unknown | station.unknown | agency.unknown, Unprocessable export.*, LogUnavailable.
    """
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        account = accounts.find_account(conn, wanted.account_id)
        if account is None:
            raise NotFound("account.unknown", f"There is no account {wanted.account_id}")
        export = flow.request_export(
            conn,
            wiring.service_key,
            account,
            stn=_name_stations(conn, wanted),
            from_at=read_time(wanted.from_at) if wanted.from_at else EPOCH,
            to_at=read_time(wanted.to_at) if wanted.to_at else FOR_EVER,
            entries=read_entries(wanted.entries) if wanted.entries else None,
            purpose=wanted.purpose,
            redact=wanted.redact,
            defer=False,
        )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("entries", total=None)
        built = flow.build_export(
            wiring, export.export_id, lambda done, of: bar.update(task, completed=done, total=of)
        )
    shutil.copyfile(built, output)
    return export.export_id


def read_time(text: str) -> datetime:
    """Read an ISO 8601 time or date; without an offset it is UTC. Raises Unprocessable export.period."""
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unprocessable("export.period", f"{text!r} is not a time like 2026-01-02T03:04:05Z") from None


def read_entries(text: str) -> tuple[int, int]:
    """Read `first-end`, log indexes. Raises Unprocessable export.entries."""
    match = re.fullmatch(r"([0-9]{1,15})-([0-9]{1,15})", text)
    if match is None:
        raise Unprocessable("export.entries", f"{text!r} is not a part of the log like 1000-2000")
    return int(match[1]), int(match[2])


def _name_stations(conn: Connection, wanted: Wanted) -> list[str]:
    if bool(wanted.station) == bool(wanted.agency):
        raise Unprocessable("export.stations", "Name stations or an agency")
    return flow.stations_of(conn, wanted.agency) if wanted.agency else wanted.station.split(",")


def run_rerun(wiring: Wiring, *, as_json: bool = False) -> int:
    """Run the detectors again over every station, print the account; 0 the same, 1 something differs."""
    from stackwitness.evidence.rerun import rerun_database  # loads numpy and the detectors

    snapshot = wiring.engine.execution_options(isolation_level="REPEATABLE READ")
    ok = True
    with unit_of_work(snapshot, "sw_export", EVERY_AGENCY) as conn:
        stns = [station.stn for station in list_stations(conn)]
        for report in rerun_database(conn, stns):
            ok = ok and report.ok
            print(json.dumps(report.to_json(), ensure_ascii=False) if as_json else "\n".join(report.lines()))
    return 0 if ok else 1
