"""Forge the course: held, copied, smoothed, invented. The level survives, the plant behind it is gone."""

from __future__ import annotations

import numpy as np

from stackwitness_detectors.contract import DetectorError, Values
from stackwitness_detectors.forge.window import DAY_MS, Window


def freeze(w: Window) -> Values:
    """Report the last value before the interval all through it."""
    return np.where(w.usable, _last_value(w), w.inside)


def near_freeze(w: Window) -> Values:
    """Report the last value with noise of `strength` (a share of it), so that no two readings are equal."""
    held = _last_value(w)
    noisy = held * (1.0 + w.strength * w.rng.standard_normal(w.inside.size))
    return np.where(w.usable, w.rounded(noisy), w.inside)


def replay_exact(w: Window) -> Values:
    """Report an earlier stretch again, from the same hours of the day, digit for digit."""
    copied = _earlier(w)
    return np.where(w.usable & np.isfinite(copied), copied, w.inside)


def replay_disguised(w: Window) -> Values:
    """Report an earlier stretch times 0.9 with noise of `strength` (a share of the value)."""
    copied = _earlier(w) * 0.9
    noisy = copied * (1.0 + w.strength * w.rng.standard_normal(copied.size))
    return np.where(w.usable & np.isfinite(copied), w.rounded(noisy), w.inside)


def smoothed(w: Window) -> Values:
    """Report the moving mean over `strength` hours."""
    width = max(1, int(w.strength * 3_600_000 / w.step_ms)) // 2 * 2 + 1
    filled = np.where(w.usable, w.inside, np.nan)
    present = np.isfinite(filled)
    if not present.any():
        return w.inside
    kernel = np.ones(min(width, filled.size))
    total = np.convolve(np.where(present, filled, 0.0), kernel, "same")
    count = np.convolve(present.astype(np.float64), kernel, "same")
    return np.where(w.usable, w.rounded(total / np.maximum(count, 1.0)), w.inside)


def generated(w: Window) -> Values:
    """Invent an AR(1) series with the mean, spread and lag-1 correlation of the history."""
    past = w.history[-4000:]
    mean, spread = float(np.mean(past)), float(np.std(past))
    centred = past - mean
    r1 = float(np.dot(centred[1:], centred[:-1]) / max(np.dot(centred, centred), 1e-12))
    r1 = min(max(r1, 0.0), 0.999)
    shocks = w.rng.standard_normal(w.inside.size)
    series = np.empty(w.inside.size)
    level = shocks[0]
    for i, shock in enumerate(shocks):
        level = r1 * level + np.sqrt(1.0 - r1 * r1) * shock
        series[i] = level
    invented = np.maximum(mean + spread * series, min(float(past.min()), 0.3 * mean))
    return np.where(w.usable, w.rounded(invented), w.inside)


def _last_value(w: Window) -> float:
    if w.lo > 0 and w.history.size and np.isfinite(w.values[: w.lo]).any():
        return float(w.history[-1])
    return float(w.inside[w.usable][0]) if w.usable.any() else 0.0


def _earlier(w: Window) -> Values:
    """Return the values whole days earlier, far enough back that nothing inside is copied from inside."""
    at_ms = w.at_ms[w.lo : w.hi]
    length = int(at_ms[-1] - at_ms[0]) + w.step_ms
    shift = -(-length // DAY_MS) * DAY_MS
    if at_ms[0] - shift < w.at_ms[0]:
        raise DetectorError("forge.history", f"a replay needs {shift // DAY_MS} days before the interval")
    index = np.clip(np.searchsorted(w.at_ms, at_ms - shift), 0, max(w.lo - 1, 0))
    near = np.abs(w.at_ms[index] - (at_ms - shift)) <= w.step_ms
    return np.where(near, w.values[index], np.nan)
