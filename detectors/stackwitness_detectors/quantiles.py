"""Quantiles and medians of small arrays, the same to the last bit as numpy's, at a tenth of their overhead."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[Any]
# Times as far from 0 as what is usual: errors of typing or transmission explain nothing (as a covariate), ...
ABSURD = 4.0
# ... and do not stand for a whole day (as what is judged).
WILD = 1000.0


def quantile(values: Numbers | list[float], q: float) -> float:
    """Give the quantile of values [n], linear between ranks (numpy's default); NaN for none or with a NaN among them."""
    return sorted_quantile(np.sort(values), q)


def quartile_range(values: Numbers) -> float:
    """Give upper less lower quartile of values [n]."""
    ordered = np.sort(values)
    return sorted_quantile(ordered, 0.75) - sorted_quantile(ordered, 0.25)


def median(values: Numbers) -> float:
    """Give the median of values [n]; NaN for none or with a NaN among them."""
    count = len(values)
    if not count:
        return math.nan
    middle = count // 2
    if count % 2:
        found = np.partition(values, (middle, count - 1))
        return float(found[middle]) if found[-1] == found[-1] else math.nan
    found = np.partition(values, (middle - 1, middle, count - 1))
    return float((found[middle - 1] + found[middle]) / 2.0) if found[-1] == found[-1] else math.nan


def without_absurd(columns: NDArray[np.float64], times: float = ABSURD) -> NDArray[np.float64]:
    """Give columns [n, C] with NaN where a value is so many times as far from 0 as the 99.5 % of its column nearest to it."""
    found = columns.copy()
    for column in found.T:
        size = np.abs(column)
        top = quantile(size[np.isfinite(size)], 0.995)
        if top > 0:
            column[size > times * top] = np.nan
    return found


def sorted_quantile(ordered: Numbers, q: float) -> float:
    """Give the quantile of ascending values [n]; NaN stand last."""
    count = len(ordered)
    if not count or math.isnan(ordered[-1]):
        return math.nan
    place = (count - 1) * q
    before = math.floor(place)
    share = place - before
    low, high = float(ordered[before]), float(ordered[min(before + 1, count - 1)])
    step = high - low
    # Numpy counts from the nearer neighbour; so both ends are met exactly.
    return high - step * (1.0 - share) if share >= 0.5 else low + step * share
