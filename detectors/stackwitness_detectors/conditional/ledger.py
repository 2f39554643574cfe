"""One line a day of a channel's residuals, kept for a year and a half, and windows of them against the days before."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from stackwitness_detectors.conditional.gathered import COMPARED_DAYS, JUDGED_DAYS, gather, least_gathered
from stackwitness_detectors.conditional.pooled import OF_DAYS, OF_WEEKS, Pooled
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Values
from stackwitness_detectors.quantiles import median
from stackwitness_detectors.tail import monthly_rate

# Window and the days before it that it is compared with. Short before short: plants wander slowly, so a step stands
# out most against the days just before; long before long: a small shift needs many days on both sides.
BANK: tuple[tuple[float, int], ...] = (
    (0.25, 3), (1, 3), (1, 14), (3, 7), (3, 42), (7, 21), (7, 56), (14, 42), (30, 60),
)  # fmt: skip
# So often the three short windows count together: beside the long ones they find little that lasts.
_SHORT_PRICE = 16.0
_BLOCKS = 8  # short windows that stand apart in the reference, at the least: the largest of fewer says little
_WINSOR = 6.0  # spreads: a day further off counts as this far in what other days are compared with
_FORGIVEN_DAYS = 28  # what was flagged joins the baseline after so long: a plant may stay changed
_SOLID_HOURS = (
    12.0  # a window of h hours counts h / (h + 12) of its shift: a few hours after a start tell little
)
# Windows of real plants are rarer by about the third power of their size; nothing much steeper is believed. With these
# figures 16 steam units, a gas turbine and air stations crossed 0.9 to 1.8 times as often as promised.
_STEEP, _STEEPEST = 3.0, 4.5
_LEAST_TOPS = 2
_PRIOR_WINDOWS, _STUDENT = 5.0, 10.0
# Windows of three days and more: the largest of a channel's own few says little, its spread more, and how often windows
# lie so many spreads out is alike enough at all channels to be taken from many of them (bench/split.toml, "design").
_POOLED_DAYS = 3
_POOLED_BLOCKS, _POOLED_PRIOR = 3, 1.0
# For comparison, without pooled laws: all windows by a channel's own past, and so often they count together.
_OWN_PRICE = 4.0
_SLOW = 0.5  # of the hourly spread stays in the mean of a day or a week: residuals wander slowly
_LEAST_DAYS = 3  # days apart count as one event when the reference is ranked
_DAY, _HOURS, _MEAN, _LOW, _HIGH, _FLAGGED = range(6)


@dataclass(frozen=True)
class Shift:
    """Tell the window that is rarest: `size` below (or above) the `base` days, expected so often a month.

    `largest` is the largest such shift before. With `gathered` above 0 the window is the days over which the shortfalls add
    up to that; before them they added up to `gathered_before` at most.
    """

    days: float
    base_days: int
    size: float
    base: float
    rate: float
    largest: float
    gathered: float = 0.0
    gathered_before: float = 0.0


class Ledger:
    """Keep day, hours, mean, lowest and highest six hours and a flag for the days of one channel."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.rows: Values = np.empty((0, 6))
        self._sums: tuple[Values, Values, Values, Values, Values] | None = None

    def add(self, day: int, residual: Values, least_hours: int) -> bool:
        """Add a day; tell whether it is the newest and counts."""
        known = residual[np.isfinite(residual)]
        if known.size < least_hours or (len(self.rows) and day <= self.rows[-1, _DAY]):
            return False
        width = min(6, known.size)
        six = np.convolve(known, np.full(width, 1.0 / width), "valid")
        row = [day, known.size, known.mean(), six.min(), six.max(), 0.0]
        self.rows = np.vstack([self.rows, row])[-self.config.ledger_days :]
        return True

    def flag(self, from_day: int) -> None:
        """Mark the days from `from_day` on: they are no reference."""
        self.rows[self.rows[:, _DAY] >= from_day, _FLAGGED] = 1.0
        self._sums = None

    def windows(self, days: float, base_days: int, upwards: bool) -> tuple[Values, Values]:
        """Give for each row how far its window lies below (above) the days before it, and the mean of these.

        How far is weighed by the window's hours.
        """
        rows = self.rows
        n, width = len(rows), max(1, math.ceil(days))
        size, base = np.full(n, np.nan), np.full(n, np.nan)
        if n < width + 2:
            return size, base
        held, summed, all_hours, all_summed = self._cumulated()
        at = np.arange(width, n)
        first = at - width + 1
        before = np.maximum(first - base_days, 0)
        hours = held[first] - held[before]
        level = (summed[first] - summed[before]) / np.where(hours > 0, hours, np.nan)
        there = all_hours[at + 1] - all_hours[first]
        here = (all_summed[at + 1] - all_summed[first]) / there
        if days < 1.0:
            here = rows[at, _HIGH if upwards else _LOW]
        spans = rows[at, _DAY] - rows[first, _DAY] <= 2 * width
        enough = hours >= 24.0 * min(base_days, 2 * width) / 2
        good = spans & enough
        shift = (here - level) if upwards else (level - here)
        size[at[good]] = (shift * there / (there + _SOLID_HOURS))[good]
        base[at[good]] = level[good]
        return size, base

    def _cumulated(self) -> tuple[Values, Values, Values, Values]:
        """Give running sums over the days: hours and residuals of those that count as a reference, then of all."""
        rows = self.rows
        if self._sums is None or self._sums[0] is not rows:
            mean, hours = rows[:, _MEAN], rows[:, _HOURS]
            middle = median(mean)
            spread = _WINSOR * 1.4826 * median(np.abs(mean - middle))
            tame = np.clip(mean, middle - spread, middle + spread)
            recent = rows[:, _DAY] > rows[-1, _DAY] - _FORGIVEN_DAYS
            weight = np.where((rows[:, _FLAGGED] > 0) & recent, 0.0, hours)
            sums = (_cumulated(x) for x in (weight, weight * tame, hours, hours * mean))
            self._sums = (rows, *sums)  # type: ignore[assignment]
        assert self._sums is not None
        return self._sums[1:]

    def rarest(self, spread: float, upwards: bool = False, least: float = 0.0) -> Shift | None:
        """Judge the newest day: the window whose shift is rarest; `spread` is that of hours.

        A shift below `least` only counts where no window shows a larger one.
        """
        shifts = [self._added_up(spread, upwards)]
        for days, base_days in BANK:
            size, base = self.windows(days, base_days, upwards)
            if len(size) and np.isfinite(size[-1]):
                shifts.append(self._judge(days, base_days, size, float(base[-1]), _SLOW * spread))
        told = [shift for shift in shifts if shift is not None]
        return min(told, key=lambda shift: (shift.size < least, shift.rate), default=None)

    def _added_up(self, spread: float, upwards: bool) -> Shift | None:
        """Judge the shortfalls (or, upwards, what lies above) of single days together."""
        asked = len(self.rows) and self.config.pooled_laws
        found = gather(*self._lows(upwards), _SLOW * spread) if asked else None
        if found is None:
            return None
        base = -found.base if upwards else found.base
        lasting = float(found.rows), COMPARED_DAYS, found.size, base, found.rate, found.largest
        return Shift(*lasting, found.total, found.before)

    def _lows(self, upwards: bool) -> tuple[Values, Values, NDArray[np.bool_]]:
        """Give days, means (turned round, upwards) and which days may be a reference."""
        rows = self.rows
        recent = rows[:, _DAY] > rows[-1, _DAY] - _FORGIVEN_DAYS
        mean = -rows[:, _MEAN] if upwards else rows[:, _MEAN]
        return rows[:, _DAY], mean, ~((rows[:, _FLAGGED] > 0) & recent)

    def least(self, spread: float, budget: float, upwards: bool = False) -> tuple[float, float] | None:
        """Give the smallest shift that could be told here at `budget` findings a month, and its window in days.

        The rate of `rarest` solved for the shift. None while no window has a reference.
        """
        found: list[tuple[float, float]] = []
        rows = self.rows
        for days, base_days in BANK:
            size, _ = self.windows(days, base_days, upwards)
            width = max(1, math.ceil(days))
            usual = (rows[:, _DAY], rows[:, _FLAGGED] > 0, width, self.config, _SLOW * spread)
            reference = reference_of(size, *usual) if len(size) else None
            if reference is None or budget <= 0:
                continue
            hours = 24.0 * width
            shift = reference.shift_at(budget, width, self.config)
            found.append((shift * (hours + _SOLID_HOURS) / hours, days))
        asked = len(rows) and budget > 0 and self.config.pooled_laws
        lasting = least_gathered(*self._lows(upwards), _SLOW * spread, budget) if asked else None
        if lasting is not None and found:
            found.append((lasting, float(JUDGED_DAYS)))
        return min(found, default=None)

    def _judge(self, days: float, base_days: int, size: Values, base: float, ordinary: float) -> Shift | None:
        rows = self.rows
        width = max(1, math.ceil(days))
        rate = rarity(size, rows[:, _DAY], rows[:, _FLAGGED] > 0, width, self.config, ordinary)
        if rate is None:
            return None
        hours = float(rows[-width:, _HOURS].sum())
        solid = hours / (hours + _SOLID_HOURS)
        past = size[rows[:, _DAY] <= rows[-1, _DAY] - self.config.reference_lag_days - width + 1]
        largest = float(np.nanmax(past)) if np.isfinite(past).any() else 0.0
        return Shift(days, base_days, float(size[-1]) / solid, base, rate, largest / solid)


