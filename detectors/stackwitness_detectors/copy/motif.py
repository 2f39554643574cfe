"""How well an earlier stretch, stretched and shifted, explains a window: better than the window's own last hours do?

The z-normalised distance of motif search (Mueen's MASS, 2017; Yeh et al., matrix profile, 2016) says how far y is
from a + b s. Alone it calls every smooth day a copy of another one. So it is set against what the window is to itself:
score = (m - 2) / 2 ln(v0 / v), v the variance of y - a - b s, v0 that of y given its two hours before, m the hours
compared (`scores_of`). It is the log-likelihood ratio of "copied with noise" against "goes on by itself", in nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import Values

_LEAST_SHARE = 0.75  # of the window's hours that must stand on both sides
_SLOPES = (0.3, 3.0)
_LEAST_VARIANCE = 1e-9
_LEAST_HOURS = 5
_CUT = 3.0
_CANDIDATES = 8
_LEAST_MOVING = 0.6  # share of the hours that must differ from the hour before: stands are alike by nature


@dataclass(frozen=True)
class Match:
    """Hold the best match: score (nats), place of its first hour in the past, slope, noise (standard deviation), r."""

    score: float
    place: int
    slope: float
    noise: float
    r: float


def innovations(y: Values) -> Values:
    """Return what is left of y [n] given its two values before (least squares inside the window), [k] finite ones."""
    now, one, two = y[2:], y[1:-1], y[:-2]
    known = np.isfinite(now) & np.isfinite(one) & np.isfinite(two)
    count = int(known.sum())
    if count < _LEAST_HOURS:
        return np.empty(0)
    x = np.column_stack([np.ones(count), one[known], two[known]])
    gram = x.T @ x + 1e-9 * np.eye(3) * max(float(np.trace(x.T @ x)), 1e-9)
    left: Values = (now[known] - x @ np.linalg.solve(gram, x.T @ now[known])) * np.sqrt(
        count / max(count - 3.0, 1.0)
    )
    return left


def typical_sizes(errors: Values) -> tuple[Values, Values]:
    """Return per row of errors [r, n] (NaN missing) the mean size about the median, and how many there are.

    Each size is cut at three times their median: one spike shall not decide.
    """
    count = np.isfinite(errors).sum(axis=1)
    size = np.abs(errors - _row_medians(errors, count)[:, None])
    cut = _CUT * np.maximum(_row_medians(size, count), 1e-12)
    total = np.where(np.isfinite(size), np.minimum(size, cut[:, None]), 0.0).sum(axis=1)
    return total / np.maximum(count, 1), count.astype(np.float64)


def _row_medians(rows: Values, count: NDArray[np.int64]) -> Values:
    # NaN sorts last; numpy's own nanmedian takes a hundred times as long on short rows.
    ordered = np.sort(rows, axis=1)
    at = np.arange(len(rows))
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, rows.shape[1] - 1)
    middle: Values = 0.5 * (ordered[at, low] + ordered[at, high])
    return middle


@dataclass(frozen=True)
class Own:
    """Hold what a window is to itself: typical size and variance of its innovations."""

    size: float
    variance: float


def own_course(y: Values, least: float) -> Own | None:
    """Work out a window's own innovations; None when it is too short or stands still."""
    left = innovations(y)
    if not left.size or float((left != 0).mean()) < _LEAST_MOVING:
        return None
    size = float(typical_sizes(left[None, :])[0][0])
    return Own(max(size, math.sqrt(max(least, _LEAST_VARIANCE))), float(left @ left) / left.size)


