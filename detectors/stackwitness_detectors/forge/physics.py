"""Forge at the probe: gas that is not the stack's, air let in, oxygen and load bent with the pollutant."""

from __future__ import annotations

import numpy as np

from stackwitness_detectors.contract import Values
from stackwitness_detectors.forge.window import (
    AIR_O2,
    DAY_MS,
    HOUR_MS,
    ForgeError,
    Mask,
    Window,
    is_carbon_dioxide,
    is_oxygen,
    likest,
)


def calibration_gas(w: Window) -> Values:
    """Let the analyser breathe clean gas for `strength` hours a day, from 20:00 UTC, marked normal."""
    level = w.zero + 0.25 * (float(np.median(w.history)) - w.zero)
    noise = w.rng.normal(0.0, max(0.01 * abs(level), w.resolution), w.inside.size)
    return np.where(_at_night(w), np.minimum(w.rounded(level + noise), w.inside), w.inside)


def zero_air(w: Window) -> Values:
    """Let the analyser breathe instrument air for `strength` hours a day, from 20:00 UTC, marked normal."""
    drift = max(w.resolution, 0.003 * abs(float(np.median(w.history)) - w.zero))
    level = w.zero + np.abs(w.rng.normal(0.0, drift, w.inside.size))
    return np.where(_at_night(w), np.minimum(w.rounded(level), w.inside), w.inside)


def dilution(w: Window) -> dict[str, Values]:
    """Let the share `strength` of air into the sample: pollutants, CO2 and water fall, O2 rises to air's."""
    _oxygen(w)
    return _diluted(w, honest_o2=True)


def dilution_forged_o2(w: Window) -> dict[str, Values]:
    """Let the share `strength` of air into the sample and report the oxygen from before: Fo leaves its band."""
    _oxygen(w)
    return _diluted(w, honest_o2=False)


def o2_low(w: Window) -> dict[str, Values]:
    """Report the oxygen `strength` percentage points low: every value at reference oxygen falls with it."""
    side = w.beside(_oxygen(w))
    return {side.info.name: np.where(side.usable, side.rounded(side.analogue - w.strength), side.inside)}


def joint_scale(w: Window) -> dict[str, Values]:
    """Take away the share `strength` of pollutant, load and flow together: the ratios stay."""
    names = [c.name for c in w.context.channels if c.role in ("load", "flow") and c.name in w.frame.values]
    if not names:
        raise ForgeError("forge.needs", "needs a load or flow channel")
    if w.info.name not in names:
        names.append(w.info.name)
    sides = [w.beside(name) for name in names]
    return {s.info.name: np.where(s.usable, s.lowered(1.0 - s.strength), s.inside) for s in sides}


def _oxygen(w: Window) -> str:
    measured = [c.name for c in w.context.channels if is_oxygen(c) and c.name in w.frame.values]
    name = likest(w.info.name, measured)
    if name is None:
        raise ForgeError("forge.needs", "needs an oxygen channel (role diluent, quantity O2)")
    if not w.beside(name).usable.any():
        raise ForgeError("forge.needs", f"needs normal readings of {name} in the interval")
    return name


def _diluted(w: Window, *, honest_o2: bool) -> dict[str, Values]:
    kept = max(0.0, 1.0 - w.strength)
    changed = {}
    for info in w.context.channels:
        sampled = (
            info.role in ("pollutant", "moisture") or is_carbon_dioxide(info) or info.name == w.info.name
        )
        if sampled and info.name in w.frame.values:
            side = w.beside(info.name)
            changed[info.name] = np.where(side.usable, side.lowered(kept), side.inside)
    if honest_o2:
        side = w.beside(_oxygen(w))
        risen = side.rounded(AIR_O2 - kept * (AIR_O2 - side.analogue))
        changed[side.info.name] = np.where(side.usable, np.maximum(risen, side.inside), side.inside)
    return changed


def _at_night(w: Window) -> Mask:
    evening = 20 * HOUR_MS if w.day_ms == DAY_MS else int(w.times[0])
    gone_h = 24.0 * ((w.times - evening) % w.day_ms) / w.day_ms
    chosen: Mask = w.usable & (gone_h < w.strength)
    return chosen
