"""Forge the course: held, copied, borrowed. The level survives, the plant behind it is gone."""

from __future__ import annotations

import numpy as np

from stackwitness_detectors.contract import Context, Frame, Values
from stackwitness_detectors.forge.window import DAY_MS, HOUR_MS, NORMAL, ForgeError, Window


def freeze(w: Window) -> Values:
    """Hold the last value before the interval for the first `strength` (a share) of it."""
    return np.where(w.part, _last_value(w), w.inside)


def near_freeze(w: Window) -> Values:
    """Report the last value with noise of `strength` (a share of it), so that no two readings are equal."""
    held = _last_value(w)
    noisy = held + abs(held - w.zero) * w.strength * w.rng.standard_normal(w.inside.size)
    return np.where(w.usable, w.rounded(noisy), w.inside)


def manual_jitter(w: Window) -> Values:
    """Set the output by hand `strength` (a share) below the past median, with a jitter of a step or two."""
    level = w.zero + (float(np.median(w.history)) - w.zero) * (1.0 - min(w.strength, 1.0))
    jitter = w.rng.choice(np.array([-2, -1, -1, 0, 0, 0, 1, 1, 2]), size=w.inside.size)
    step = max(w.resolution, 0.001 * abs(level))
    return np.where(w.usable, w.rounded(level + step * jitter), w.inside)


def record_freeze(w: Window) -> dict[str, Values]:
    """Hold the last whole record, all channels, for the first `strength` (a share) of the interval."""
    held = {}
    for info in w.context.channels:
        if info.name in w.frame.values:
            side = w.beside(info.name)
            held[info.name] = freeze(side)
    return held


def replay_exact(w: Window) -> Values:
    """Report an earlier stretch again, same hours of the day, digit for digit, for `strength` (a share)."""
    copied = _earlier(w, _shift(w))
    return np.where(w.part & np.isfinite(copied), copied, w.inside)


def replay_disguised(w: Window) -> Values:
    """Report an earlier stretch with noise of `strength` (a share), lowered by five times that share."""
    copied = w.zero + (_earlier(w, _shift(w)) - w.zero) * max(0.0, 1.0 - 5.0 * w.strength)
    noisy = copied + (copied - w.zero) * w.strength * w.rng.standard_normal(copied.size)
    return np.where(w.usable & np.isfinite(copied), w.rounded(noisy), w.inside)