def scores_of(y: Values, past: Values, own: float, least: float) -> tuple[Values, Values, Values]:
    """Return score, variance of the noise and slope at each place of `past` [n] where y [w] fits: arrays [n - w + 1].

    NaN is a missing hour, -inf the score of a place that cannot be compared. `own` is the innovation variance,
    `least` the variance that rounding alone makes.
    """
    known_y, known_p = np.isfinite(y), np.isfinite(past)
    centre = float(np.mean(y[known_y])) if known_y.any() else 0.0
    level = float(np.mean(past[known_p])) if known_p.any() else 0.0
    y0, p0 = np.where(known_y, y - centre, 0.0), np.where(known_p, past - level, 0.0)
    in_y, in_p = known_y.astype(np.float64), known_p.astype(np.float64)
    m = np.rint(_slide(in_p, in_y))
    safe = np.maximum(m, 1.0)
    sx, sy = _slide(p0, in_y), _slide(in_p, y0)
    sxx = _slide(p0 * p0, in_y) - sx * sx / safe
    syy = _slide(in_p, y0 * y0) - sy * sy / safe
    sxy = _slide(p0, y0) - sx * sy / safe
    slope = sxy / np.maximum(sxx, 1e-300)
    noise = (syy - slope * sxy) / np.maximum(m - 2, 1.0)
    noise = np.maximum(noise, max(least, _LEAST_VARIANCE))
    fit = (m >= max(_LEAST_SHARE * len(y), _LEAST_HOURS)) & (sxx > _LEAST_VARIANCE * safe)
    fit &= (slope >= _SLOPES[0]) & (slope <= _SLOPES[1])
    score = np.where(fit, 0.5 * (m - 2) * np.log(own / noise), -np.inf)
    return score, noise, slope


def best_match(y: Values, past: Values, least: float, own: Own | None) -> Match | None:
    """Return the earlier stretch that explains y best, None when nothing can be compared.

    Least squares choose the candidates; sizes that no spike decides give the score. `own` is that of `own_course`.
    """
    if own is None or len(past) < len(y):
        return None
    likely, noise, slope = scores_of(y, past, own.variance, least)
    places = np.argsort(-likely, kind="stable")[:_CANDIDATES]
    places = places[np.isfinite(likely[places])]
    if not places.size:
        return None
    there = past[places[:, None] + np.arange(len(y))]
    there = np.where(np.isfinite(y), there, np.nan)
    sizes, count = typical_sizes(y - slope[places, None] * there)
    sizes = np.maximum(
        sizes * np.sqrt(count / np.maximum(count - 2, 1.0)), math.sqrt(max(least, _LEAST_VARIANCE))
    )
    steps = np.diff(there, axis=1)
    moving = ((steps != 0) & np.isfinite(steps)).sum(axis=1) / np.maximum(np.isfinite(steps).sum(axis=1), 1)
    score = np.where(moving >= _LEAST_MOVING, (count - 2) * np.log(own.size / sizes), -np.inf)
    top = int(np.argmax(score))
    if not np.isfinite(score[top]):
        return None
    place = int(places[top])
    known = y[np.isfinite(y)]
    r = math.sqrt(max(0.0, 1.0 - float(noise[place]) / max(float(known.var()), 1e-300)))
    return Match(float(score[top]), place, float(slope[place]), math.sqrt(float(noise[place])), r)


def on_log_scale(values: Values, resolution: float) -> tuple[Values, float]:
    """Return logarithms of a series that is positive (else the series itself) and the variance that rounding makes."""
    known = values[np.isfinite(values)]
    positive = known[known > 0]
    moves = np.abs(np.diff(known))
    seen = float(np.quantile(moves[moves > 0], 0.01)) if (moves > 0).any() else 0.0
    step = max(resolution, min(seen, float(np.median(moves[moves > 0]))) if seen else 0.0) ** 2 / 12.0
    if positive.size < 0.95 * max(known.size, 1) or not positive.size:
        return values, 2.0 * step
    floor = float(np.quantile(positive, 0.01)) / 2
    middle = float(np.median(positive))
    return np.log(np.maximum(values, floor)), 2.0 * step / middle**2


def _slide(long: Values, short: Values) -> Values:
    result: NDArray[np.float64] = np.correlate(long, short, "valid")
    return result
