"""Readings as whole numbers of their last place: fixed steps, and steps that move with the size of the value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Note, Values, Why
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.running import least_running

MOST_DECIMALS, LEAST_DECIMALS = 6, -3
_ON_GRID = 0.995  # share of values that must lie on a grid for nothing finer to be there
_MAIN = (
    0.75  # share that makes a place the last one of a channel: what is finer was computed (parts of an hour)
)
_LEAST_IN_DECADE = 100
_LEAST_REFERENCE = 300
_NEAR = 1e-3  # of a step: nearer to the grid is on it
_EXACT = 2.0**53


@dataclass(frozen=True)
class Units:
    """Hold the last place per decade (floor of log10 of the size): value = whole number x 10^-decimals."""

    decades: NDArray[np.int64]
    decimals: NDArray[np.int64]
    declared: float | None = None

    def whole(self, values: Values) -> Values:
        """Give values in units of their last place; NaN in decades that are not known."""
        if self.declared is not None:
            return values / self.declared
        decade = np.floor(np.log10(np.abs(np.where(values == 0, np.nan, values))))
        place = np.full(len(values), np.nan)
        for known, decimals in zip(self.decades.tolist(), self.decimals.tolist(), strict=True):
            place[decade == known] = 10.0**decimals
        scaled: Values = values * place
        return scaled

    @property
    def text(self) -> str:
        """Name the resolution."""
        if self.declared is not None:
            return f"{self.declared:g}"
        return ", ".join(f"{10.0**-d:g}" for d in sorted(set(self.decimals.tolist())))


def fresh_values(values: Values) -> Values:
    """Keep finite values that differ from the one before and are not zero: repeats are no new digits."""
    values = values[np.isfinite(values)]
    if not len(values):
        return values
    changed = np.concatenate([[True], np.diff(values) != 0])
    kept: Values = values[changed & (values != 0)]
    return kept


def decimals_of(values: Values, share: float = _ON_GRID) -> int | None:
    """Give the fewest decimals that hold nearly all values, or `share` (negative: tens, hundreds); None beyond six."""
    for decimals in range(LEAST_DECIMALS, MOST_DECIMALS + 1):
        scaled = values * 10.0**decimals
        off = np.abs(scaled - np.round(scaled))
        if float((off < 1e-6 * np.maximum(1.0, np.abs(scaled))).mean()) >= share:
            return decimals
    return None


def units_of(values: Values, declared: float | None) -> Units | None:
    """Find the last place of reference values, per decade; the declared step where the values keep to it."""
    if declared is not None and declared > 0:
        scaled = values / declared
        if float((np.abs(scaled - np.round(scaled)) < _NEAR).mean()) >= _MAIN:
            return Units(np.empty(0, np.int64), np.empty(0, np.int64), declared)
    decade = np.floor(np.log10(np.abs(values)))
    found = []
    for d in np.unique(decade):
        inside = values[decade == d]
        decimals = decimals_of(inside, _MAIN) if len(inside) >= _LEAST_IN_DECADE else None
        if decimals is not None:
            found.append((int(d), decimals))
    if not found:
        return None
    return Units(np.array([d for d, _ in found], np.int64), np.array([p for _, p in found], np.int64))


@dataclass(frozen=True)
class Steps:
    """Hold what lies on the steps of the last place: `whole` [n] rounded, `size` [n] before rounding, and how many do not."""

    whole: Values
    size: Values
    off: int

    @cached_property
    def exact(self) -> NDArray[np.int64] | Values:
        """Give the whole numbers as integers where they fit, which divide three times as fast."""
        return self.whole.astype(np.int64) if self.whole.size and self.size.max() < _EXACT else self.whole

    def reaching(self, least: float) -> NDArray[np.int64] | Values:
        """Give the whole numbers of at least that size."""
        chosen: NDArray[np.int64] | Values = self.exact[self.size >= least]
        return chosen


def steps_of(whole: Values) -> Steps:
    """Keep of readings in units of their last place those that lie on its steps."""
    on = on_grid(whole)
    kept = whole[on]
    return Steps(np.round(kept), np.abs(kept), len(whole) - len(kept))


@dataclass(frozen=True)
class Digits:
    """Hold the reference and the latest days as whole numbers of the last place (off-grid ones are fractions)."""

    units: Units
    before: Values
    now: dict[int, Values]

    @cached_property
    def past_steps(self) -> Steps:
        """Give the reference's values that lie on the steps."""
        return steps_of(self.before)

    @cached_property
    def steps(self) -> dict[int, Steps]:
        """Give those of each window of days."""
        return {days: steps_of(now) for days, now in self.now.items()}


