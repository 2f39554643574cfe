"""HTTP of detection: how far every station is judged."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends

from stackwitness.accounts.domain import Account
from stackwitness.accounts.routes import current_account
from stackwitness.db.unit import unit_of_work
from stackwitness.detection import queries
from stackwitness.detection.schemas import DetectionList, DetectionView
from stackwitness.wiring import Wiring, get_wiring

router = APIRouter(tags=["detection"])


@router.get("/v1/detection")
def list_progress(
    account: Annotated[Account, Depends(current_account)], wiring: Annotated[Wiring, Depends(get_wiring)]
) -> DetectionList:
    """Tell how far every station is judged, and how many hours of its readings wait: a lag is an alarm."""
    with unit_of_work(wiring.engine, "sw_read", account.sees) as conn:
        stations = [
            DetectionView(
                stn=progress.stn,
                judged_upto=progress.upto,
                readings_upto=progress.closed,
                lag_h=_hours(progress.upto, progress.closed),
            )
            for progress in queries.list_progress(conn)
        ]
    return DetectionList(stations=stations)


def _hours(judged: datetime | None, stored: datetime) -> float | None:
    return None if judged is None else max(0.0, (stored - judged).total_seconds() / 3600)
