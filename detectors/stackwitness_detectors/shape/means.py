"""Equal means: days (or hours of finer readings) whose means come out the same, as when each just complies.

The permit looks at a mean. Whoever bends the rest of the day until it complies makes the means of such days equal to
the last digit. Poisson's law for so many means in a band as narrow, given how thick the channel's means usually lie.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note, Values
from stackwitness_detectors.daily import DAYS_PER_MONTH, DailyTest, Judged
from stackwitness_detectors.dynamics.movement import resolution
from stackwitness_detectors.memory import DAY_MS, Block, Memory
from stackwitness_detectors.plots import rough, series_of, span_ms
from stackwitness_detectors.quantiles import median, quantile, quartile_range

_DAYS = 120
_WINDOWS = (14, 30)
_LEAST_EQUAL = 3
_LEAST_REFERENCE = 20
_BAND = 1e-4  # of the mean, beside a step of the instrument
_LEAST_HOURS = 18
_UPPER = 0.2  # the lowest fifth of the means is not worth bending
# Of the steps between hours: the mean of a day that stands still is that of a floor or a hold.
_MOST_STILL = 0.5
_LEAST_P = 5e-324
_ROOT_2_PI = math.sqrt(2 * math.pi)
_KERNEL = 0.4  # of the spread of the means


class EqualMeans(DailyTest):
    """Score = -log10 p of the largest cluster of equal daily means in the last 14 and 30 days."""

    name = "equal_means"
    detector = "equal_means"
    family = "shape"
    kind = "equal_means"
    kinds = ("averaging_game", "clip", "bunch")
    innocent = ("limit_control", "steady_operation", "substitute_data")
    needs_reference = False

    def __init__(self, memory: Memory, config: Config) -> None:
        super().__init__(memory, config, memory.indices("pollutant", "flow"), config.equal_means_budget)
        width = len(self.tested)
        self.total, self.count = np.zeros(width), np.zeros(width)
        self.sums_day = -1
        self.means: dict[int, list[list[float]]] = {k: [] for k in self.tested}

    def hour(self, block: Block) -> list[Finding]:
        """Add up the day."""
        if block.hour // 24 != self.sums_day:
            self.sums_day = block.hour // 24
            self.total, self.count = np.zeros(len(self.tested)), np.zeros(len(self.tested))
        values = block.measured()[:, self.tested]
        known = np.isfinite(values)
        self.total = self.total + np.where(known, values, 0.0).sum(axis=0)
        self.count = self.count + known.sum(axis=0)
        return []

    def measure(self, k: int, day: int) -> Judged | None:
        """Take in the mean of the day and look for its equals."""
        self._take(k, day)
        kept = self.means[k]
        if len(kept) < _LEAST_REFERENCE or not kept or int(kept[-1][0]) != day:
            return None
        days, means, counts = (np.array(column) for column in zip(*kept, strict=True))
        spread = quartile_range(means) / 1.349
        step = resolution(self.memory, k)
        least = quantile(means, _UPPER)
        best: Judged | None = None
        for window in _WINDOWS:
            use = days > day - window
            found = _cluster(means[use], means, step / math.sqrt(max(median(counts), 1.0)), spread, least)
            if found is not None and (best is None or found[0] > best.score):
                score, level, equal, expected = found
                numbers: dict[str, float | int | str] = {
                    "equal": equal, "mean": level, "days": int(use.sum()), "expected": expected, "window_days": window,
                }  # fmt: skip
                best = Judged(score, (day - window + 1) * DAY_MS, (day + 1) * DAY_MS - 1, numbers)
        return best

    def _take(self, k: int, day: int) -> None:
        j, hours = self.tested.index(k), self.memory.hours
        if self.sums_day != day or (self.means[k] and self.means[k][-1][0] >= day):
            return
        first = int(np.searchsorted(hours.view("hour"), day * 24))
        known = np.isfinite(hours.view("mean")[first:, k]) & ~hours.view("claimed")[first:, k]
        still = np.diff(hours.view("mean")[first:, k][known]) == 0
        if known.sum() >= _LEAST_HOURS and self.count[j] > 0 and still.mean() <= _MOST_STILL:
            self.means[k].append([float(day), float(self.total[j] / self.count[j]), float(self.count[j])])
            del self.means[k][:-_DAYS]

    def rate(self, k: int, judged: Judged) -> float | None:
        """Take Poisson's law, widened by what the channel's own days exceed it."""
        past, wide = self.past[k], 1.0
        if len(past) >= self.config.calibration_min_days:
            wide = max(1.0, quantile(past, 0.95) / math.log10(20.0 * len(_WINDOWS)))
        return float(len(_WINDOWS) * 10.0 ** (-judged.score / wide) * DAYS_PER_MONTH)

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        mean, expected = f"{float(n['mean']):.7g}", rough(float(n["expected"]))
        en = (
            f"{n['equal']} of {n['days']} days have the same mean of {channel.name}, {mean} {channel.unit}, to within a "
            f"ten-thousandth; by chance {expected} pairs would."
        )
        zh = f"{n['days']} 天中有 {n['equal']} 天的 {channel.name} 日均值相同({mean} {channel.unit},相差不足万分之一);偶然仅 {expected} 对。"
        return en, zh, self._picture(k, judged)

    def _picture(self, k: int, judged: Judged) -> dict[str, Any]:
        """Draw the means of the days, the equal ones marked, above the readings they are the means of."""
        channel, level = self.memory.channels[k], float(judged.numbers["mean"])
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        shown = [(int(day) * DAY_MS + DAY_MS // 2, mean) for day, mean, _ in self.means[k]]
        shown = [(noon, mean) for noon, mean in shown if first <= noon <= last]
        near = _BAND * abs(level) + resolution(self.memory, k)
        daily = {
            "channel": channel.name,
            "unit": channel.unit,
            "role": "mean",
            "t": [noon for noon, _ in shown],
            "v": [float(f"{mean:.7g}") for _, mean in shown],
        }
        readings = [
            {**one, "channel": f"{one['channel']} 1 h"} for one in series_of(self.memory, [k], first, last)
        ]
        plot: dict[str, Any] = {
            "kind": "hold",
            "title_en": f"{channel.name}: days with the same mean",
            "title_zh": f"{channel.name}:日均值相同的日子",
            "series": [daily, *readings],
            "marks": [
                noon
                for noon, mean in shown
                if abs(mean - level) <= near and judged.from_ms <= noon <= judged.to_ms
            ],
        }
        return plot if channel.limit is None else {**plot, "limit": channel.limit}

    def notes(self) -> list[Note]:
        """Say which channels have too few days behind them."""
        return self.too_few("daily means", {k: len(self.means[k]) for k in self.tested}, _LEAST_REFERENCE)

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        names = self.memory.names
        return {
            **super().dump(),
            "sums_day": self.sums_day,
            "sums": {
                names[k]: [float(self.total[j]), float(self.count[j])] for j, k in enumerate(self.tested)
            },
            "means": {names[k]: np.array(kept, np.float64).reshape(-1, 3) for k, kept in self.means.items()},
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back; channels are matched by name."""
        super().load(tree)
        self.sums_day = tree["sums_day"]
        for j, k in enumerate(self.tested):
            name = self.memory.names[k]
            if name in tree["sums"]:
                self.total[j], self.count[j] = tree["sums"][name]
                self.means[k] = tree["means"][name].tolist()


def _cluster(
    now: Values, means: Values, step: float, spread: float, least: float
) -> tuple[float, float, int, float] | None:
    """Give -log10 p, the mean, how many days share it, and how many pairs are expected; None without equals."""
    if spread <= 0 or len(now) < _LEAST_EQUAL:
        return None
    ordered = np.sort(now)
    band = step + _BAND * np.abs(ordered)
    equal = np.searchsorted(ordered, ordered + band, side="right") - np.arange(len(ordered))
    equal = np.where((ordered >= least) & (ordered > 0), equal, 0)
    at = int(np.argmax(equal))
    count = int(equal[at])
    if count < _LEAST_EQUAL:
        return None
    density = float(np.exp(-(((means - ordered[at]) / (_KERNEL * spread)) ** 2) / 2.0).mean()) / (
        _ROOT_2_PI * _KERNEL * spread
    )
    others = max(len(now) * density * float(band[at]), 1e-12)
    log_p = math.log(len(now)) + math.log(max(float(special.pdtrc(count - 2, others)), _LEAST_P))
    return max(-log_p / math.log(10.0), 0.0), float(ordered[at]), count, 0.5 * len(now) * others