class DigitReader:
    """Give each test of a day the same whole numbers; made anew each day from the rows, so it needs no state."""

    windows = (1, 3, 7, 30)

    def __init__(self, memory: Memory, config: Config) -> None:
        self.memory, self.config = memory, config
        self.tested = memory.indices("pollutant", "flow")
        self._day = -1
        self._made: dict[int, Digits | Why] = {}
        self._partial = np.empty(0, np.bool_)

    def read(self, k: int, day: int) -> Digits | Why:
        """Read a channel on a day; a pair says why there is nothing to read."""
        if day != self._day:
            self._day, self._made, self._partial = day, {}, starts_and_stops(self.memory)
        if k not in self._made:
            self._made[k] = self._read(k, day)
        return self._made[k]

    def notes(self, detector: str, why: dict[int, Why]) -> list[Note]:
        """Say for a test where it cannot judge: before the first day nothing has been read."""
        names, hour = self.memory.names, self.memory.hours.view("hour")
        if not len(hour) or hour[0] // 24 == hour[-1] // 24:
            return [Note(detector, names[k], "history", "no day has ended yet") for k in self.tested]
        return [Note(detector, names[k], *told) for k, told in why.items()]

    def _read(self, k: int, day: int) -> Digits | Why:
        at_ms = self.memory.rows.view("at_ms")
        told = self.memory.rows.view("values")[:, k]
        values = np.where(self._partial, np.nan, told)
        to_ms = (day + 1) * DAY_MS
        last = int(np.searchsorted(at_ms, to_ms))
        starts = {w: int(np.searchsorted(at_ms, to_ms - w * DAY_MS)) for w in self.windows}
        # A forgery that began some days ago must not teach: a week's gap, three days while there is little.
        for gap in (37, 14, 8, 4):
            until = int(np.searchsorted(at_ms, to_ms - gap * DAY_MS))
            before = fresh_values(values[:until])
            if len(before) >= _LEAST_REFERENCE:
                break
        else:
            return "history", "too few changing values for a test of digits"
        units = units_of(before, self.memory.channels[k].resolution)
        if units is None:
            return "digits", "the last digit has no place that could be found"
        now = {w: units.whole(fresh_values(values[starts[w] : last])) for w in self.windows if w < gap}
        # Parts of an hour stay in the past: they tell how often, and how bunched, readings lie between the steps.
        known = units.whole(fresh_values(told[:until]))
        return Digits(units, known[np.isfinite(known)], {w: n[np.isfinite(n)] for w, n in now.items()})


def starts_and_stops(memory: Memory) -> NDArray[np.bool_]:
    """Tell of each remembered row whether the unit stands still there, or starts or stops there or in the next one to it.

    What is reported of part of an hour is a product with that part: its digits are those of no instrument
    (40 CFR 75 App. F 5: heat input is the rate times the operating time).
    """
    loads = memory.indices("load")
    load = memory.rows.view("values")[:, loads[0]] if loads else np.empty(0)
    beside = np.zeros(len(memory.rows), np.bool_)
    if np.isfinite(load).any():
        # An unknown load changes nothing.
        on = (load > least_running(load)) | ~np.isfinite(load)
        turns, beside = np.diff(on), ~on
        beside[1:] |= turns
        beside[:-1] |= turns
    return beside


def on_grid(whole: Values) -> NDArray[np.bool_]:
    """Tell which whole numbers are whole."""
    near: NDArray[np.bool_] = np.abs(whole - np.round(whole)) < _NEAR * np.maximum(1.0, 1e-6 * np.abs(whole))
    return near
