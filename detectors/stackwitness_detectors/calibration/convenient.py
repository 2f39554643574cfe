"""Convenient calibrations: marks of calibration or maintenance that fall on high hours more often than chance.

Which clock hours are used is the station's habit and is kept; on which days they were used is drawn anew: each
calibrated hour is ranked among the same clock hour of all days of the window, by what the model expects (without a
model, by the hours beside it). Days of calibrations one after another count once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note, Values
from stackwitness_detectors.daily import DAYS_PER_MONTH, SLIDING, DailyTest, Judged
from stackwitness_detectors.memory import DAY_MS, Block, Memory
from stackwitness_detectors.plots import one_in, rough, span_ms

_MARKS = np.isin(np.arange(256), [ord("C"), ord("M")])
_NORMAL = ord("N")
_DAYS = 56
_LEAST_DAYS = 28
_LEAST_GROUPS = 5
_EVERY_DAY = 0.9
_HIGH_RANK = 0.65  # a mean rank below it is not worth a word


class Convenient(DailyTest):
    """Score = -log10 p that days drawn at random would put these calibrations on hours as high, in 8 weeks."""

    name = "convenient"
    detector = "convenient"
    family = "calibration"
    kind = "calibrated_high"
    kinds = ("status_abuse", "missing_when_high", "calibration_gas")
    innocent = ("working_hours", "load_related_fault", "instrument_fault")
    needs_reference = False

    def __init__(self, memory: Memory, config: Config, residuals: Residuals) -> None:
        super().__init__(memory, config, residuals.targets, config.convenient_budget)
        self.residuals = residuals
        self.marked: dict[int, list[int]] = {k: [] for k in self.tested}

    def hour(self, block: Block) -> list[Finding]:
        """Remember which hours carry such a mark."""
        if not (block.letters != _NORMAL).any():
            return []
        for k in self.tested:
            if _MARKS[block.letters[:, k]].any():
                kept = self.marked[k]
                kept.append(block.hour)
                del kept[: -24 * _DAYS]
        return []

    def measure(self, k: int, day: int) -> Judged | None:
        """Rank the calibrated hours among the same clock hours of the window's days."""
        events = np.array([hour for hour in self.marked[k] if hour > (day - _DAYS + 1) * 24], np.int64)
        used = len(np.unique(events // 24))
        if used < _LEAST_GROUPS or events[-1] // 24 != day:
            return None  # nothing new today
        if used > _EVERY_DAY * min(_DAYS, day + 1 - int(self.memory.hours.view("hour")[0]) // 24):
            return None  # no day was chosen
        grid = self._grid(k, day)
        inside = events - (day - _DAYS + 1) * 24
        rank, free = ranks(grid, inside)
        known = np.isfinite(rank)
        if np.isfinite(grid).any(axis=1).sum() < _LEAST_DAYS or not known.any():
            return None
        days = inside[known] // 24
        groups = np.cumsum(np.diff(days, prepend=days[0]) > 1)
        count = int(groups[-1]) + 1
        if count < _LEAST_GROUPS:
            return None
        means = np.array([rank[known][groups == g].mean() for g in range(count)])
        spread = math.sqrt(max(float(free[known].mean()), 1e-3) / 12.0)
        z = (float(means.mean()) - 0.5) / (spread / math.sqrt(count))
        p = float(stats.norm.sf(z))
        numbers: dict[str, float | int | str] = {
            "calibrations": count, "marked_hours": len(events), "days": _DAYS, "mean_rank": float(means.mean()),
        }  # fmt: skip
        return Judged(
            -math.log10(max(p, 1e-300)), int(events[0]) * 3_600_000, (day + 1) * DAY_MS - 1, numbers
        )

    def _grid(self, k: int, day: int) -> Values:
        """Give what each clock hour of the window's days should have read: [days, 24]."""
        hours = self.memory.hours
        hour = hours.view("hour")
        first = (day - _DAYS + 1) * 24
        rows = slice(*(int(i) for i in np.searchsorted(hour, [first, (day + 1) * 24])))
        filled = np.full(24 * _DAYS, np.nan)
        if k in self.residuals.models:
            filled[hour[rows] - first] = hours.view("expected")[rows, k]
            return filled.reshape(_DAYS, 24)
        filled[hour[rows] - first] = hours.view("mean")[rows, k]
        beside = np.stack([np.roll(filled, 1), np.roll(filled, -1), np.roll(filled, 2), np.roll(filled, -2)])
        count = np.isfinite(beside).sum(axis=0)
        total = np.where(np.isfinite(beside), beside, 0.0).sum(axis=0)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(_DAYS, 24)

    def rate(self, k: int, judged: Judged) -> float | None:
        """Take the law of ranks, widened by what the channel's own days exceed it."""
        if float(judged.numbers["mean_rank"]) < _HIGH_RANK:
            return math.inf
        past, wide = self.past[k], 1.0
        if len(past) >= self.config.calibration_min_days:
            wide = max(1.0, float(np.quantile(np.array(past), 0.95)) / math.log10(20.0))
        return float(SLIDING * 10.0 ** (-judged.score / wide) * DAYS_PER_MONTH / _DAYS)

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        name, n = self.memory.names[k], judged.numbers
        rank = rough(100 * float(n["mean_rank"]))
        chance_en, chance_zh = one_in(judged.score)
        en = (
            f"{name} was calibrated or serviced {n['calibrations']} times in {n['days']} days, on average when {rank} % of "
            f"the same clock hours of other days should have read lower; days drawn at random do so with a chance of {chance_en}."
        )
        zh = (
            f"{n['days']} 天内 {name} 校准或维护 {n['calibrations']} 次,平均处于其他日期同一时刻中高于 {rank} % 的水平;"
            f"随机选择日期出现的概率为 {chance_zh}。"
        )
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        title_en, title_zh = f"{name} calibrated when high", f"{name} 高值时校准"
        plot = self.residuals.picture(k, first, last, title_en, title_zh)
        return en, zh, {**plot, "kind": "missing"}

    def notes(self) -> list[Note]:
        """Without such marks there is nothing to judge and nothing to say."""
        return []

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        return {
            **super().dump(),
            "marked": {self.memory.names[k]: np.array(h, np.int64) for k, h in self.marked.items()},
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back."""
        super().load(tree)
        for k in self.tested:
            if self.memory.names[k] in tree["marked"]:
                self.marked[k] = tree["marked"][self.memory.names[k]].tolist()


def ranks(grid: Values, inside: NDArray[np.int64]) -> tuple[Values, Values]:
    """Give for each marked hour its rank (0..1) among all days at that clock hour, and the share of free days.

    `grid` [days, 24]; `inside`: marked hours counted from the first. Where every day carries the mark nothing was
    chosen: the share of free days, by which the variance of a mean of ranks shrinks, is 0.
    """
    rank, free = np.full(len(inside), np.nan), np.zeros(len(inside))
    for clock in np.unique(inside % 24).tolist():
        column = grid[:, clock]
        known = np.sort(column[np.isfinite(column)])
        at = np.flatnonzero(inside % 24 == clock)
        if len(known) < _LEAST_DAYS // 2:
            continue
        own = column[inside[at] // 24]
        middle = (np.searchsorted(known, own) + np.searchsorted(known, own, "right")) / (2.0 * len(known))
        rank[at] = np.where(np.isfinite(own), middle, np.nan)
        free[at] = 1.0 - len(at) / len(known)
    return rank, free