def replay_shifted(w: Window) -> Values:
    """Report an earlier stretch from other hours of the day (3 to 21 h off), for `strength` (a share)."""
    length = int(w.times[-1] - w.times[0]) + w.step_ms
    off_ms = int(w.rng.integers(3, 22)) * min(HOUR_MS, -(-length // 24))
    shift = _shift(w) + off_ms // w.step_ms * w.step_ms
    copied = _earlier(w, shift)
    return np.where(w.part & np.isfinite(copied), copied, w.inside)


def joint_replay(w: Window) -> dict[str, Values]:
    """Report earlier whole records, all channels of the station together, for `strength` (a share)."""
    shift = _shift(w)
    records = {}
    for info in w.context.channels:
        if info.name in w.frame.values:
            side = w.beside(info.name)
            copied = _earlier(side, shift)
            records[info.name] = np.where(side.part & np.isfinite(copied), copied, side.inside)
    return records


def borrowed_stack(w: Window) -> Values:
    """Report another station's earlier stretch at one's own level, for `strength` (a share)."""
    context, frame, name = _neighbour(w)
    borrowed = _foreign(w, frame, name, _shift(w))
    if not np.isfinite(borrowed[w.usable]).any():  # another time altogether: from its own beginning
        borrowed = _foreign(w, frame, name, int(w.times[0] - frame.at_ms[0]))
    return _fitted(w, borrowed, context)


def neighbour_copied(w: Window) -> Values:
    """Report what the neighbour reports now, at one's own level, for `strength` (a share)."""
    context, frame, name = _neighbour(w)
    return _fitted(w, _foreign(w, frame, name, 0), context)


def smoothed(w: Window) -> Values:
    """Report the moving mean over `strength` hours."""
    width = max(1, int(w.strength * HOUR_MS / w.step_ms)) // 2 * 2 + 1
    filled = np.where(w.usable, w.inside, np.nan)
    present = np.isfinite(filled)
    kernel = np.ones(min(width, filled.size))
    total = np.convolve(np.where(present, filled, 0.0), kernel, "same")
    count = np.convolve(present.astype(np.float64), kernel, "same")
    return np.where(w.usable, w.rounded(total / np.maximum(count, 1.0)), w.inside)


def _last_value(w: Window) -> float:
    past = w.values[w.before]
    return float(past[-1]) if past.size else float(w.inside[w.usable][0]) if w.usable.any() else 0.0


def _shift(w: Window) -> int:
    """Return how far back (ms) to copy from, so that nothing inside is copied from inside.

    By whole days, so that equal hours meet; where the data begin too late for that, by the interval's length.
    """
    length = int(w.times[-1] - w.times[0]) + w.step_ms
    whole_days = -(-length // DAY_MS) * DAY_MS
    known = int(w.times[0] - w.at_ms[0])
    return whole_days if known + w.step_ms // 2 >= whole_days or known < length else length


def _earlier(w: Window, shift_ms: int) -> Values:
    """Return the normal values `shift_ms` earlier, NaN where there are none. Raises forge.history."""
    if w.times[0] - shift_ms < w.at_ms[0] - w.step_ms // 2:
        hours = -(-shift_ms // HOUR_MS)
        raise ForgeError("forge.history", f"needs {hours} hours of data before the interval to copy from")
    known = np.where(w.before, w.values, np.nan)
    return _at(w.at_ms, known, w.times - shift_ms, w.step_ms)


def long_before(w: Window) -> Values:
    """Return what a replay would copy, NaN where there is nothing (also without enough history)."""
    try:
        return _earlier(w, _shift(w))
    except ForgeError:
        return np.full(w.inside.size, np.nan)


def _at(at_ms: Values | np.ndarray, values: Values, wanted: np.ndarray, within_ms: int) -> Values:
    index = np.clip(np.searchsorted(at_ms, wanted), 0, max(at_ms.size - 1, 0))
    near = np.abs(at_ms[index] - wanted) <= within_ms
    return np.where(near, values[index], np.nan)


def _neighbour(w: Window) -> tuple[Context, Frame, str]:
    """Return the first other station with the same quantity and unit. Raises forge.needs."""
    for context, frame in w.around.neighbours:
        for info in context.channels:
            same = (info.quantity, info.unit) == (w.info.quantity, w.info.unit)
            if same and info.name in frame.values and context.stn != w.context.stn and frame.at_ms.size:
                return context, frame, info.name
    raise ForgeError("forge.needs", f"needs the frame of another station that measures {w.info.quantity}")


def _foreign(w: Window, frame: Frame, name: str, shift_ms: int) -> Values:
    letters = frame.status.get(name)
    values = np.asarray(frame.values[name], np.float64)
    if letters is not None:
        values = np.where((letters == NORMAL) | (letters == 0), values, np.nan)
    return _at(frame.at_ms, np.where(np.isfinite(values), values, np.nan), w.times - shift_ms, w.step_ms)


def _fitted(w: Window, borrowed: Values, source: Context) -> Values:
    """Bring borrowed values to the own level. Raises forge.needs where the other station reports nothing."""
    chosen = w.part & np.isfinite(borrowed)
    if not chosen.any():
        raise ForgeError("forge.needs", f"needs readings of {source.stn} at these times")
    level = float(np.median(borrowed[chosen]))
    factor = (float(np.median(w.history)) - w.zero) / (level - w.zero) if level > w.zero else 1.0
    return np.where(chosen, w.rounded(w.zero + (borrowed - w.zero) * factor), w.inside)
