"""A cheap first look: of hundreds of stations that measure the same, the few that could explain a channel at all.

Missing hours count as the window's mean, places are compared by their correlation alone, and everything is one product of
matrices: what the look misses by that the exact comparison would hardly have named either. Who is looked at closely is then
compared exactly, as in a small fleet.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import Values

Single = NDArray[np.float32]
_BLOCK = 6_000_000  # elements of one product: some 24 MB
_LEAST_SHARE = 0.75
_NEARLY_ONE = 0.99999


def look_at_ties(courses: Values, least: int) -> Values:
    """Correlate the columns of courses [n, m] pairwise, [m, m]; -1 where either has fewer than `least` hours."""
    scaled, known = _standard(courses.T, least)
    ties = (scaled @ scaled.T).astype(np.float64)
    ties[~known] = -1.0
    ties[:, ~known] = -1.0
    return ties


def look_at_hours(courses: Values) -> Values:
    """Say how well each column explains each other in the same hours of courses [w, m]: nats, roughly, [m, m] (whose, by whom)."""
    hours = len(courses)
    scaled, known = _standard(courses.T, int(_LEAST_SHARE * hours))
    r = np.clip((scaled @ scaled.T).astype(np.float64), 0.0, _NEARLY_ONE)
    with np.errstate(all="ignore"):
        moves = _variance(np.diff(courses, axis=0)) / _variance(courses)
    nats = 0.5 * (hours - 2) * (np.log(moves)[:, None] - np.log1p(-r * r))
    nats[~(known & np.isfinite(moves))] = -np.inf
    nats[:, ~known] = -np.inf
    return np.asarray(nats)


def look_back(courses: Values, past: Values) -> Values:
    """Find how well any stretch of each column of past [n, m] goes with the columns of courses [w, m]: largest r, [m, m]."""
    width, m = courses.shape
    least = int(_LEAST_SHARE * width)
    own, known = _standard(courses.T, least)
    found = np.full((m, m), -1.0)
    places = len(past) - width + 1
    if not width or places < 1:
        return found
    step = max(1, _BLOCK // (places * m))
    for first in range(0, m, step):
        block = past[:, first : first + step]
        stretches = np.lib.stride_tricks.sliding_window_view(block, width, axis=0)  # [places, some, w]
        scaled, there = _standard(stretches.reshape(-1, width), least)
        r = own @ scaled.T
        r[:, ~there] = -1.0
        found[:, first : first + step] = r.reshape(m, places, -1).max(axis=1)
    found[~known] = -1.0
    return found


def best_of(nats: Values, allowed: NDArray[np.bool_], count: int) -> list[int]:
    """Return the places of the `count` largest finite values that are allowed, largest first."""
    places = np.flatnonzero(allowed & np.isfinite(nats) & (nats > -1.0))
    order = np.argsort(-nats[places], kind="stable")[:count]
    chosen: list[int] = places[order].tolist()
    return chosen


def _variance(columns: Values) -> Values:
    """Return the variance of each column [n, m], NaN of one without values: numpy warns of such where it is usual."""
    known = np.isfinite(columns)
    count = np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    mean = np.where(known, columns, 0.0).sum(axis=0) / count
    variance: Values = np.where(known, (columns - mean) ** 2, 0.0).sum(axis=0) / count
    return variance


def _standard(rows: Values, least: int) -> tuple[Single, NDArray[np.bool_]]:
    """Give rows [r, n] mean 0 and length 1, missing hours 0, and which have `least` hours and move."""
    finite = np.isfinite(rows)
    count = finite.sum(axis=1)
    mean = np.where(finite, rows, 0.0).sum(axis=1) / np.maximum(count, 1)
    centred = np.where(finite, rows - mean[:, None], 0.0).astype(np.float32)
    size = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    known = (count >= max(least, 3)) & (size > 1e-6)
    centred /= np.where(known, size, 1.0)[:, None]
    centred[~known] = 0.0
    return centred, known
