"""Pulses: blocks of hours far below both neighbours with sharp edges, once or night after night at the same clock hours.

Clean gas or air at the probe shows so: the load does not move, the level falls within an hour and comes back within
an hour. depth = log of (lower of the two neighbouring hours / highest hour of the block), of the ratio to what the
model expects where there is one; against the depths of the channel's own blocks of that length. A block that the load
falls into, or rises out of, is the load's doing: a trip, another firing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Note, Values
from stackwitness_detectors.daily import DailyTest, Judged, operating
from stackwitness_detectors.memory import HOUR_MS, Memory
from stackwitness_detectors.plots import rough
from stackwitness_detectors.quantiles import median, quantile
from stackwitness_detectors.running import usual_top

LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12)
_LEAST_HOURS = 240
_LEAST_R2 = 0.3
_FLOOR = 0.05  # of the usual level: below it readings are at nought
_LEAST_DEPTH = 0.1  # a tenth lower is the least that would be worth a night's work
_SPREAD_AT = 0.98  # of the depths of a length: what counts as one unit
_PRIOR_DEPTH = 0.03
_LEAST_ALONE = 2  # hours of a block that comes on one day only
# See DailyTest.steepest; three nights alike are so rare that the past shows none at all.
_STEEPEST = {1: 4.0, 3: 2.5}


class Blocks:
    """Give level and usual depths of blocks, worked out once for any number of nights."""

    def __init__(self, memory: Memory, config: Config, residuals: Residuals) -> None:
        self.memory, self.config, self.residuals = memory, config, residuals
        self._last = -1
        self._levels: dict[int, float] = {}
        self._units: dict[int, list[float] | None] = {}

    def _renew(self) -> None:
        hour = self.memory.hours.view("hour")
        if int(hour[-1]) != self._last:
            self._last, self._levels, self._units = int(hour[-1]), {}, {}

    def level(self, k: int) -> float:
        """Give the median while the unit runs; 0 for a channel that is not positive."""
        self._renew()
        if k not in self._levels:
            y = self.memory.hours.view("mean")[operating(self.memory), k]
            y = y[np.isfinite(y)]
            positive = y.size > 0 and np.count_nonzero(y > 0) / y.size > 0.9
            self._levels[k] = median(y) if positive else 0.0
        return self._levels[k]

    def series(self, k: int, day: int, days: int) -> Values:
        """Give log level, relative to the expectation where there is a model, of each clock hour of the last days."""
        hours = self.memory.hours
        hour = hours.view("hour")
        first = (day - days + 1) * 24
        rows = slice(*(int(i) for i in np.searchsorted(hour, [first, (day + 1) * 24])))
        filled = np.full(24 * days, np.nan)
        filled[hour[rows] - first] = self._log(k, rows)
        return filled

    def _log(self, k: int, rows: slice) -> Values:
        hours, model = self.memory.hours, self.residuals.models.get(k)
        off = hours.view("claimed")[rows, k] | ~operating(self.memory)[rows]
        y = np.where(off, np.nan, hours.view("mean")[rows, k])
        usual = self.level(k)
        if usual <= 0:
            known = hours.view("mean")[:, k]
            known = known[np.isfinite(known)]
            return y / max(float(np.std(known)) if len(known) else 0.0, 1e-12)
        floor = _FLOOR * usual
        level: Values = np.log(np.maximum(y, floor))
        if model is not None and model.r2 >= _LEAST_R2:
            level = level - np.log(np.maximum(hours.view("expected")[rows, k], floor))
        return level

    def load_steps(self, day: int, days: int) -> Values | None:
        """Give the step of log load into each clock hour of the last days (0 unknown); None without a load."""
        loads = self.memory.indices("load")
        if not loads:
            return None
        hours = self.memory.hours
        hour = hours.view("hour")
        first = (day - days + 1) * 24
        rows = slice(*(int(i) for i in np.searchsorted(hour, [first, (day + 1) * 24])))
        load = np.full(24 * days, np.nan)
        load[hour[rows] - first] = hours.view("mean")[rows, loads[0]]
        top = usual_top(load)
        if top <= 0:
            return None
        level = np.log(np.maximum(load, _FLOOR * top))
        steps: Values = np.nan_to_num(np.diff(level, prepend=np.nan), nan=0.0)
        return steps

    def units(self, k: int, day: int) -> list[float] | None:
        """Say how deep blocks of each length usually are; None with too few hours behind them."""
        self._renew()
        if k not in self._units:
            self._units[k] = self._settle(k, day)
        return self._units[k]

    def _settle(self, k: int, day: int) -> list[float] | None:
        hour = self.memory.hours.view("hour")
        known = int(np.searchsorted(hour, (day - self.config.young_lag_days) * 24))
        if known < _LEAST_HOURS:
            return None
        last, days = int(hour[known - 1]) // 24, int(hour[known - 1] - hour[0]) // 24 + 1
        units = []
        for depth in depths(self.series(k, last, days), self.load_steps(last, days)):
            depth = depth[np.isfinite(depth)]
            usual = quantile(np.maximum(depth, 0.0), _SPREAD_AT) if depth.size >= 50 else 0.1
            units.append(max(usual, _PRIOR_DEPTH))
        return units


class Pulses(DailyTest):
    """Score = depth / usual depth of the oddest block that ended today; of `nights` nights the least."""

    family = "calibration"
    kind = "pulse"
    kinds = ("calibration_gas", "zero_air", "averaging_game", "dilution")
    innocent = ("analyser_hold", "instrument_fault", "treatment_change", "covariate_fault")

    def __init__(
        self, memory: Memory, config: Config, residuals: Residuals, blocks: Blocks, nights: int
    ) -> None:
        super().__init__(memory, config, residuals.targets, config.pulse_budget / 2)
        self.residuals, self.blocks, self.nights = residuals, blocks, nights
        self.name = self.detector = f"pulse_{nights}d"
        self.steepest = _STEEPEST.get(nights)
        self.others: list[Pulses] = []
        self.unit: dict[int, list[float]] = {}

    def measure(self, k: int, day: int) -> Judged | None:
        """Search the blocks that end within the day, at the same clock hours on each of the nights."""
        if day == int(self.memory.hours.view("hour")[-1]) // 24:
            self._settle(k, day)
        if k not in self.unit:
            return None
        series = self.blocks.series(k, day, self.nights + 1)
        if not np.isfinite(series[-24:]).any():
            return None
        depth = depths(series, self.blocks.load_steps(day, self.nights + 1))[:, -24 * self.nights :].reshape(
            len(LENGTHS), self.nights, 24
        )
        night = np.nan_to_num(depth, nan=0.0).min(axis=1)
        ends = night.argmax(axis=1)
        odd = night.max(axis=1) / np.array(self.unit[k])
        if self.nights == 1:
            # One hour alone stays nowhere: a trip, a lost quarter of an hour. Steam units show ten in six years.
            odd[: LENGTHS.index(_LEAST_ALONE)] = 0.0
        at = int(np.argmax(odd))
        best = max(float(odd[at]), 0.0)
        length, end = (LENGTHS[at], int(ends[at])) if best > 0 else (LENGTHS[0], 0)
        deep = float(np.nan_to_num(depth[LENGTHS.index(length), :, end].min()))
        # The block ends before hour `end` of the day, in which the level is back.
        to_ms = (day * 24 + end) * HOUR_MS - 1
        numbers: dict[str, float | int | str] = {
            "hours": length, "from_hour_utc": (end - length) % 24, "to_hour_utc": end, "nights": self.nights,
            "fall_percent": 100 * (1 - math.exp(-deep)), "least_percent": self._lowest(k, day, end, length),
            "depths": best,
        }  # fmt: skip
        from_ms = to_ms + 1 - (length + 24 * (self.nights - 1)) * HOUR_MS
        return Judged(max(best, 1.0), from_ms, to_ms, numbers)

    def _lowest(self, k: int, day: int, end: int, length: int) -> float:
        hour = self.memory.hours.view("hour")
        last = day * 24 + end
        rows = slice(*(int(i) for i in np.searchsorted(hour, [last - length, last])))
        y, usual = self.memory.hours.view("mean")[rows, k], self.blocks.level(k)
        return 100 * float(np.nanmean(y)) / usual if usual > 0 and np.isfinite(y).any() else math.nan

    def _settle(self, k: int, day: int) -> None:
        """Learn how deep blocks of each length usually are."""
        units = self.blocks.units(k, day)
        if units is not None:
            self.unit[k] = units

    def rate(self, k: int, judged: Judged) -> float | None:
        """Leave alone what would not be worth a night's work, however sharp."""
        rate = super().rate(k, judged)
        shallow = float(judged.numbers["fall_percent"]) < 100 * _LEAST_DEPTH
        return math.inf if rate is not None and shallow else rate

    def past_days(self, k: int) -> list[int]:
        """Learn from the remembered days when the usual depths are known for the first time."""
        hour = self.memory.hours.view("hour")
        if k in self.unit or self.past[k] or not len(hour):
            return []
        self._settle(k, int(hour[-1]) // 24)
        if k not in self.unit:
            return []
        return list(
            range(int(hour[0]) // 24 + self.nights + 1, int(hour[-1]) // 24 - self.config.young_lag_days)
        )

    def muted(self, k: int, day: int) -> bool:
        """Leave it to the other number of nights when that one already speaks."""
        return any(self.memory.names[k] in other.episodes for other in self.others)

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """At nought: air. Lower by little: not gas from a bottle."""
        least = float(judged.numbers["least_percent"])
        if least < 5.0:
            return ("zero_air", "calibration_gas", "dilution")
        return (
            self.kinds
            if least < 60.0
            else ("averaging_game", "calibration_gas", "dilution", "invented_records")
        )

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        fall, depth = rough(float(n["fall_percent"])), rough(float(n["depths"]))
        before = rough(longest)
        times_en = "" if self.nights == 1 else f" on each of {self.nights} days"
        times_zh = "" if self.nights == 1 else f"连续 {self.nights} 天"
        en = (
            f"{channel.name} fell by {fall} % from one hour to the next at {n['from_hour_utc']}:00 UTC, stayed there for "
            f"{n['hours']} h and came back within an hour{times_en}, {depth} times the usual depth (most before: {before})."
        )
        zh = (
            f"{channel.name} {times_zh}在 {n['from_hour_utc']}:00 UTC 一小时内下降 {fall} %,持续 {n['hours']} 小时后一小时内恢复,"
            f"为通常深度的 {depth} 倍(此前最大 {before})。"
        )
        title_en, title_zh = (
            f"{channel.name} falls for some hours and comes back",
            f"{channel.name} 数小时下降后恢复",
        )
        plot = self.residuals.picture(k, judged.from_ms, judged.to_ms, title_en, title_zh)
        return en, zh, plot

    def notes(self) -> list[Note]:
        """Say which channels have too few days behind them."""
        return self.short_reference("days of ordinary ups and downs")

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        return {**super().dump(), "unit": {self.memory.names[k]: unit for k, unit in self.unit.items()}}

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back."""
        super().load(tree)
        here = {self.memory.names[k]: k for k in self.tested}
        self.unit = {here[name]: unit for name, unit in tree["unit"].items() if name in here}


def depths(series: Values, load_steps: Values | None = None) -> Values:
    """Give for each of `LENGTHS` and each hour the depth of the block of so many hours before it: NaN with one missing.

    Blocks that the load steps down into, or up out of, by a tenth or more have depth 0.
    """
    found = np.full((len(LENGTHS), len(series)), np.nan)
    top, width = series, 1
    for line, length in zip(found, LENGTHS, strict=True):
        if len(series) <= length + 1:
            break
        while width < length:
            top, width = np.maximum(top[:-1], series[width:]), width + 1
        # Block [i, i + length) stands between hour i - 1 and hour i + length.
        line[length + 1 :] = np.minimum(series[: -length - 1], series[length + 1 :]) - top[1:-1]
        if load_steps is not None:
            moved = (load_steps[1:-length] <= -_LEAST_DEPTH) | (load_steps[length + 1 :] >= _LEAST_DEPTH)
            line[length + 1 :][moved] = np.minimum(line[length + 1 :][moved], 0.0)
    return found


def pulses(memory: Memory, config: Config, residuals: Residuals) -> list[Pulses]:
    """Make the tests of one night and of three."""
    blocks = Blocks(memory, config, residuals)
    once, thrice = (Pulses(memory, config, residuals, blocks, nights) for nights in (1, 3))
    once.others, thrice.others = [thrice], [once]
    return [once, thrice]
