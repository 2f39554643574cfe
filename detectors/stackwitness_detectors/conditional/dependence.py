"""Dependence: over a week the reported value no longer follows what drives it (Fisher z of the correlation)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.daily import DAYS_PER_MONTH, SLIDING, DailyTest, Judged, day_hours
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import rough
from stackwitness_detectors.quantiles import median
from stackwitness_detectors.tail import LEAST_RATE

_DAYS = 7
_ORDINARY = 0.45  # Fisher z of a model worth testing: r = 0.42
# Weeks that stand apart are few: their spread is shrunk to that of 20 independent hours, 1 / sqrt(20 - 3).
_STUDENT = 5.0  # degrees of freedom: correlations of ordinary weeks have wide tails
_PRIOR_WEEKS, _PRIOR_SPREAD = 5.0, 0.24
_LOST = 0.7  # of the usual correlation: what is left above it is no loss, however rare
_LEAST_SWING = 0.5  # the expectation must move at least half as much as it usually does


class Dependence(DailyTest):
    """Score = ordinary Fisher z minus the week's, where the expectation moved as usual."""

    name = "dependence"
    detector = "dependence"
    family = "conditional"
    kind = "dependence_lost"
    kinds = ("generated", "replay_disguised", "smoothed", "replay_exact", "calibration_gas", "freeze")
    innocent = ("instrument_fault", "covariate_fault", "steady_operation", "treatment_change")

    def __init__(self, memory: Memory, config: Config, residuals: Residuals) -> None:
        super().__init__(memory, config, residuals.targets, config.correlation_budget)
        self.residuals = residuals

    def measure(self, k: int, day: int) -> Judged | None:
        """Correlate reported and expected over the week."""
        model = self.residuals.models.get(k)
        rows = day_hours(self.memory, day, _DAYS)
        residual = self.residuals.residual(k, rows)
        known = np.isfinite(residual)
        if model is None or known.sum() < self.config.week_min_hours or model.r2 <= 0:
            return None
        expected = model.transform(self.memory.hours.view("expected")[rows, k][known])
        reported = expected + residual[known]
        usual = float(np.sqrt(model.r2 / max(1.0 - model.r2, 1e-6))) * model.residual_spread
        swing = float(expected.std())
        # A week in which the expectation moves less correlates less (restriction of range).
        usual_r = min(math.sqrt(model.r2), swing / max(math.hypot(swing, model.residual_spread), 1e-12))
        ordinary = math.atanh(min(usual_r, 0.999))
        if swing < _LEAST_SWING * usual or ordinary < _ORDINARY:
            return None
        spread = float(reported.std())
        r = float(np.corrcoef(reported, expected)[0, 1]) if spread > 0 else 0.0
        lost = ordinary - float(np.arctanh(np.clip(r, -0.999, 0.999)))
        numbers: dict[str, float | int | str] = {
            "correlation": r,
            "usual_correlation": usual_r,
            "hours": int(known.sum()),
        }
        return Judged(lost, (day - _DAYS + 1) * DAY_MS, (day + 1) * DAY_MS - 1, numbers)

    def rate(self, k: int, judged: Judged) -> float | None:
        """Ask both: far outside the spread of the channel's own weeks, and beyond the largest loss among them."""
        past = np.array(self.past[k])
        if len(past) < self.config.week_reference_days:
            return None
        lost = float(judged.numbers["correlation"]) <= _LOST * float(judged.numbers["usual_correlation"])
        if not lost or judged.score <= float(past.max()):
            return math.inf
        weeks = len(past) / _DAYS
        spread = math.sqrt(
            (weeks * float(past.var()) + _PRIOR_WEEKS * _PRIOR_SPREAD**2) / (weeks + _PRIOR_WEEKS)
        )
        p = float(special.stdtr(_STUDENT, -(judged.score - median(past)) / spread))
        return max(SLIDING * p * DAYS_PER_MONTH / _DAYS, LEAST_RATE)

    def past_days(self, k: int) -> list[int]:
        """Calibrate with the held-out residuals of a first fit."""
        return self.residuals.fresh.get(k, [])

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        drivers_en, drivers_zh = self.residuals.drivers()
        r, usual = float(n["correlation"]), float(n["usual_correlation"])
        en = (
            f"Over {n['hours']} h {channel.name} followed {drivers_en} with a correlation of "
            f"{r:.2f}; ordinarily it is {usual:.2f} (loss in Fisher z {rough(judged.score)}, largest before "
            f"{rough(longest)})."
        )
        zh = (
            f"在 {n['hours']} 小时内,{channel.name} 与{drivers_zh}的相关系数为 {r:.2f},平时为 {usual:.2f}"
            f"(Fisher z 下降 {rough(judged.score)},此前最大 {rough(longest)})。"
        )
        title_en, title_zh = (
            f"{channel.name} no longer follows its drivers",
            f"{channel.name} 不再随驱动变量变化",
        )
        plot = self.residuals.picture(k, judged.from_ms, judged.to_ms, title_en, title_zh)
        return en, zh, plot
