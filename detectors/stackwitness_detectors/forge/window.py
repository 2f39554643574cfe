"""Hold the piece of one channel that a forgery may change, with its history, limit, resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import ChannelInfo, Context, DetectorError, Frame, Letters, Times, Values

NORMAL = ord("N")
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Window:
    """Give a forgery its material: whole series `at_ms`, `values`, `status`; it may change [lo, hi) only."""

    at_ms: Times
    values: Values
    status: Letters
    lo: int
    hi: int
    info: ChannelInfo
    strength: float
    rng: np.random.Generator

    @cached_property
    def inside(self) -> Values:
        """Return a copy of the values inside."""
        return self.values[self.lo : self.hi].copy()

    @cached_property
    def letters(self) -> Letters:
        """Return a copy of the status letters inside."""
        return self.status[self.lo : self.hi].copy()

    @cached_property
    def usable(self) -> NDArray[np.bool_]:
        """Tell which readings inside are normal and present: a forger leaves the others alone."""
        normal: NDArray[np.bool_] = (self.letters == NORMAL) & np.isfinite(self.inside)
        return normal

    @cached_property
    def history(self) -> Values:
        """Return the normal values before the interval, or, where there are too few, those inside."""
        before = self.values[: self.lo][(self.status[: self.lo] == NORMAL)]
        before = before[np.isfinite(before)]
        return before if before.size >= 48 else self.inside[self.usable]

    @cached_property
    def limit(self) -> float:
        """Return the limit, or for a channel without one the level a fifth of its readings exceed."""
        if self.info.limit is not None:
            return self.info.limit
        return float(np.quantile(self.history, 0.8)) if self.history.size else 1.0

    @cached_property
    def resolution(self) -> float:
        """Return the registered step of the instrument, or the largest power of ten that fits."""
        if self.info.resolution:
            return self.info.resolution
        sample = self.history[-500:]
        for exponent in range(3, -7, -1):
            step = 10.0**exponent
            if sample.size and np.allclose(sample / step, np.round(sample / step), atol=1e-6, rtol=0.0):
                return step
        return 1e-6

    @cached_property
    def step_ms(self) -> int:
        """Return the usual distance of two readings."""
        return int(np.median(np.diff(self.at_ms))) if self.at_ms.size > 1 else 3_600_000

    def rounded(self, values: Values) -> Values:
        """Round as the instrument does; negative readings become 0 where the history knows none."""
        floor = 0.0 if not self.history.size or self.history.min() >= 0.0 else -np.inf
        return np.maximum(to_step(values, self.resolution), floor)


def to_step(values: Values, step: float) -> Values:
    """Round to multiples of a step, free of binary dust (0.1 + 0.2 shall read 0.3)."""
    digits = max(0, int(np.ceil(-np.log10(step))) + 1)
    return np.round(np.round(values / step) * step, digits)


def open_window(
    frame: Frame, context: Context, channel: str, from_ms: int, to_ms: int, strength: float, seed: int
) -> Window:
    """Cut the window of one channel. Raises DetectorError: forge.channel, forge.interval."""
    info = next((c for c in context.channels if c.name == channel), None)
    if info is None or channel not in frame.values:
        raise DetectorError("forge.channel", f"{channel!r} is no channel of {context.stn}")
    lo, hi = (int(i) for i in np.searchsorted(frame.at_ms, [from_ms, to_ms]))
    if hi <= lo:
        raise DetectorError("forge.interval", "no reading lies in the interval")
    values = np.asarray(frame.values[channel], dtype=np.float64)
    status = frame.status.get(channel)
    letters = np.full(values.size, NORMAL, dtype=np.uint8) if status is None else status
    return Window(frame.at_ms, values, letters, lo, hi, info, strength, np.random.default_rng(seed))


def put_back(frame: Frame, window: Window, inside: Values, letters: Letters) -> Frame:
    """Return a frame with the forged piece in place; the given frame is not touched."""
    values, status = window.values.copy(), window.status.copy()
    values[window.lo : window.hi] = inside
    status[window.lo : window.hi] = letters
    name = window.info.name
    return replace(frame, values={**frame.values, name: values}, status={**frame.status, name: status})
