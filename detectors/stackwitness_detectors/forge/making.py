"""Make one forgery: the same arguments give the same frame, and nothing outside the interval is touched."""

from __future__ import annotations

import numpy as np

from stackwitness_detectors.contract import Context, Frame, Values
from stackwitness_detectors.forge.kinds import KINDS
from stackwitness_detectors.forge.registry import Change
from stackwitness_detectors.forge.window import ForgeError, Surroundings, Window, open_window, put_back


def forge(
    kind: str,
    frame: Frame,
    context: Context,
    channel: str,
    from_ms: int,
    to_ms: int,
    strength: float | str | None = None,
    seed: int = 0,
    around: Surroundings | None = None,
) -> Frame:
    """Return the frame with `channel` forged in [from_ms, to_ms); some kinds bend its companions as well.

    `strength` is a number, one of LEVELS, or None for the usual one of the kind. `around` gives what the
    kind needs beyond the station. Raises ForgeError: forge.kind, forge.channel, forge.times,
    forge.interval, forge.strength, forge.history (a replay finds nothing to copy), forge.needs (says what is
    missing), forge.nothing (no reading would change), forge.absurd (the readings are no numbers to work on).
    """
    forgery = KINDS.get(kind)
    if forgery is None:
        raise ForgeError("forge.kind", f"{kind!r} is none of {', '.join(KINDS)}")
    force = forgery.strength_of(strength)
    window = open_window(frame, context, channel, from_ms, to_ms, force, seed, around)
    with np.errstate(all="ignore"):
        forged = _apply(frame, window, forgery.change(window))
    if not changed_readings(frame, forged, window.lo, window.hi).any():
        raise ForgeError("forge.nothing", f"{kind} changes no reading of {channel} in the interval")
    return forged


def changed_readings(before: Frame, after: Frame, lo: int, hi: int) -> np.ndarray:
    """Tell for the rows [lo, hi) which have a changed value or letter in any channel."""
    rows = np.zeros(hi - lo, np.bool_)
    for name, values in after.values.items():
        if values is before.values[name]:
            continue
        old, new = np.asarray(before.values[name], np.float64)[lo:hi], values[lo:hi]
        rows |= ~((old == new) | (np.isnan(old) & np.isnan(new)))
        letters = before.status.get(name)
        was = np.full(hi - lo, ord("N"), np.uint8) if letters is None else letters[lo:hi]
        rows |= np.where(was == 0, ord("N"), was) != after.status[name][lo:hi]
    return rows


def _apply(frame: Frame, window: Window, change: Change) -> Frame:
    if isinstance(change, dict):
        for name, inside in change.items():
            side = window.beside(name)
            _refuse_absurd(side, inside)
            frame = put_back(frame, side, inside, side.letters)
        return frame
    inside, letters = change if isinstance(change, tuple) else (change, window.letters)
    _refuse_absurd(window, inside)
    return put_back(frame, window, inside, letters)


def _refuse_absurd(window: Window, inside: Values) -> None:
    if np.isinf(inside[window.usable]).any():
        raise ForgeError("forge.absurd", f"the readings of {window.info.name} are too large to work on")
