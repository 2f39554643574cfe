"""What course a shortfall takes: the same share, the same amount, a ramp, only high hours, a few hours of each day.

Each course is fitted by least squares to the log ratio of reported and expected value, from the hour on at which a
constant share fits best; the one that leaves the least ranks first. The comparison is by -2 log likelihood with
residuals that wander (one in six hours counts).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import Values

_INDEPENDENT = 6.0  # hours that count as one
_SHARES = np.array([0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5])
_LEAST_AFTER = 12  # hours
_HIGH = (0.5, 0.65, 0.8, 0.9)
# A richer course must earn its further parameter (BIC), and the plain share is the commonest forgery.
_PRICE = {"share": 0.0, "amount": 1.0, "ramp": 2.0, "high": 3.0, "hours": 4.0}


def course_costs(ratio: Values, expected: Values, hour: Values, high_at: float | None) -> dict[str, float]:
    """Give the cost of each course for residuals [n], expectations [n] and hours since 1970 [n]; least is likeliest."""
    start, whole, whole_hour = onset(ratio), ratio, hour
    ratio, expected, hour = ratio[start:], expected[start:], hour[start:]
    n = max(len(ratio) / _INDEPENDENT, 2.0)

    def cost(name: str, left: Values) -> float:
        mean_square = max(float(np.mean(left**2)), 1e-12)
        return n * math.log(mean_square) + _PRICE[name] * math.log(max(n, 3.0))

    costs = {"share": cost("share", ratio - ratio.mean())}
    typical = float(np.median(expected))
    if typical > 0 and expected.min() > 0:
        amounts = [ratio - np.log(np.maximum(1.0 - d * typical / expected, 0.05)) for d in _SHARES.tolist()]
        costs["amount"] = min(cost("amount", left) for left in amounts)
    # A ramp has no onset: it is compared with the step over the whole window.
    time = (whole_hour - whole_hour[0]) / max(float(whole_hour[-1] - whole_hour[0]), 1.0)
    ramp = whole - time * float(time @ whole) / max(float(time @ time), 1e-12)
    step = whole - np.where(np.arange(len(whole)) >= start, ratio.mean(), 0.0)
    costs["ramp"] = costs["share"] + cost("ramp", ramp) - cost("share", step)
    borders = [float(np.quantile(expected, q)) for q in _HIGH]
    if high_at is not None and expected.min() < high_at < expected.max():
        borders.append(high_at)
    costs["high"] = min(cost("high", _part(ratio, expected > c)) for c in borders)
    clock = hour % 24
    costs["hours"] = min(
        cost("hours", _part(ratio, (clock - start) % 24 < length))
        for start in range(24)
        for length in (1, 3, 6, 12)
    )
    return costs


def onset(ratio: Values) -> int:
    """Find the hour from which on a step fits best; 0 when there are too few to tell."""
    n = len(ratio)
    if n < 3 * _LEAST_AFTER:
        return 0
    # What a step from hour i on explains: the squared sum after it, over the number of hours.
    after = np.cumsum(ratio[::-1])[::-1]
    explained = np.where(after < 0, after**2, 0.0) / np.arange(n, 0, -1)
    return int(np.argmax(explained[: n - _LEAST_AFTER]))


def _part(ratio: Values, chosen: NDArray[np.bool_]) -> Values:
    """Leave what is over when only the chosen hours are lower by one share."""
    level = float(ratio[chosen].mean()) if chosen.any() else 0.0
    return np.where(chosen, ratio - min(level, 0.0), ratio)
