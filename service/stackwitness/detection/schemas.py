"""What the API says about detection."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from stackwitness.detection.domain import Unjudged


class DetectionView(BaseModel):
    """How far one station is judged; `lag_h` None = nothing is judged yet."""

    stn: str
    judged_upto: datetime | None
    readings_upto: datetime
    lag_h: float | None


class DetectionList(BaseModel):
    """Every station with readings."""

    stations: list[DetectionView]


class UnjudgedView(BaseModel):
    """A detector that cannot judge, and why: `code` of a short list, `reason` in English, `numbers` what it counts."""

    detector: str
    code: str
    reason: str
    numbers: dict[str, float]

    @classmethod
    def of(cls, note: Unjudged) -> UnjudgedView:
        """Show a note."""
        return cls(detector=note.detector, code=note.code, reason=note.reason, numbers=dict(note.numbers))


class ChannelJudgement(BaseModel):
    """A channel: the smallest lasting bias that would be found (None: its level is not judged), and what cannot be."""

    channel: str
    least_bias_percent: float | None
    least_bias_days: float | None
    judged_since: datetime | None
    cannot: list[UnjudgedView]


class JudgementView(BaseModel):
    """What can be seen at a station as of `judged_upto` (None: nothing is judged yet); `cannot`: of the whole station."""

    stn: str
    judged_upto: datetime | None
    channels: list[ChannelJudgement]
    cannot: list[UnjudgedView]
