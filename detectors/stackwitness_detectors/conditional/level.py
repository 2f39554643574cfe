"""Level: the reported value lies below what the model expects, for a day or a week."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats

from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Note
from stackwitness_detectors.daily import DAYS_PER_MONTH, DailyTest, Judged, day_hours
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import series_of, short, span_ms

_STUDENT = (
    10.0  # degrees of freedom, at most (one less than windows that stand apart): a guard beside the tail
)
_PRIOR_WINDOWS = 5.0
_SLOW = 0.5  # of the hourly spread stays in the mean of a day or a week: residuals wander slowly
_LEAST_SPREAD = 0.02  # analysers may drift by 2.5 % of span between calibrations: less is no news


class Level(DailyTest):
    """Score = minus the mean residual of the last `days` days; only lower-than-expected is of interest."""

    family = "conditional"
    kind = "level_low"
    kinds = ("scale", "offset", "drift", "replay_disguised", "generated", "dilution", "span_change")
    innocent = ("recalibration", "treatment_change", "fuel_change", "covariate_fault", "instrument_fault")

    def __init__(self, memory: Memory, config: Config, residuals: Residuals, days: int) -> None:
        super().__init__(memory, config, residuals.targets, config.level_budget / 2)
        self.residuals, self.days = residuals, days
        self.name = f"level_{days}d"
        self.detector = self.name
        self.least = config.day_min_hours if days == 1 else config.week_min_hours
        self.others: list[Level] = []

    def measure(self, k: int, day: int) -> Judged | None:
        """Average the residuals."""
        rows = day_hours(self.memory, day, self.days)
        residual = self.residuals.residual(k, rows)
        known = np.isfinite(residual)
        if known.sum() < self.least or k not in self.residuals.models:
            return None
        low = -float(residual[known].mean())
        model = self.residuals.models[k]
        hours = self.memory.hours
        numbers: dict[str, float | int | str] = {
            "reported": float(hours.view("mean")[rows, k][known].mean()),
            "expected": float(hours.view("expected")[rows, k][known].mean()),
            "hours": int(known.sum()),
            "model_r2": model.r2,
            "shift_percent": 100 * math.expm1(-low) if model.logarithmic else math.nan,
        }
        if not model.logarithmic:
            del numbers["shift_percent"]
        return Judged(low, (day - self.days + 1) * DAY_MS, (day + 1) * DAY_MS - 1, numbers)

    def rate(self, k: int, judged: Judged) -> float | None:
        """Ask all: worth a word, beyond the largest shortfall, far outside the spread of the channel's own windows."""
        past = np.array(self.past[k])
        rate = super().rate(k, judged)
        if rate is None or k not in self.residuals.models:
            return None
        n = judged.numbers
        shortfall = 1.0 - float(n["reported"]) / float(n["expected"]) if float(n["expected"]) > 0 else 1.0
        if shortfall < self.config.level_least_shortfall or float(n["model_r2"]) < self.config.level_least_r2:
            return math.inf
        # Windows that stand apart are few at first: their spread is shrunk to what slow changes usually make of it.
        apart = len(past) / self.days
        prior = _SLOW * self.residuals.models[k].residual_spread
        shrunk = math.sqrt((apart * float(past.var()) + _PRIOR_WINDOWS * prior**2) / (apart + _PRIOR_WINDOWS))
        spread, freedom = max(shrunk, _LEAST_SPREAD), min(apart + _PRIOR_WINDOWS - 1.0, _STUDENT)
        p = float(stats.t.sf((judged.score - float(np.median(past))) / spread, freedom))
        return max(rate, p * DAYS_PER_MONTH / self.days)

    def past_days(self, k: int) -> list[int]:
        """Calibrate with the held-out residuals of a first fit."""
        return self.residuals.fresh.get(k, [])

    def muted(self, k: int, day: int) -> bool:
        """Leave it to the other window when that one already speaks."""
        return any(self.memory.names[k] in other.episodes for other in self.others)

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        drivers_en, drivers_zh = self.residuals.drivers()
        by = f" ({short(float(n['shift_percent']))} %)" if "shift_percent" in n else ""
        reported, expected = short(float(n["reported"])), short(float(n["expected"]))
        en = (
            f"{channel.name} averaged {reported} {channel.unit} over {n['hours']} h where {drivers_en} "
            f"lead one to expect {expected}{by}; the largest such shortfall before was "
            f"{short(longest)}, now {short(judged.score)} (model R2 {float(n['model_r2']):.2f})."
        )
        zh = (
            f"{channel.name} 在 {n['hours']} 小时内平均 {reported} {channel.unit},而按{drivers_zh}预期为 {expected}{by};"
            f"此前最大的偏低量为 {short(longest)},现为 {short(judged.score)}(模型 R2 {float(n['model_r2']):.2f})。"
        )
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        plot: dict[str, Any] = {
            "kind": "residual",
            "title_en": f"{channel.name} below expectation",
            "title_zh": f"{channel.name} 低于预期",
            "series": series_of(self.memory, [k, *self.memory.indices("load")[:1]], first, last),
            "band": self.residuals.band(k, first, last),
        }
        if channel.limit is not None:
            plot["limit"] = channel.limit
        return en, zh, plot

    def notes(self) -> list[Note]:
        """Say which channels have a model but no calibration yet."""
        return self.short_reference("days with residuals")
