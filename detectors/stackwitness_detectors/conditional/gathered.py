"""Shortfalls of single days gathered while they last (Page's cumulative sum): small shifts of weeks, and drifts.

Each day is compared with the days 14 to 70 before it, so that what lasts a fortnight does not hide itself, in spreads of the
days 14 to 240 before. What exceeds 1.5 spreads adds up, what falls short of it takes away, never below nothing. How often the
sum gets so high a month is a law pooled over many channels (bench/split.toml, "design"): at one channel it has hardly happened.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.conditional.pooled import Pooled
from stackwitness_detectors.contract import Values

_LAG_DAYS, _BASE_DAYS, _SPREAD_DAYS = 14, 70, 240
_LEAST_DAYS = 14  # with residuals in the base
_SPAN_DAYS = 60  # the sum begins at nothing so long ago
_ALLOWED = 1.5  # spreads a day may lie low without adding
_MOST = 9.0  # spreads that count of one day
_FULL = 36.0  # the sum grows no further: what has been told long ago must not hide what comes next
_PRIOR_DAYS = 5.0
_DEPENDENT = 7.0  # days in a row count as one when it is asked how well the spread is known
_LAW = Pooled(0.045, 12.0, 4.0)
# What could not have been seen is said of a shift that lasts so long: then it begins to hide itself.
JUDGED_DAYS = 14
COMPARED_DAYS = _BASE_DAYS - _LAG_DAYS


@dataclass(frozen=True)
class Gathered:
    """Tell the sum, since how many rows it lasts, the mean shortfall since, the base; the highest sum and mean before."""

    total: float
    rows: int
    size: float
    base: float
    before: float
    largest: float
    rate: float


@dataclass(frozen=True)
class _Days:
    """Hold, for the newest days, shortfall [n], base [n], spread [n] and how many days stand behind the spread."""

    low: Values
    base: Values
    spread: Values
    behind: Values


def gather(day: Values, mean: Values, counts: NDArray[np.bool_], ordinary: float) -> Gathered | None:
    """Judge the newest of the days [n] with means [n]; None unless it lies low itself and has days behind it.

    `counts` tells which days may be a reference; `ordinary` is the spread such days usually have.
    """
    days = _compared(day, mean, counts, ordinary)
    steps = np.minimum(days.low / days.spread, _MOST) - _ALLOWED
    if not len(steps) or not steps[-1] > 0:
        return None
    total, since, sums = 0.0, 0, np.zeros(len(steps))
    for i, step in enumerate(np.where(np.isfinite(steps), steps, 0.0).tolist()):
        total = min(total + step, _FULL)
        if total <= 0:
            total, since = 0.0, i + 1
        sums[i] = total
    apart = max(float(days.behind[-1]) / _DEPENDENT, 1.0)
    return Gathered(
        total,
        len(steps) - since,
        float(np.nanmean(days.low[since:])),
        float(days.base[-1]),
        float(sums[:since].max(initial=0.0)),
        _largest_mean(days.low[:since], len(steps) - since, float(days.spread[-1])),
        _LAW.rate(total, apart),
    )


def least_gathered(
    day: Values, mean: Values, counts: NDArray[np.bool_], ordinary: float, rate: float
) -> float | None:
    """Give the shift that would be told at `rate` a month after two weeks."""
    days = _compared(day, mean, counts, ordinary)
    if not len(days.base) or not np.isfinite(days.base[-1]):
        return None
    apart = max(float(days.behind[-1]) / _DEPENDENT, 1.0)
    return float(days.spread[-1]) * (_ALLOWED + _LAW.distance(rate, apart) / JUDGED_DAYS)


def _largest_mean(low: Values, rows: int, spread: float) -> float:
    """Give the highest mean of as many days in a row before; one spread where too few are known."""
    known = low[np.isfinite(low)]
    if len(known) < max(2 * rows, _LEAST_DAYS):
        return spread
    sums = _running(known)
    return float((sums[rows:] - sums[:-rows]).max()) / rows


def _compared(day: Values, mean: Values, counts: NDArray[np.bool_], ordinary: float) -> _Days:
    weight = counts.astype(np.float64)
    held, summed, squared = (_running(weight * x) for x in (np.ones(len(day)), mean, mean**2))
    newest = day[int(np.searchsorted(day, day[-1] - _SPAN_DAYS)) :] if len(day) else day
    until = np.searchsorted(day, newest - _LAG_DAYS, "right")
    near, far = np.searchsorted(day, newest - _BASE_DAYS), np.searchsorted(day, newest - _SPREAD_DAYS)
    close, behind = held[until] - held[near], held[until] - held[far]
    base = (summed[until] - summed[near]) / np.where(close >= _LEAST_DAYS, close, np.nan)
    many = np.maximum(behind, 1.0)
    middle = (summed[until] - summed[far]) / many
    variance = np.maximum((squared[until] - squared[far]) / many - middle**2, 0.0)
    spread = np.sqrt((many * variance + _PRIOR_DAYS * ordinary**2) / (many + _PRIOR_DAYS))
    return _Days(base - mean[len(mean) - len(newest) :], base, np.maximum(spread, 1e-6), behind)


def _running(values: Values) -> Values:
    return np.concatenate([[0.0], np.cumsum(values)])
