"""HTTP of detection: how far a station's readings are judged."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from stackwitness.accounts.domain import Account
from stackwitness.accounts.routes import current_account
from stackwitness.db.unit import unit_of_work
from stackwitness.detection import queries
from stackwitness.errors import NotFound
from stackwitness.stations.forms import StnPath
from stackwitness.wiring import Wiring, get_wiring

router = APIRouter(prefix="/v1/stations", tags=["detection"])


class ProgressView(BaseModel):
    """How far a station is judged: `upto` null = not at all; `closed` = the end of its last full hour."""

    stn: str
    upto: datetime | None
    closed: datetime


@router.get("/{stn}/detection")
def read_progress(
    stn: StnPath,
    account: Annotated[Account, Depends(current_account)],
    wiring: Annotated[Wiring, Depends(get_wiring)],
) -> ProgressView:
    """Return up to when detection has judged a station's readings; 404 without any."""
    with unit_of_work(wiring.engine) as conn:
        progress = queries.find_progress(conn, stn)
    if progress is None:
        raise NotFound("station.no_readings", "The station has sent nothing yet")
    return ProgressView(stn=progress.stn, upto=progress.upto, closed=progress.closed)
