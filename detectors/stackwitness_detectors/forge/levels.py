"""Forge the level: lower, shifted, drifting, clipped, bunched. The shape of the series survives."""

from __future__ import annotations

import numpy as np

from stackwitness_detectors.contract import Values
from stackwitness_detectors.forge.window import DAY_MS, Window


def scale(w: Window) -> Values:
    """Take away the share `strength` of every reading in the analyser, before rounding (x0.7 = 0.3)."""
    return np.where(w.usable, w.rounded(w.inside * (1.0 - w.strength)), w.inside)


def offset(w: Window) -> Values:
    """Lower every reading by `strength` of the limit."""
    return np.where(w.usable, w.rounded(w.inside - w.strength * w.limit), w.inside)


def drift(w: Window) -> Values:
    """Lower the slope slowly, to 1 - `strength` at the end of the interval."""
    progress = np.linspace(0.0, 1.0, w.inside.size)
    return np.where(w.usable, w.rounded(w.inside * (1.0 - w.strength * progress)), w.inside)


def clip(w: Window) -> Values:
    """Report what exceeds the limit as `strength` (a share of it) under it, less half a percent or so."""
    ceiling = w.limit * (1.0 - w.strength)
    jitter = np.abs(w.rng.normal(0.0, 0.005 * w.limit, w.inside.size))
    return np.where(w.usable & (w.inside > ceiling), w.rounded(ceiling - jitter), w.inside)


def bunch(w: Window) -> Values:
    """Move readings up to `strength` (a share of the limit) above the limit into the 5 % below it."""
    above = w.usable & (w.inside >= w.limit) & (w.inside <= w.limit * (1.0 + w.strength))
    moved = w.limit * w.rng.uniform(0.95, 1.0, w.inside.size)
    return np.where(above, np.minimum(w.rounded(moved), w.limit - w.resolution), w.inside)


def calibration_gas(w: Window) -> Values:
    """Let the analyser breathe clean gas for `strength` hours a day, from 20:00 UTC, marked normal."""
    gone_h = ((w.at_ms[w.lo : w.hi] - 20 * 3_600_000) % DAY_MS) / 3_600_000
    level = 0.25 * float(np.median(w.history))
    noise = w.rng.normal(0.0, max(0.01 * level, w.resolution), w.inside.size)
    return np.where(w.usable & (gone_h < w.strength), w.rounded(level + noise), w.inside)
