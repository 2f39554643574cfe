"""Score many pairs of a window and a course at once: the arithmetic of `copy.motif`, to the rounding of sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import Values
from stackwitness_detectors.copy.motif import (
    CANDIDATES,
    LEAST_HOURS,
    LEAST_SHARE,
    LEAST_VARIANCE,
    SLOPES,
    Own,
    Past,
    robust_scores,
    scores_of,
)


@dataclass(frozen=True)
class Laid:
    """Hold a window [w] (NaN missing), the course it is laid along, and what the window is to itself."""

    window: Values
    past: Past
    own: Own


def screen(laid: Sequence[Laid], least: float) -> Values:
    """Return the best score of each window along its course, -inf where nothing can be compared; windows of one width."""
    width = max(len(one.window) for one in laid)
    windows, theres, slopes, whose = [], [], [], []
    for number, one in enumerate(laid):
        if len(one.window) < width or len(one.past.series) < width or not one.past.known.any():
            continue
        likely, _, slope = scores_of(one.window, one.past, len(one.past.series), one.own.variance, least)
        count = min(CANDIDATES, len(likely))
        places = np.argpartition(likely, len(likely) - count)[len(likely) - count :]
        places = places[np.isfinite(likely[places])]
        windows.append(np.broadcast_to(one.window, (len(places), width)))
        theres.append(one.past.series[places[:, None] + np.arange(width)])
        slopes.append(slope[places])
        whose.append(np.full(len(places), number))
    best = np.full(len(laid), -np.inf)
    if not whose:
        return best
    owner = np.concatenate(whose)
    own = np.array([one.own.size for one in laid])
    scores = robust_scores(
        np.concatenate(windows), np.concatenate(theres), np.concatenate(slopes), own[owner], least
    )
    np.maximum.at(best, owner, scores)
    return best


def screen_same(
    windows: Sequence[Values], theres: Sequence[Values], own: Sequence[Own], least: float
) -> Values:
    """Return the score of each window against the equal hours of its course, -inf where they cannot be compared."""
    scores = np.full(len(windows), -np.inf)
    for width in {len(there) for there in theres}:
        places = [i for i, there in enumerate(theres) if len(there) == len(windows[i]) == width]
        if places and width >= LEAST_HOURS:
            y, there = np.array([windows[i] for i in places]), np.array([theres[i] for i in places])
            slope, fit = _slopes(y, there, least)
            sizes = np.array([own[i].size for i in places])
            scores[places] = np.where(fit, robust_scores(y, there, slope, sizes, least), -np.inf)
    return scores


def _slopes(y: Values, there: Values, least: float) -> tuple[Values, NDArray[np.bool_]]:
    """Return the slopes of least squares of rows y [r, w] on rows there [r, w], and which can be compared."""
    both = np.isfinite(y) & np.isfinite(there)
    count = both.sum(axis=1)
    safe = np.maximum(count, 1)[:, None]
    y0 = np.where(both, y, 0.0)
    p0 = np.where(both, there, 0.0)
    y0 = np.where(both, y0 - y0.sum(axis=1, keepdims=True) / safe, 0.0)
    p0 = np.where(both, p0 - p0.sum(axis=1, keepdims=True) / safe, 0.0)
    sxx = np.einsum("ij,ij->i", p0, p0)
    slope = np.einsum("ij,ij->i", p0, y0) / np.maximum(sxx, 1e-300)
    fit = (count >= max(LEAST_SHARE * y.shape[1], LEAST_HOURS)) & (
        sxx > LEAST_VARIANCE * np.maximum(count, 1)
    )
    return slope, fit & (slope >= SLOPES[0]) & (slope <= SLOPES[1])
