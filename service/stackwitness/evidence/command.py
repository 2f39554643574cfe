"""`stackwitness export`: one bundle, made at once, straight from the database."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from stackwitness.accounts import queries as accounts
from stackwitness.db.roles import EVERY_AGENCY
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import NotFound, Unprocessable
from stackwitness.evidence import flow
from stackwitness.wiring import Wiring


def run_export(
    wiring: Wiring, *, stn: str, from_at: str, to_at: str, output: Path, purpose: str, account_id: str
) -> str:
    """Build a bundle into `output` and return the export's id; the log process must be running.

    Raises NotFound account.unknown | station.unknown, Unprocessable export.*, LogUnavailable.
    """
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        account = accounts.find_account(conn, account_id)
        if account is None:
            raise NotFound("account.unknown", f"There is no account {account_id}")
        export = flow.request_export(
            conn,
            account,
            stn=stn,
            from_at=read_time(from_at),
            to_at=read_time(to_at),
            purpose=purpose,
            defer=False,
        )
    shutil.copyfile(flow.build_export(wiring, export.export_id), output)
    return export.export_id


def read_time(text: str) -> datetime:
    """Read an ISO 8601 time or date; without an offset it is UTC. Raises Unprocessable export.period."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Unprocessable("export.period", f"{text!r} is not a time like 2026-01-02T03:04:05Z") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