def rarity(
    size: Values, day: Values, flagged: NDArray[np.bool_], days: int, config: Config, ordinary: float
) -> float | None:
    """Expect so many findings a month as rare as the newest of `size` [n], of windows of `days` days.

    None with too few before it. Windows that overlap are one event: of each stretch of `days` days the highest counts.
    Days flagged of late are no reference, nor is the last fortnight. `ordinary` is the spread such windows usually
    have; it counts as some windows more, since few windows may happen to be alike.
    """
    reference = reference_of(size, day, flagged, days, config, ordinary)
    return None if reference is None else reference.rate(float(size[-1]), days, config)


@dataclass(frozen=True)
class Reference:
    """Hold what earlier windows say: the highest that stand apart, months, middle, spread, how many stand apart."""

    kept: Values
    months: float
    middle: float
    spread: float
    apart: float

    @property
    def freedom(self) -> float:
        """Return the degrees of freedom of the spread of short windows."""
        return min(self.apart + _PRIOR_WINDOWS - 1.0, _STUDENT)

    def rate(self, x: float, days: int, config: Config) -> float:
        """Expect so many findings a month from windows of `days` days that lie x or further out."""
        z = (x - self.middle) / self.spread
        if is_pooled(days, config):
            return pooled_law(days).rate(z, self.apart)
        own = monthly_rate(x, self.kept, self.months, config, exponent=tail_exponent(self.kept, config))
        return _own_price(config) * max(own, float(special.stdtr(self.freedom, -z)) * 30.0 / days)

    def shift_at(self, rate: float, days: int, config: Config) -> float:
        """Give the shift of windows of `days` days from which on so many a month are expected."""
        if is_pooled(days, config):
            return self.middle + self.spread * pooled_law(days).distance(rate, self.apart)
        part = rate / _own_price(config)
        steep = tail_exponent(self.kept, config)
        tail = max(float(self.kept[0]), 0.0) * math.pow(max(1.0, 1.0 / (self.months * part)), 1.0 / steep)
        p = min(part * days / 30.0, 0.5)
        return max(tail, self.middle - self.spread * float(special.stdtrit(self.freedom, p)))


