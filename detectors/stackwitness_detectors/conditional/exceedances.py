"""High hours: hours expected to be high are reported lower than before, against the other hours of the same week.

The residuals of hours that the model expects above the limit (where hardly anything exceeded it, or there is none: above what a
fifth of the past exceeds) less the mean residual of the other hours of the week, in the windows of `ledger.BANK`. A
shift of all hours moves both and is left to the level test; what lowers only high readings moves one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stackwitness_detectors.conditional.ledger import Ledger
from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note
from stackwitness_detectors.daily import DailyTest, Judged, day_hours
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import rough, short
from stackwitness_detectors.quantiles import quantile

_HIGH_SHARE = 0.2
_EXCEEDED = 0.03  # of the past above the limit: from here on it parts high hours from the others
_HIGH_HOURS = 2  # of a day, at the least
_OTHER_HOURS = 24  # of the week


class Exceedances(DailyTest):
    """Score = how much lower high hours are than the others of their week, in the rarest window."""

    name = "exceedances"
    detector = "exceedances"
    family = "conditional"
    kind = "exceedances_missing"
    kinds = ("limit_aware_scale", "altered_records", "clip", "bunch", "averaging_game", "drift")
    innocent = ("limit_control", "treatment_change", "covariate_fault", "instrument_fault")

    def __init__(self, memory: Memory, config: Config, residuals: Residuals) -> None:
        super().__init__(memory, config, residuals.targets, config.exceedances_budget)
        self.residuals = residuals
        self.ledgers = {k: Ledger(config) for k in self.tested}

    def measure(self, k: int, day: int) -> Judged | None:
        """Enter the day's high hours against the others of the week; judge the newest windows."""
        model, hours = self.residuals.models.get(k), self.memory.hours
        if model is None or not model.logarithmic:
            return None
        rows, week = day_hours(self.memory, day), day_hours(self.memory, day, 7)
        level = self._level(k, day)
        expected, residual = hours.view("expected")[week, k], self.residuals.residual(k, week)
        others = np.isfinite(residual) & (expected < level)
        here = slice(rows.start - week.start, rows.stop - week.start)
        high = np.isfinite(residual[here]) & (expected[here] >= level)
        if others.sum() < _OTHER_HOURS:
            return None
        ledger = self.ledgers[k]
        apart = residual[here][high] - float(residual[others].mean())
        if not ledger.add(day, apart, _HIGH_HOURS):
            return None
        found = ledger.rarest(model.residual_spread, least=self.config.level_least_shortfall)
        if found is None:
            return None
        from_day = int(ledger.rows[-max(1, math.ceil(found.days)), 0])
        part = self.allowed(k)
        least = ledger.least(model.residual_spread, part) if found.rate <= part else None
        numbers: dict[str, float | int | str] = {
            "shift_percent": 100 * math.expm1(-found.size),
            "largest_before": found.largest,
            "window_days": found.days,
            "level": level,
            "model_r2": model.r2,
        }
        if least is not None:
            shift = max(least[0], self.config.level_least_shortfall)
            numbers |= {"delta_min_pct": -100 * math.expm1(-shift), "delta_min_days": least[1]}
        return Judged(found.size, from_day * DAY_MS, (day + 1) * DAY_MS - 1, numbers, found.rate)

    def allowed(self, k: int) -> float:
        """Return this channel's part of the budget: by what its model explains."""
        return self.budget * self.residuals.part(k, self.tested)

    def rate(self, k: int, judged: Judged) -> float | None:
        """Take the rate of the rarest window, where the shift is worth a word."""
        return judged.least_rate if judged.score >= self.config.level_least_shortfall else math.inf

    def _level(self, k: int, day: int) -> float:
        """Give the limit where it is exceeded now and then, else the lower of it and what a fifth of the past exceeds.

        A limit never reached says nothing; below a limit that is reached lie hours that nobody would forge.
        """
        hours, limit = self.memory.hours, self.memory.channels[k].limit
        past = hours.view("mean")[hours.view("hour") // 24 < day - self.config.reference_lag_days, k]
        past = past[np.isfinite(past)]
        level = quantile(past, 1.0 - _HIGH_SHARE) if past.size else math.inf
        if limit is None:
            return level
        exceeded = past.size > 0 and float((past > limit).mean()) >= _EXCEEDED
        return limit if exceeded else min(level, limit)

    def _flag(self, k: int, judged: Judged, rate: float) -> list[Finding]:
        self.ledgers[k].flag(judged.from_ms // DAY_MS)
        return super()._flag(k, judged, rate)

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        level, by = short(float(n["level"])), rough(abs(float(n["shift_percent"])))
        before = rough(float(n["largest_before"]))
        en = (
            f"Hours of {channel.name} expected above {level} {channel.unit} were reported {by} % lower, against the "
            f"other hours of their week, than before (window {n['window_days']} d; largest such shift before {before}, "
            f"now {rough(judged.score)})."
        )
        zh = (
            f"{channel.name} 预期高于 {level} {channel.unit} 的时段,相对同周其他时段,比以往低报 {by} %"
            f"(窗口 {n['window_days']} 天;此前最大偏移 {before},现为 {rough(judged.score)})。"
        )
        title_en, title_zh = (
            f"{channel.name}: high hours lower than expected",
            f"{channel.name}:高值时段低于预期",
        )
        plot = self.residuals.picture(k, judged.from_ms, judged.to_ms, title_en, title_zh)
        return en, zh, plot

    def notes(self) -> list[Note]:
        """Say which channels have too few days."""
        need = self.config.calibration_min_days + self.config.reference_lag_days
        return self.too_few(
            "days with hours expected high", {k: len(self.ledgers[k].rows) for k in self.tested}, need
        )

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        names = self.memory.names
        return {**super().dump(), "ledgers": {names[k]: ledger.rows for k, ledger in self.ledgers.items()}}

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back."""
        super().load(tree)
        for k, ledger in self.ledgers.items():
            ledger.rows = tree["ledgers"].get(self.memory.names[k], ledger.rows)
