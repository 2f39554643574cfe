"""Turn stored series into the arrays the detectors read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stackwitness.detection.queries import Series
from stackwitness.stations.domain import StoredChannel
from stackwitness_detectors.contract import ChannelInfo, Context, Frame


def make_context(stn: str, channels: Sequence[StoredChannel]) -> Context:
    """Describe a station to the detectors."""
    return Context(
        stn,
        tuple(ChannelInfo(c.name, c.quantity, c.unit, c.role, c.limit, c.resolution) for c in channels),
    )


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
