"""Common mode: air in the sample lowers all gases by one factor, (1 - f), and 20.9 - O2 by the same.

    c' = (1 - f) c for every gas, 20.9 - O2' = (1 - f) (20.9 - O2)

The residuals of all gases, each weighed by 1 / spread^2, are averaged hour by hour and judged in the windows of the
ledger; a fall is told only when every gas shares it. Oxygen that rises along is an honest report of a leak or a
dilution; oxygen that does not is reported from before.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from stackwitness_detectors.conditional.ledger import BANK, Ledger
from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note, Values
from stackwitness_detectors.daily import DailyTest, Judged, day_hours
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.physics.gases import AIR_O2, carbon_dioxide_of, oxygen_of
from stackwitness_detectors.plots import rough, series_of, span_ms

_LEAST_HOURS = 6
_LEAST_GASES = 2
_SHARED = 0.5  # of the common fall: each gas must show that much of it
_LEAST_FALL = 0.025
_DAYS = 150  # of daily means of each gas


class CommonMode(DailyTest):
    """Score = fall of the mean residual of all gases in the rarest window, where every gas shares it."""

    name = "common_mode"
    detector = "common_mode"
    family = "physics"
    kind = "common_fall"
    kinds = ("dilution", "dilution_forged_o2", "joint_scale", "scale")
    innocent = ("instrument_fault", "treatment_change", "fuel_change", "covariate_fault")

    def __init__(self, memory: Memory, config: Config, residuals: Residuals) -> None:
        self.oxygen = oxygen_of(memory)[-1:]
        gases = [*memory.indices("pollutant"), *carbon_dioxide_of(memory)]
        self.gases = (
            gases if len(gases) >= _LEAST_GASES and (self.oxygen or carbon_dioxide_of(memory)) else []
        )
        super().__init__(memory, config, self.gases[:1], config.common_mode_budget)
        self.residuals, self.ledger = residuals, Ledger(config)
        # day, then the daily mean of each gas's residual, then that of log(20.9 - O2) as it should have been and was
        self.means: Values = np.empty((0, 2 + len(self.gases)))

    def _modelled(self) -> list[int]:
        models = self.residuals.models
        return [k for k in self.gases if k in models and models[k].logarithmic]

    def past_days(self, k: int) -> list[int]:
        """Take over every remembered day when the models have just been fitted for the first time."""
        if len(self.means) or len(self._modelled()) < len(self.gases):
            return []
        days = np.unique(self.memory.hours.view("hour") // 24)
        return [int(day) for day in days[:-1].tolist()]

    def measure(self, k: int, day: int) -> Judged | None:
        """Enter the day; judge the newest windows, where all gases have a model."""
        gases = self._modelled()
        if not gases or len(gases) < len(self.gases):
            return None
        rows = day_hours(self.memory, day)
        each = np.stack([self.residuals.residual(g, rows) for g in gases], axis=1)
        weight = np.array([self.residuals.models[g].residual_spread for g in gases]) ** -2.0
        common = each @ (weight / weight.sum())  # NaN where any gas is missing
        if not self.ledger.add(day, common, _LEAST_HOURS):
            return None
        known = np.isfinite(common)
        line = [float(day), *each[known].mean(axis=0).tolist(), self._oxygen(rows, known)]
        self.means = np.vstack([self.means, line])[-_DAYS:]
        if day != int(self.memory.hours.view("hour")[-1]) // 24:
            return None
        # What some gas does not share in any window need not be weighed.
        if max(float(self._falls(*window)[1:-1].min()) for window in BANK) < _SHARED * _LEAST_FALL:
            return None
        spread = float(weight.sum()) ** -0.5
        found = self.ledger.rarest(spread)
        if found is None:
            return None
        days = max(1, math.ceil(found.days))
        falls = self._falls(found.days, found.base_days)
        own = falls[1:-1]
        numbers: dict[str, float | int | str] = {
            "gases": len(gases), "fall_percent": -100 * math.expm1(-found.size), "window_days": found.days,
            "least_fall_percent": -100 * math.expm1(-float(own.min())), "largest_before": found.largest,
            "most_fall_percent": -100 * math.expm1(-float(own.max())),
        }  # fmt: skip
        if np.isfinite(falls[-1]) and self.oxygen:
            numbers["oxygen_fall_percent"] = -100 * math.expm1(-float(falls[-1]))
        from_day = int(self.ledger.rows[-days, 0])
        shared = float(own.min()) >= _SHARED * found.size and found.size >= _LEAST_FALL
        if found.rate <= self.budget and shared:
            least = self.ledger.least(spread, self.budget)
            if least is not None:
                numbers["delta_min_pct"] = -100 * math.expm1(-max(least[0], _LEAST_FALL))
        rate = found.rate if shared else math.inf
        return Judged(found.size, from_day * DAY_MS, (day + 1) * DAY_MS - 1, numbers, rate)

    def _falls(self, days: float, base_days: int) -> Values:
        """Give how far the means of the newest days lie below those of the days before: day, gases, oxygen."""
        width = max(1, math.ceil(days))
        now, before = self.means[-width:], self.means[:-width][-base_days:]
        if not len(before):
            return np.zeros(self.means.shape[1])
        falls: Values = before.sum(axis=0) / len(before) - now.sum(axis=0) / len(now)
        return falls

    def _oxygen(self, rows: slice, known: Any) -> float:
        """Give the mean log of (20.9 - O2) against what load and process make of oxygen."""
        if not self.oxygen or self.oxygen[0] not in self.residuals.models:
            return math.nan
        k, hours = self.oxygen[0], self.memory.hours
        o2, expected = hours.view("mean")[rows, k][known], hours.view("expected")[rows, k][known]
        good = np.isfinite(o2) & np.isfinite(expected) & (o2 < AIR_O2) & (expected < AIR_O2)
        return (
            float(np.log((AIR_O2 - o2[good]) / (AIR_O2 - expected[good])).mean()) if good.any() else math.nan
        )

    def rate(self, k: int, judged: Judged) -> float | None:
        """Take the rate of the rarest window, where all gases share the fall."""
        return judged.least_rate

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """Rank by whether oxygen says the same."""
        n = judged.numbers
        if "oxygen_fall_percent" not in n:
            return self.kinds
        along = float(n["oxygen_fall_percent"]) >= _SHARED * float(n["fall_percent"])
        return self.kinds if along else ("dilution_forged_o2", "joint_scale", "dilution", "scale")

    def _flag(self, k: int, judged: Judged, rate: float) -> list[Finding]:
        self.ledger.flag(judged.from_ms // DAY_MS)
        return super()._flag(k, judged, rate)

    def _finding(self, k: int, extends: bool) -> Finding:
        finding = super()._finding(k, extends)
        return replace(finding, channels=tuple(self.memory.names[j] for j in self.gases))

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        n, names = judged.numbers, self.memory.names
        gases = [names[j] for j in self.gases]
        fall, least, most = (rough(float(n[f"{key}fall_percent"])) for key in ("", "least_", "most_"))
        before = rough(100 * float(n["largest_before"]))
        oxygen_en = oxygen_zh = ""
        if "oxygen_fall_percent" in n:
            moved = rough(float(n["oxygen_fall_percent"]))
            oxygen_en = f" 20.9 - {names[self.oxygen[0]]} fell by {moved} %: air let in lowers it by as much."
            oxygen_zh = f"20.9 - {names[self.oxygen[0]]} 下降 {moved} %,而引入空气会使其同比下降。"
        en = (
            f"{' and '.join(gases)} fell together by {fall} % against what load and process lead one to expect (each by "
            f"{least} to {most} %; largest common fall before {before} %).{oxygen_en}"
        )
        zh = (
            f"{'、'.join(gases)} 相对负荷与工况预期同时下降 {fall} %(各为 {least} 至 {most} %;"
            f"此前最大共同降幅 {before} %)。{oxygen_zh}"
        )
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        plot = self.residuals.picture(
            k, judged.from_ms, judged.to_ms, "All gases fall alike", "各组分同比下降"
        )
        shown = [*self.gases[:3], *self.oxygen]
        return en, zh, {**plot, "series": series_of(self.memory, shown, first, last)}

    def notes(self) -> list[Note]:
        """Say what is missing where there are gases to compare."""
        if not self.gases:
            return []
        missing = [g for g in self.gases if g not in self._modelled()]
        if missing:
            return [
                Note(
                    self.detector,
                    self.memory.names[missing[0]],
                    "unexplained",
                    "no model of this gas: no common fall",
                )
            ]
        if len(self.ledger.rows) < self.config.calibration_min_days + self.config.reference_lag_days:
            return [Note(self.detector, "", "history", "fewer than 24 days with all gases")]
        return []

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        names = [self.memory.names[k] for k in self.gases]
        return {**super().dump(), "ledger": self.ledger.rows, "means": self.means, "gases": names}

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back; with other gases than before it begins anew."""
        if tree["gases"] == [self.memory.names[k] for k in self.gases]:
            super().load(tree)
            self.ledger.rows, self.means = tree["ledger"], tree["means"]
