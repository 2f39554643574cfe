"""Turn stored series into the arrays the detectors read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np

from stackwitness.detection.queries import Series
from stackwitness.stations.domain import Channel, Limit
from stackwitness_detectors.contract import ChannelInfo, Context, Frame


def make_context(
    stn: str, channels: Sequence[Channel], limits: Mapping[str, Sequence[Limit]], at: datetime
) -> Context:
    """Describe a station to the detectors, with the limits in force at a time."""
    return Context(
        stn,
        tuple(
            ChannelInfo(c.name, c.quantity, c.unit, c.role, _limit_at(limits[c.name], at), c.resolution)
            for c in channels
        ),
    )


def _limit_at(limits: Sequence[Limit], at: datetime) -> float | None:
    """Return the last limit that has begun; the first one has no beginning."""
    return [limit.value for limit in limits if limit.from_at is None or limit.from_at <= at][-1]


def make_frame(series: Sequence[Series]) -> Frame:
    """Align series on the times any of them has; where a channel has no reading: NaN and status 0."""
    times = [np.asarray(one.at_ms, dtype=np.int64) for one in series]
    at_ms = np.unique(np.concatenate(times)) if times else np.empty(0, dtype=np.int64)
    values, status = {}, {}
    for one, own in zip(series, times, strict=True):
        place = np.searchsorted(at_ms, own)
        filled = np.full(at_ms.size, np.nan)
        filled[place] = np.asarray(one.values, dtype=np.float64)
        letters = np.zeros(at_ms.size, dtype=np.uint8)
        letters[place] = np.frombuffer(one.status.encode("ascii"), dtype=np.uint8)
        values[one.name], status[one.name] = filled, letters
    return Frame(at_ms, values, status)
