"""HTTP of detection: how far every station is judged, and what cannot be judged there."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends

from stackwitness.accounts.domain import Account
from stackwitness.accounts.routes import current_account
from stackwitness.db.unit import unit_of_work
from stackwitness.detection import queries
from stackwitness.detection.domain import Judgement
from stackwitness.detection.fleet import routes as fleet
from stackwitness.detection.schemas import (
    ChannelJudgement,
    DetectionList,
    DetectionView,
    JudgementView,
    UnjudgedView,
)
from stackwitness.errors import NotFound
from stackwitness.stations import queries as stations
from stackwitness.stations.forms import StnPath
from stackwitness.wiring import Wiring, get_wiring

router = APIRouter(tags=["detection"])
router.include_router(fleet.router)


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


@router.get("/v1/stations/{stn}/judgement")
def read_judgement(
    stn: StnPath,
    account: Annotated[Account, Depends(current_account)],
    wiring: Annotated[Wiring, Depends(get_wiring)],
) -> JudgementView:
    """Tell how small a lasting bias of each channel would be found, and what cannot be judged, because of what."""
    with unit_of_work(wiring.engine, "sw_read", account.sees) as conn:
        if stations.find_station(conn, stn) is None:
            raise NotFound("station.unknown", "There is no such station")
        judgement = queries.find_judgement(conn, stn)
        names = [channel.name for channel in stations.list_channels(conn, stn)]
    if judgement is None:
        return JudgementView(stn=stn, judged_upto=None, channels=[], cannot=[])
    return JudgementView(
        stn=stn,
        judged_upto=judgement.upto,
        channels=[_channel(judgement, name) for name in names],
        cannot=[UnjudgedView.of(note) for note in judgement.unjudged("")],
    )


def _channel(judgement: Judgement, name: str) -> ChannelJudgement:
    seen = judgement.seen(name)
    return ChannelJudgement(
        channel=name,
        least_bias_percent=seen.percent if seen else None,
        least_bias_days=seen.days if seen else None,
        judged_since=seen.since if seen else None,
        cannot=[UnjudgedView.of(note) for note in judgement.unjudged(name)],
    )


def _hours(judged: datetime | None, stored: datetime) -> float | None:
    return None if judged is None else max(0.0, (stored - judged).total_seconds() / 3600)