def is_pooled(days: int, config: Config) -> bool:
    """Tell whether windows of `days` days are judged by a law learned from many channels."""
    return config.pooled_laws and days >= _POOLED_DAYS


def _own_price(config: Config) -> float:
    return _SHORT_PRICE if config.pooled_laws else _OWN_PRICE


def pooled_law(days: int) -> Pooled:
    """Choose the law of windows of `days` days, three or more."""
    return OF_DAYS if days < 7 else OF_WEEKS


def reference_of(
    size: Values, day: Values, flagged: NDArray[np.bool_], days: int, config: Config, ordinary: float
) -> Reference | None:
    """Gather the windows [n] that the newest one is compared with (see `rarity`); None where they are too few."""
    blocks, prior = (_POOLED_BLOCKS, _POOLED_PRIOR) if is_pooled(days, config) else (_BLOCKS, _PRIOR_WINDOWS)
    suspect = flagged & (day > day[-1] - _FORGIVEN_DAYS - days)
    past = size[(day <= day[-1] - config.reference_lag_days - days + 1) & ~suspect & np.isfinite(size)]
    if len(past) < max(config.calibration_min_days, blocks * days):
        return None
    tops = np.maximum.reduceat(past, np.arange(0, len(past), max(_LEAST_DAYS, days)))
    kept = np.sort(tops)[::-1][: max(_LEAST_TOPS, len(tops) // 5)]
    apart = len(past) / days
    variance = (apart * float(past.var()) + prior * ordinary**2) / (apart + prior)
    return Reference(kept, len(past) / 30.0, median(past), math.sqrt(max(variance, 1e-12)), apart)


def tail_exponent(top: Values, config: Config) -> float:
    """Estimate how steeply windows get rarer: Hill's estimate, shrunk to that of means of many hours."""
    positive = top[top > 0]
    if positive.size < 2:
        return _STEEP
    excess = float(np.log(positive / positive[-1]).sum())
    alpha = (positive.size - 1 + 4.0) / (excess + 4.0 / _STEEP)
    return min(max(alpha, config.tail_alpha_low), _STEEPEST)


def _cumulated(values: Values) -> Values:
    return np.concatenate([[0.0], np.cumsum(values)])
