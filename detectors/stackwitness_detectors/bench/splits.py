"""Cut a station's time in three: reference (to learn), calibration (to set thresholds), test (to be measured)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import LARGEST, Context, DetectorError, Frame
from stackwitness_detectors.memory import HOUR_MS, MEASURING
from stackwitness_detectors.running import least_running

HOURS_PER_MONTH = 720.0


@dataclass(frozen=True)
class Split:
    """Hold the borders: reference [from, calibration), calibration [calibration, test), test [test, end)."""

    from_ms: int
    calibration_ms: int
    test_ms: int
    end_ms: int

    def calibrates(self, at_ms: int) -> bool:
        """Tell whether an instant lies in the calibration part."""
        return self.calibration_ms <= at_ms < self.test_ms

    def tests(self, at_ms: int) -> bool:
        """Tell whether an instant lies in the test part."""
        return self.test_ms <= at_ms < self.end_ms


def split_frame(frame: Frame, first: float, second: float) -> Split:
    """Cut at two years (2013, 2014: where calibration and test begin, UTC) or two shares of the time (0.5, 0.75).

    Raises DetectorError bench.split when a part would be empty.
    """
    if not len(frame.at_ms):
        raise DetectorError("bench.split", "the station has no readings")
    start, end = int(frame.at_ms[0]), int(frame.at_ms[-1]) + 1
    if first > 1.0:
        borders = [int(np.datetime64(f"{int(year):04d}", "ms").astype(np.int64)) for year in (first, second)]
    else:
        borders = [start + int((end - start) * share) // HOUR_MS * HOUR_MS for share in (first, second)]
    counts = (
        np.histogram(frame.at_ms, [start, *borders, end])[0] if start < borders[0] < borders[1] < end else 0
    )
    if not np.all(counts):
        raise DetectorError("bench.split", f"{first:g}, {second:g} leave a part of the data empty")
    return Split(start, borders[0], borders[1], end)


def operating_hours(context: Context, frame: Frame) -> NDArray[np.int64]:
    """Return the clock hours (since 1970) with a measured value, and a load above 5 % where load is reported."""
    measured = np.zeros(len(frame.at_ms), np.bool_)
    running = np.ones(len(frame.at_ms), np.bool_)
    loads = [c.name for c in context.channels if c.role == "load" and c.name in frame.values]
    for name, values in frame.values.items():
        letters = frame.status.get(name)
        usable = np.abs(values) <= LARGEST  # what the detectors take for a number
        usable = usable if letters is None else usable & MEASURING[letters]
        measured |= usable
        if name in loads[:1] and usable.any():
            running = usable & (values > least_running(np.where(usable, values, np.nan)))
    hours: NDArray[np.int64] = np.unique(frame.at_ms[measured & running] // HOUR_MS)
    return hours


def months_between(hours: NDArray[np.int64], from_ms: int, to_ms: int) -> float:
    """Return the station-months (720 operating hours) of an interval."""
    return float(len(hours_between(hours, from_ms, to_ms))) / HOURS_PER_MONTH


def hours_between(hours: NDArray[np.int64], from_ms: int, to_ms: int) -> NDArray[np.int64]:
    """Return the hours that begin in an interval."""
    first, last = np.searchsorted(hours, [-(-from_ms // HOUR_MS), -(-to_ms // HOUR_MS)])
    return hours[first:last]
