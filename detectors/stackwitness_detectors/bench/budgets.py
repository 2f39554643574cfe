"""Count events, and set the threshold at which scores make no more of them than a budget allows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.memory import DAY_MS, HOUR_MS


def count_events(intervals: Iterable[tuple[int, int]], gap_ms: int = DAY_MS) -> int:
    """Count intervals (from_ms, to_ms) after merging those less than `gap_ms` apart."""
    count, end = 0, None
    for from_ms, to_ms in sorted(intervals):
        if end is None or from_ms > end + gap_ms:
            count += 1
            end = to_ms
        end = max(end, to_ms)
    return count


def hours_spoken_of(hours: NDArray[np.int64], intervals: Iterable[tuple[int, int]]) -> int:
    """Count the clock hours (since 1970, ascending) that some interval (from_ms, to_ms) meets.

    Whoever speaks always has few events: they merge.
    """
    spoken = np.zeros(len(hours), np.bool_)
    for from_ms, to_ms in intervals:
        first, last = np.searchsorted(hours, [from_ms // HOUR_MS, to_ms // HOUR_MS + 1])
        spoken[first:last] = True
    return int(spoken.sum())


def threshold_for(stations: Sequence[Sequence[tuple[float, int, int]]], allowed: float) -> float:
    """Return the lowest threshold at which (score, from_ms, to_ms) of all stations make at most `allowed` events.

    A threshold passes scores that are equal or higher. 0.0 when everything may pass; infinity when not even
    the highest score may (its ties together make too many events, or `allowed` is below 1).
    """
    levels = sorted({score for station in stations for score, _, _ in station})

    def events(level: float) -> int:
        return sum(count_events((a, b) for score, a, b in station if score >= level) for station in stations)

    # Scores of every hour merge into one event when all pass: the search walks down until it first exceeds.
    chosen = float("inf")
    for level in reversed(levels):
        if events(level) > allowed:
            return chosen
        chosen = level
    return 0.0
