"""When a unit runs: its load against the highest it usually reaches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import Values
from stackwitness_detectors.quantiles import quantile

RUNNING = 0.05  # share of the usual highest load above which a unit runs
_USUAL = 0.99  # quantile of loads: one reading far too high must not make every other hour a standstill
_START_UP_H = 2  # hours after a start in which nothing is as usual
_BRIDGED_H = 6  # a load not known for longer may have stood still meanwhile


def usual_top(load: Values) -> float:
    """Give the highest load usually reached among loads [n] (NaN: not known); 0 where none is above 0."""
    known = load[np.isfinite(load)]
    if not known.size:
        return 0.0
    top = quantile(known, _USUAL)
    return max(top if top > 0 else float(known.max()), 0.0)


def least_running(load: Values) -> float:
    """Give the load that a running unit exceeds, from its loads [n]; NaN: not known."""
    return RUNNING * usual_top(load)


def steady_hours(hour: NDArray[np.int64], load: Values) -> NDArray[np.bool_]:
    """Tell for clock hours [n], ascending, with loads [n] whether the unit runs and is not known to have started lately.

    Hours before that were not sent, or not measured, stand for the last one known: silence must not take the hours
    after it out of judgement.
    """
    known = np.isfinite(load)
    on = known & (load > least_running(load))
    known_hour, known_on = hour[known], on[known]
    steady: NDArray[np.bool_] = on.copy()
    if not known_hour.size:
        return steady
    for lag in range(1, _START_UP_H + 1):
        place = np.searchsorted(known_hour, hour - lag, "right") - 1
        near = (place >= 0) & (hour - lag - known_hour[place] <= _BRIDGED_H)
        steady &= near & known_on[place]
    return steady
