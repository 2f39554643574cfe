"""HTTP of exports."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse
from sqlalchemy import Connection

from stackwitness.accounts.domain import Account
from stackwitness.accounts.routes import current_account, require
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Conflict
from stackwitness.evidence import flow
from stackwitness.evidence.schemas import ExportList, ExportView, ExportWanted, view

router = APIRouter(prefix="/v1/exports", tags=["exports"])
Reader = Annotated[Account, Depends(current_account)]
Asker = Annotated[Account, Depends(require("regulator", "auditor"))]


@router.post("", status_code=202)
def request_export(wanted: ExportWanted, account: Asker, request: Request, response: Response) -> ExportView:
    """Ask for a bundle; it is built by the worker. An auditor's discloses no text."""
    wiring = request.app.state.wiring
    with unit_of_work(wiring.engine, "sw_export", account.sees) as conn:
        export = flow.request_export(
            conn,
            wiring.service_key,
            account,
            stn=_name_stations(conn, wanted),
            from_at=wanted.from_at,
            to_at=wanted.to_at,
            entries=wanted.entries,
            purpose=wanted.purpose,
            redact=wanted.redact,
        )
    response.headers["Location"] = f"/v1/exports/{export.export_id}"
    return view(export)


@router.get("")
def list_exports(account: Reader, request: Request, station: str | None = None) -> ExportList:
    """List the newest exports."""
    with unit_of_work(request.app.state.wiring.engine, "sw_read", account.sees) as conn:
        return ExportList(exports=[view(export) for export in flow.list_exports(conn, station)])


@router.get("/{export_id}")
def get_export(export_id: str, account: Reader, request: Request) -> ExportView:
    """Tell how far an export got."""
    with unit_of_work(request.app.state.wiring.engine, "sw_read", account.sees) as conn:
        return view(flow.find_export(conn, export_id))


@router.get("/{export_id}/bundle", response_class=FileResponse)
def get_bundle(export_id: str, account: Reader, request: Request) -> FileResponse:
    """Return the finished bundle; parts of it by Range."""
    wiring = request.app.state.wiring
    with unit_of_work(wiring.engine, "sw_read", account.sees) as conn:
        export = flow.find_export(conn, export_id)
    flow.check_reader(account, export)
    path = flow.bundle_path(wiring.settings, export_id)
    if export.state != "done" or not path.exists():
        raise Conflict("export.not_done", "The bundle is not there yet", state=export.state)
    wiring.custody.note(
        "evidence.downloaded",
        stns=export.stns,
        what="export",
        object_id=export_id,
        account_id=account.account_id,
        agency=account.sees,
    )
    name = f"{export.stn}-{export_id}.emdi.zip"
    return FileResponse(path, media_type="application/zip", filename=name)


def _name_stations(conn: Connection, wanted: ExportWanted) -> list[str]:
    if wanted.agency is not None:
        return flow.stations_of(conn, wanted.agency)
    return wanted.stations or [wanted.station or ""]
