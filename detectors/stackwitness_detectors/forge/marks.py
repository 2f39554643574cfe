"""Forge by hand: typed last digits, rounding, gaps filled in, and marks that make high readings vanish."""

from __future__ import annotations

import numpy as np

from stackwitness_detectors.contract import Letters, Values
from stackwitness_detectors.forge.places import to_step
from stackwitness_detectors.forge.window import NORMAL, Window

# People who invent digits like 0 and 5 (Dumas and Devine 2000).
TYPED = np.array([0.24, 0.06, 0.09, 0.08, 0.07, 0.20, 0.07, 0.07, 0.09, 0.03])
_EXCUSES = np.frombuffer(b"CMD", np.uint8)  # calibration, maintenance, fault (invalid)


def typed_digits(w: Window) -> Values:
    """Replace the last digit of the share `strength` of the readings as a tired person types it."""
    step = w.places.of(w.inside)
    steps = np.round(np.where(np.isfinite(w.inside), w.inside, 0.0) / step)
    digits = w.rng.choice(10, size=steps.size, p=TYPED)
    chosen = w.usable & (w.rng.random(steps.size) < w.strength)
    typed = to_step((np.floor(steps / 10.0) * 10.0 + digits) * step, step)
    return np.where(chosen, np.clip(typed, w.floor, w.ceiling), w.inside)


def rounded(w: Window) -> Values:
    """Round to `strength` times the instrument's resolution (10 = one digit fewer)."""
    coarse = to_step(w.inside, max(1.0, round(w.strength)) * w.places.of(w.inside))
    return np.where(w.usable, np.clip(coarse, w.floor, w.ceiling), w.inside)


def backfill(w: Window) -> tuple[Values, Letters]:
    """Fill gaps and outages (B, D) with a straight line marked normal, and `strength` hours a day as well."""
    lost_h = 24.0 * ((w.times - w.times[0] + w.rng.uniform() * w.day_ms) % w.day_ms) / w.day_ms
    outage = (w.letters == ord("B")) | (w.letters == ord("D")) | ((w.letters == NORMAL) & ~w.usable)
    gap = outage | (w.usable & (lost_h < w.strength))
    known = w.usable & ~gap
    if not known.any():
        known = w.usable
    line = np.interp(w.times, w.times[known], w.inside[known])
    filled = gap & ~known
    return np.where(filled, w.rounded(line), w.inside), np.where(filled, np.uint8(NORMAL), w.letters)


def missing_when_high(w: Window) -> tuple[Values, Letters]:
    """Lose readings above `strength` of the limit: no value, status B (the line was down, they say)."""
    high = w.usable & (w.inside > w.zero + w.strength * (w.limit - w.zero))
    return np.where(high, np.nan, w.inside), np.where(high, np.uint8(ord("B")), w.letters)


def status_abuse(w: Window) -> tuple[Values, Letters]:
    """Relabel readings above `strength` of the limit calibration, maintenance or invalid; the values stay."""
    high = w.usable & (w.inside > w.zero + w.strength * (w.limit - w.zero))
    stretch = np.cumsum(np.diff(high.astype(np.int8), prepend=0) == 1)
    excuses = w.rng.choice(_EXCUSES, size=int(stretch[-1]) + 1)
    return w.inside, np.where(high, excuses[stretch], w.letters)
