"""Forge without measuring: series drawn from the past, from its blocks, from like hours, or from the air."""

from __future__ import annotations

import numpy as np

from stackwitness_detectors.contract import Values
from stackwitness_detectors.forge.marks import TYPED
from stackwitness_detectors.forge.places import to_step
from stackwitness_detectors.forge.window import HISTORY_MIN, HOUR_MS, ForgeError, Window


def generated(w: Window) -> Values:
    """Invent an AR(1) series with mean, spread, lag-1 correlation of the history, for `strength` (a share)."""
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
    least = min(float(past.min()), w.zero + 0.3 * (mean - w.zero))
    return np.where(w.part, w.rounded(np.maximum(mean + spread * series, least)), w.inside)


def bootstrap(w: Window) -> Values:
    """String together blocks of six hours of the past, for `strength` (a share)."""
    past = _past(w)[-20_000:]
    block = max(4, min(6 * HOUR_MS // w.step_ms, past.size // 4))
    count = -(-w.inside.size // block) + 1
    starts = w.rng.integers(0, past.size - block, count)
    series = np.concatenate([past[s : s + block] for s in starts.tolist()])[: w.inside.size]
    return np.where(w.part, series, w.inside)


def resampled(w: Window) -> Values:
    """Draw for every three hours the past stretch whose drivers are most alike, for `strength` (a share).

    What a well-trained generator reaches at best: the drivers of the station explain every value.
    """
    drivers = _drivers(w)
    block = max(2, min(3 * HOUR_MS // w.step_ms, w.lo // 8))
    known = np.flatnonzero(w.before & np.isfinite(drivers).all(axis=1))
    known = known[known < w.lo - block]
    if known.size < HISTORY_MIN:
        raise ForgeError("forge.history", f"needs {HISTORY_MIN} earlier records with their drivers")
    series, measured = np.full(w.inside.size, np.nan), np.where(w.before, w.values, np.nan)
    for start in range(0, w.inside.size, block):
        now = drivers[w.lo + start]
        candidates = w.rng.choice(known, size=min(400, known.size), replace=False)
        apart = ((drivers[candidates] - np.where(np.isfinite(now), now, 0.0)) ** 2).sum(axis=1)
        source = int(candidates[np.argmin(apart)])
        room = min(block, w.inside.size - start)
        series[start : start + room] = measured[source : source + room]
    return np.where(w.part & np.isfinite(series), w.rounded(series), w.inside)


def invented_records(w: Window) -> Values:
    """Type values `strength` (a share) below the past median with a liking for 0 and 5, hour by hour anew."""
    level = w.zero + (float(np.median(w.history)) - w.zero) * (1.0 - min(w.strength, 1.0))
    spread = 0.1 * abs(level - w.zero)
    values = np.clip(level + spread * w.rng.standard_normal(w.inside.size), w.floor, w.ceiling)
    step = w.places.of(values)
    typed = np.floor(values / step / 10.0) * 10.0 + w.rng.choice(10, size=values.size, p=TYPED)
    return np.where(w.usable, w.rounded(to_step(typed * step, step)), w.inside)


def _past(w: Window) -> Values:
    past = w.values[w.before]
    if past.size < HISTORY_MIN:
        raise ForgeError("forge.history", f"needs {HISTORY_MIN} normal readings before the interval")
    return past


def _drivers(w: Window) -> Values:
    """Return the standardised channels that are not pollutants [n, k]. Raises forge.needs."""
    columns = []
    for info in w.context.channels:
        if info.role == "pollutant" or info.name == w.info.name or info.name not in w.frame.values:
            continue
        values = np.asarray(w.frame.values[info.name], np.float64)
        values = np.where(np.isfinite(values), values, np.nan)
        past = values[: w.lo][np.isfinite(values[: w.lo])]
        spread = float(past.std()) if past.size >= HISTORY_MIN else 0.0
        if spread > 0.0 and np.isfinite(spread):
            weight = 3.0 if info.role in ("load", "flow") else 1.0
            columns.append(weight * (values - past.mean()) / spread)
    if not columns:
        raise ForgeError("forge.needs", "needs a channel that drives the pollutant (load, flow, weather)")
    return np.column_stack(columns)
