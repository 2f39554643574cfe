"""What the API says about detection."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel


class DetectionView(BaseModel):
    """How far one station is judged; `lag_h` None = nothing is judged yet."""

    stn: str
    judged_upto: datetime | None
    readings_upto: datetime
    lag_h: float | None


class DetectionList(BaseModel):
    """Every station with readings."""

    stations: list[DetectionView]
