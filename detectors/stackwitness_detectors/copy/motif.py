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
from stackwitness_detectors.quantiles import median, sorted_quantile

LEAST_SHARE = 0.75  # of the window's hours that must stand on both sides
SLOPES = (0.3, 3.0)
LEAST_VARIANCE = 1e-9
LEAST_HOURS = 5
_CUT = 3.0
CANDIDATES = 8
LEAST_MOVING = 0.6  # share of the hours that must differ from the hour before: stands are alike by nature


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
    finite = np.isfinite(y)
    known = finite[2:] & finite[1:-1] & finite[:-2]
    count = int(np.count_nonzero(known))
    if count < LEAST_HOURS:
        return np.empty(0)
    now = y[2:][known]
    x = np.empty((count, 3))
    x[:, 0], x[:, 1], x[:, 2] = 1.0, y[1:-1][known], y[:-2][known]
    gram = x.T @ x
    gram = gram + 1e-9 * np.eye(3) * max(float(np.trace(gram)), 1e-9)
    left: Values = (now - x @ np.linalg.solve(gram, x.T @ now)) * math.sqrt(count / max(count - 3.0, 1.0))
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
    if not left.size or np.count_nonzero(left) / left.size < LEAST_MOVING:
        return None
    sizes = np.abs(left - median(left))
    size = float(np.minimum(sizes, _CUT * max(median(sizes), 1e-12)).sum()) / left.size
    return Own(max(size, math.sqrt(max(least, LEAST_VARIANCE))), float(left @ left) / left.size)


class Past:
    """Prepare a course [n] (NaN missing) once for all windows that are laid along it."""

    def __init__(self, series: Values) -> None:
        self.series = series
        self.known = np.isfinite(series)
        self.whole = bool(self.known.all())
        level = float(np.mean(series[self.known])) if self.known.any() else 0.0
        self.centred: Values = np.where(self.known, series - level, 0.0)
        self.present: Values = self.known.astype(np.float64)
        self._sums: dict[int, tuple[Values, Values, Values]] = {}

    def sums(self, width: int) -> tuple[Values, Values, Values]:
        """Give for each place where `width` hours fit: hours known, their sum and sum of squares about the mean."""
        if width not in self._sums:
            ones = np.ones(width)
            count = _slide(self.present, ones)
            total = _slide(self.centred, ones)
            squares = _slide(self.centred * self.centred, ones) - total * total / np.maximum(count, 1.0)
            self._sums[width] = (np.rint(count), total, squares)
        return self._sums[width]


def scores_of(y: Values, past: Past, end: int, own: float, least: float) -> tuple[Values, Values, Values]:
    """Return score, variance of the noise and slope at each place of `past` up to `end` where y [w] fits.

    Arrays [end - w + 1]. NaN is a missing hour, -inf the score of a place that cannot be compared. `own` is the
    innovation variance, `least` the variance that rounding alone makes.
    """
    known = np.isfinite(y)
    centre = float(np.mean(y[known])) if known.any() else 0.0
    y0, places = np.where(known, y - centre, 0.0), end - len(y) + 1
    p0, in_p = past.centred[:end], past.present[:end]
    if known.all():
        m, sx, sxx = (sums[:places] for sums in past.sums(len(y)))
        safe = np.maximum(m, 1.0)
    else:
        in_y = known.astype(np.float64)
        m = np.rint(_slide(in_p, in_y))
        safe = np.maximum(m, 1.0)
        sx = _slide(p0, in_y)
        sxx = _slide(p0 * p0, in_y) - sx * sx / safe
    sy, syy = y0.sum(), (y0 * y0).sum()
    if not past.whole:
        sy, syy = _slide(in_p, y0), _slide(in_p, y0 * y0)
    syy = syy - sy * sy / safe
    sxy = _slide(p0, y0) - sx * sy / safe
    slope = sxy / np.maximum(sxx, 1e-300)
    noise = (syy - slope * sxy) / np.maximum(m - 2, 1.0)
    noise = np.maximum(noise, max(least, LEAST_VARIANCE))
    fit = (m >= max(LEAST_SHARE * len(y), LEAST_HOURS)) & (sxx > LEAST_VARIANCE * safe)
    fit &= (slope >= SLOPES[0]) & (slope <= SLOPES[1])
    score = np.where(fit, 0.5 * (m - 2) * np.log(own / noise), -np.inf)
    return score, noise, slope


