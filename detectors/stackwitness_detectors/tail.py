"""One measure of surprise for all tests: how often a month is such a value expected, given the own past?

Inside the reference the answer is its rank; beyond its largest value a Pareto tail (Hill exponent, bounded)
goes on. The rate doubles as a p-value (p = min(1, rate)), and p becomes an e-value by e = kappa p^(kappa-1).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Values
from stackwitness_detectors.verdicts import LEAST_RATE, e_value, verdict_of

__all__ = [
    "HOURS_PER_MONTH",
    "LEAST_RATE",
    "e_value",
    "hill_exponent",
    "monthly_rate",
    "run_exponent",
    "verdict_of",
]

HOURS_PER_MONTH = 720.0


def hill_exponent(top: Values, config: Config, steepest: float) -> float:
    """Estimate the tail exponent of the largest values (descending), shrunk by four prior values."""
    positive = top[top > 0]
    if positive.size < 2:
        return config.tail_alpha_prior
    excess = float(np.log(positive / positive[-1]).sum())
    alpha = (positive.size - 1 + 4.0) / (excess + 4.0 / config.tail_alpha_prior)
    return min(max(alpha, config.tail_alpha_low), steepest)


def run_exponent(top: list[int], samples: int, config: Config) -> float:
    """Estimate the tail exponent of run lengths: Hill's for whole numbers (Clauset, Shalizi and Newman 2009, 3.8).

    `top` are the longest runs among `samples` samples. Single samples are no runs. Half a sample below the
    shortest run stands for its lower edge, or else many equal short runs would look like a heavy tail. How
    rare runs of that length are among all samples is the slope to which the estimate is shrunk.
    """
    low, high = config.tail_alpha_low, config.tail_alpha_high
    runs = np.array([count for count in top if count > 1], np.float64)
    shortest = float(runs.min()) if runs.size else 2.0
    slope = math.log(max(samples, 2) / max(runs.size, 1)) / math.log(shortest)
    prior = min(max(slope, low), high)
    excess = float(np.log(runs / (shortest - 0.5)).sum())
    return min(max((runs.size + 4.0) / (excess + 4.0 / prior), low), high)


def monthly_rate(
    x: float,
    reference: Iterable[float] | NDArray[np.float64],
    months: float,
    config: Config,
    steepest: float | None = None,
    exponent: float | None = None,
) -> float:
    """Expect so many values >= x a month; `reference` holds at least the largest ones of `months` months.

    `exponent` None: estimated from the reference, at most `steepest`.
    """
    values = np.sort(np.asarray(reference, np.float64))[::-1][: config.tail_keep]
    months = max(months, 1e-6)
    if values.size == 0 or values[0] <= 0 or x <= 0:
        return 1.0 / months if x > 0 else math.inf
    above = int((values >= x).sum())
    if above:
        return (1 + above) / months
    if exponent is None:
        exponent = hill_exponent(values, config, steepest or config.tail_alpha_high)
    rate = (float(values[0]) / x) ** exponent / months
    return float(max(rate, LEAST_RATE))
