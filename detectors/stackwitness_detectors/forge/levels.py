"""Forge the level: lower, shifted, drifting, clipped, bunched. The shape of the series survives."""

from __future__ import annotations

import numpy as np

from stackwitness_detectors.contract import Values
from stackwitness_detectors.forge.places import to_step
from stackwitness_detectors.forge.window import DAY_MS, HOUR_MS, ForgeError, Window


def scale(w: Window) -> Values:
    """Take away the share `strength` of every reading in the analyser, before rounding (x0.7 = 0.3)."""
    return np.where(w.usable, w.lowered(1.0 - w.strength), w.inside)


def scale_after_rounding(w: Window) -> Values:
    """Take away the share `strength` of every rounded value, in the logger: its digits form a comb."""
    return np.where(w.usable, w.rounded(w.zero + (w.inside - w.zero) * (1.0 - w.strength)), w.inside)


def limit_aware_scale(w: Window) -> Values:
    """Take away the share `strength` of those readings only that exceed the limit."""
    return np.where(w.usable & (w.inside > w.limit), w.lowered(1.0 - w.strength), w.inside)


def altered_records(w: Window) -> Values:
    """Take away the share `strength` of half of the records, the higher the likelier."""
    rank = np.argsort(np.argsort(np.where(w.usable, w.inside, -np.inf))) / max(w.inside.size - 1, 1)
    chosen = w.usable & (w.rng.random(w.inside.size) < rank)
    return np.where(chosen, w.lowered(1.0 - w.strength), w.inside)


def inspection_honest(w: Window) -> Values:
    """Take away the share `strength` of every reading except in the honest intervals."""
    _needs_audits(w)
    return np.where(w.usable & ~w.audited, w.lowered(1.0 - w.strength), w.inside)


def offset(w: Window) -> Values:
    """Lower every reading by `strength` of the limit."""
    return np.where(w.usable, w.rounded(w.inside - w.strength * (w.limit - w.zero)), w.inside)


def offset_audited(w: Window) -> Values:
    """Lower every reading by `strength` of the limit, except in the honest intervals."""
    _needs_audits(w)
    return np.where(w.audited, w.inside, offset(w))


def drift(w: Window) -> Values:
    """Lower the slope slowly, to 1 - `strength` at the end of the interval."""
    progress = np.linspace(0.0, 1.0, w.inside.size)
    return np.where(w.usable, w.lowered(1.0 - w.strength * progress), w.inside)


def span_change(w: Window) -> Values:
    """Read the analyser's output with a range `strength` (a share) too small, through 12 bits: a comb, a top."""
    top = max(2.0 * w.limit, float(np.quantile(w.history, 0.999))) - w.zero
    counts = np.clip(np.round((w.analogue - w.zero) / top * 4096.0), 0.0, 4095.0)
    return np.where(w.usable, w.rounded(w.zero + counts / 4096.0 * top * (1.0 - w.strength)), w.inside)


def clip(w: Window) -> Values:
    """Report what exceeds the limit as `strength` (a share of it) under it, less half a percent or so."""
    room = w.limit - w.zero
    ceiling = w.limit - w.strength * room
    jitter = np.abs(w.rng.normal(0.0, 0.005 * room, w.inside.size))
    capped = np.minimum(w.rounded(ceiling - jitter), w.inside)
    return np.where(w.usable & (w.inside > ceiling), capped, w.inside)


def bunch(w: Window) -> Values:
    """Move readings up to `strength` (a share of the limit) above the limit into the 5 % below it."""
    room = w.limit - w.zero
    above = w.usable & (w.inside >= w.limit) & (w.inside <= w.limit + w.strength * room)
    moved = w.limit - 0.05 * room * w.rng.uniform(0.0, 1.0, w.inside.size)
    step = float(w.places.of(np.array([w.limit - 1e-9]))[0])
    below = np.array(np.floor((w.limit - 1e-9) / step) * step)
    return np.where(above, np.minimum(w.rounded(moved), to_step(below, step)), w.inside)


def averaging_game(w: Window) -> Values:
    """Lower the rest of a period (the day; of readings within the hour, the hour) once its mean exceeds the
    limit, so that the mean the permit looks at ends `strength` (a share) below the limit."""
    period_ms = DAY_MS if w.step_ms >= HOUR_MS // 2 else min(HOUR_MS, w.day_ms)
    forged = w.inside.copy()
    target = w.limit - w.strength * (w.limit - w.zero)
    period = w.times // period_ms if period_ms >= HOUR_MS else np.zeros(w.times.size, np.int64)
    for start in np.flatnonzero(np.diff(period, prepend=period[0] - 1)).tolist():
        chosen = np.flatnonzero(w.usable & (period == period[start]))
        values = w.inside[chosen]
        if chosen.size < 2 or values.mean() <= w.limit:
            continue
        running = np.cumsum(values) / np.arange(1, chosen.size + 1)
        first = min(int(np.argmax(running > w.limit)), chosen.size // 2)
        rest = values[first:] - w.zero
        spare = (target - w.zero) * chosen.size - float((values[:first] - w.zero).sum())
        factor = float(np.clip(spare / max(float(rest.sum()), 1e-12), 0.05, 1.0))
        forged[chosen[first:]] = w.lowered(factor)[chosen[first:]]
    return forged


def _needs_audits(w: Window) -> None:
    if not w.around.honest_ms:
        raise ForgeError("forge.needs", "needs honest intervals (days of audits or inspections)")