def robust_scores(y: Values, there: Values, slope: Values, own: Values | float, least: float) -> Values:
    """Score rows of `there` [r, w] with their slopes [r] as what explains y [w] or [r, w], by sizes that no spike decides.

    `own` is the window's own typical size (one or [r]). A stretch that mostly stands still scores -inf.
    """
    there = np.where(np.isfinite(y), there, np.nan)
    sizes, count = typical_sizes(y - slope[:, None] * there)
    floor = math.sqrt(max(least, LEAST_VARIANCE))
    sizes = np.maximum(sizes * np.sqrt(count / np.maximum(count - 2, 1.0)), floor)
    steps = np.diff(there, axis=1)
    known = np.isfinite(steps)
    moving = ((steps != 0) & known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    scores: Values = np.where(moving >= LEAST_MOVING, (count - 2) * np.log(own / sizes), -np.inf)
    return scores


def best_match(
    y: Values, past: Past | Values, least: float, own: Own | None, end: int | None = None
) -> Match | None:
    """Return the earlier stretch that explains y best, None when nothing can be compared.

    Least squares choose the candidates; sizes that no spike decides give the score. `own` is that of `own_course`,
    `end` how much of the past counts.
    """
    past = past if isinstance(past, Past) else Past(past)
    end = len(past.series) if end is None else end
    if own is None or end < len(y):
        return None
    likely, noise, slope = scores_of(y, past, end, own.variance, least)
    places = _largest(likely, CANDIDATES)
    if not places.size:
        return None
    there = past.series[places[:, None] + np.arange(len(y))]
    score = robust_scores(y, there, slope[places], own.size, least)
    top = int(np.argmax(score))
    if not np.isfinite(score[top]):
        return None
    place = int(places[top])
    known = y[np.isfinite(y)]
    r = math.sqrt(max(0.0, 1.0 - float(noise[place]) / max(float(known.var()), 1e-300)))
    return Match(float(score[top]), place, float(slope[place]), math.sqrt(float(noise[place])), r)


def _largest(scores: Values, count: int) -> NDArray[np.int64]:
    """Give the places of the largest finite scores, largest first, earliest first among equals."""
    places = np.flatnonzero(np.isfinite(scores))
    if len(places) > count:
        found = scores[places]
        places = places[found >= np.partition(found, len(found) - count)[len(found) - count]]
    order = np.argsort(-scores[places], kind="stable")[:count]
    largest: NDArray[np.int64] = places[order]
    return largest


def on_log_scale(values: Values, resolution: float) -> tuple[Values, float]:
    """Return logarithms of a series that is positive (else the series itself) and the variance that rounding makes."""
    known = values[np.isfinite(values)]
    moves = np.abs(np.diff(known))
    moves = np.sort(moves[moves > 0])
    seen = sorted_quantile(moves, 0.01) if moves.size else 0.0
    step = max(resolution, min(seen, median(moves)) if seen else 0.0) ** 2 / 12.0
    positive = np.sort(known[known > 0])
    if positive.size < 0.95 * max(known.size, 1) or not positive.size:
        return values, 2.0 * step
    floor = sorted_quantile(positive, 0.01) / 2
    return np.log(np.maximum(values, floor)), 2.0 * step / median(positive) ** 2


def _slide(long: Values, short: Values) -> Values:
    result: NDArray[np.float64] = np.correlate(long, short, "valid")
    return result
