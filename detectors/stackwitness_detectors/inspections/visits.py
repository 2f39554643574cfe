"""Visits: the level on days of inspections and audits against the days round them, by exact randomisation.

The statistic is the mean, over the days of all visits so far, of the residual less the median of the week before and
after. It is compared with itself when the pattern of visits is shifted, in a circle, by every number of days: under
"nothing happens at visits" all shifts are alike, so p = (1 + shifts at least as large) / (1 + shifts) is exact; beyond
the largest shift the tail of windows goes on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.conditional.ledger import tail_exponent
from stackwitness_detectors.conditional.level import Level
from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Note, Values
from stackwitness_detectors.daily import DailyTest, Judged, day_hours
from stackwitness_detectors.memory import DAY_MS, HOUR_MS, Memory
from stackwitness_detectors.plots import rough

_LEAST_HOURS = 4
_AROUND = 7  # days to each side
_LEAST_SHIFTS = 60
_LOOKED_AT = 2.0  # a visit is judged the day after, and again when the week after it is known
_LEAST_RISE = 0.02


class Visits(DailyTest):
    """Score = mean rise of the residual on days of visits above the days round them."""

    name = "visits"
    detector = "visits"
    family = "inspections"
    kind = "honest_at_visits"
    kinds = ("inspection_honest", "offset_audited", "scale", "offset")
    innocent = ("recalibration", "treatment_change", "steady_operation")

    def __init__(self, memory: Memory, config: Config, residuals: Residuals, level: Level) -> None:
        known = residuals.targets if memory.context.visits else []
        super().__init__(memory, config, known, config.visits_budget)
        self.residuals, self.level = residuals, level
        self.visits = tuple(sorted(memory.context.visits))

    def measure(self, k: int, day: int) -> Judged | None:
        """Judge a day and a week after a visit, from the lines a day that the level test keeps."""
        rows = self.level.ledgers[k].rows
        if k not in self.residuals.models or not len(rows) or int(rows[-1, 0]) != day:
            return None
        ended = [to_ms for _, to_ms in self.visits if to_ms < (day + 1) * DAY_MS]
        if not ended or day - ended[-1] // DAY_MS not in (1, _AROUND):
            return None
        at = self._visited(rows[:, 0].astype(np.int64) * DAY_MS, DAY_MS)
        mean = rows[:, 2].copy()
        for i in np.flatnonzero(at).tolist():
            mean[i] = self._while_visited(k, int(rows[i, 0]), float(mean[i]))
        rise = risen_days(mean)
        at &= np.isfinite(rise)
        shifts = shifted_means(rise, at)
        if at.sum() == 0 or len(shifts) < _LEAST_SHIFTS:
            return None
        score = float(rise[at].mean())
        p = share_beyond(score, shifts, self.config)
        a_month = len(ended) / (len(rows) / 30.0)
        numbers: dict[str, float | int | str] = {
            "visits": len(ended),
            "visited_days": int(at.sum()),
            "rise_percent": 100 * float(np.expm1(score)) if self.residuals.models[k].logarithmic else score,
            "shifts": len(shifts),
            "p": p,
        }
        from_ms = next(a for a, b in reversed(self.visits) if b == ended[-1])
        return Judged(score, from_ms, (day + 1) * DAY_MS - 1, numbers, p * _LOOKED_AT * a_month)

    def rate(self, k: int, judged: Judged) -> float | None:
        """Take the p-value times the visits a month."""
        return judged.least_rate if judged.score >= _LEAST_RISE else None

    def _while_visited(self, k: int, day: int, whole: float) -> float:
        """Give the mean residual of a day's visited hours; of the whole day when its hours are forgotten."""
        rows = day_hours(self.memory, day)
        visited = self._visited(self.memory.hours.view("hour")[rows] * HOUR_MS)
        residual = self.residuals.residual(k, rows)[visited]
        residual = residual[np.isfinite(residual)]
        return float(residual.mean()) if len(residual) >= _LEAST_HOURS else whole

    def _visited(self, at_ms: NDArray[np.int64], length_ms: int = HOUR_MS) -> NDArray[np.bool_]:
        """Tell which hours or days a visit covers for at least half, or for four hours of a day."""
        inside = np.zeros(len(at_ms), np.bool_)
        need = min(length_ms // 2, _LEAST_HOURS * HOUR_MS)
        for from_ms, to_ms in self.visits:
            inside |= np.minimum(at_ms + length_ms, to_ms) - np.maximum(at_ms, from_ms) >= need
        return inside

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        rise = rough(float(n["rise_percent"]))
        days = "one day" if n["visited_days"] == 1 else f"{n['visited_days']} days"
        visits = "one visit" if n["visits"] == 1 else f"{n['visits']} visits"
        en = (
            f"On the {days} of {visits} {channel.name} lay {rise} % above the week before "
            f"and after, beyond what drivers explain; of {n['shifts']} other choices of days a share of "
            f"{rough(float(n['p']))} shows as much."
        )
        zh = (
            f"在 {n['visits']} 次检查的 {n['visited_days']} 天,{channel.name} 比前后一周高 {rise} %(已扣除驱动变量影响);"
            f"在 {n['shifts']} 种其他日期选择中,仅有 {rough(float(n['p']))} 的比例达到同样程度。"
        )
        title_en, title_zh = f"{channel.name} at visits", f"{channel.name}:检查期间"
        plot = self.residuals.picture(k, judged.from_ms, judged.to_ms, title_en, title_zh)
        shown = [
            at for at, v in zip(plot["series"][0]["t"], plot["series"][0]["v"], strict=True) if v is not None
        ]
        plot["marks"] = [at for at in shown if any(first <= at < last for first, last in self.visits)]
        return en, zh, plot

    def notes(self) -> list[Note]:
        """Say that no visits are known."""
        if self.residuals.targets and not self.visits:
            return [Note(self.detector, "", "no_visits", "no dates of inspections or audits are known")]
        return []


def risen_days(mean: Values) -> Values:
    """Give how far each day [n] lies above the median of the seven before and after it; NaN with fewer than five."""
    risen = np.full(len(mean), np.nan)
    for i in range(len(mean)):
        beside = np.concatenate([mean[max(i - _AROUND, 0) : i], mean[i + 1 : i + 1 + _AROUND]])
        if len(beside) >= _AROUND - 2:
            risen[i] = mean[i] - float(np.median(beside))
    return risen


def share_beyond(score: float, shifts: Values, config: Config) -> float:
    """Expect so large a share of shifts [n] at `score` or above: the exact rank, and beyond the largest a Pareto tail."""
    above = int((shifts >= score).sum())
    top = np.sort(shifts)[::-1][: max(4, len(shifts) // 10)]
    if above or top[0] <= 0:
        return (1 + above) / (1 + len(shifts))
    return float((top[0] / score) ** tail_exponent(top, config)) / (1 + len(shifts))


def shifted_means(rise: Values, at: NDArray[np.bool_]) -> Values:
    """Give the mean of `rise` [n] over the pattern `at` [n] shifted in a circle by 1 .. n - 1 known days."""
    known = np.isfinite(rise)
    values, pattern = rise[known], at[known]
    return (
        np.array([values[np.roll(pattern, s)].mean() for s in range(1, len(values))])
        if pattern.any()
        else values[:0]
    )
