"""Forge by hand: typed last digits, rounding, and marks that make high readings vanish."""

from __future__ import annotations

import numpy as np

from stackwitness_detectors.contract import Letters, Values
from stackwitness_detectors.forge.window import Window, to_step

# People who invent digits like 0 and 5 (Dumas and Devine 2000).
TYPED = np.array([0.24, 0.06, 0.09, 0.08, 0.07, 0.20, 0.07, 0.07, 0.09, 0.03])


def typed_digits(w: Window) -> Values:
    """Replace the last digit of the share `strength` of the readings as a tired person types it."""
    steps = np.round(np.where(np.isfinite(w.inside), w.inside, 0.0) / w.resolution)
    digits = w.rng.choice(10, size=steps.size, p=TYPED)
    chosen = w.usable & (w.rng.random(steps.size) < w.strength)
    typed = np.floor(steps / 10.0) * 10.0 + digits
    return np.where(chosen, to_step(typed * w.resolution, w.resolution), w.inside)


def rounded(w: Window) -> Values:
    """Round to `strength` times the instrument's resolution (10 = one digit fewer)."""
    return np.where(w.usable, to_step(w.inside, w.strength * w.resolution), w.inside)


def missing_when_high(w: Window) -> tuple[Values, Letters]:
    """Lose readings above `strength` of the limit: no value, status B (the line was down, they say)."""
    high = w.usable & (w.inside > w.strength * w.limit)
    return np.where(high, np.nan, w.inside), np.where(high, np.uint8(ord("B")), w.letters)


def status_abuse(w: Window) -> tuple[Values, Letters]:
    """Relabel readings above `strength` of the limit as maintenance; the values stay, nobody counts them."""
    high = w.usable & (w.inside > w.strength * w.limit)
    return w.inside, np.where(high, np.uint8(ord("M")), w.letters)
