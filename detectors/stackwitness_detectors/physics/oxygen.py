"""Oxygen line: O2 and CO2 of one flue gas lie on a line that the fuel sets; air let in moves both along it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stackwitness_detectors.conditional.ledger import Ledger
from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note, Values
from stackwitness_detectors.daily import DailyTest, Judged, day_hours, operating
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.physics.gases import (
    AIR_O2,
    carbon_dioxide_of,
    fuels_of,
    oxygen_of,
    stoichiometric_factor,
)
from stackwitness_detectors.plots import rough, series_of, short, span_ms

_LEAST_HOURS = 6
_LEAST_SHIFT = 0.02  # two analysers, each 0.5 % of volume by its certificate
_SIDES = 2.0


class OxygenLine(DailyTest):
    """Score = shift of log Fo, Fo = (20.9 - O2) / CO2 (Method 3B), in the windows of the ledger; both directions."""

    name = "oxygen_line"
    detector = "oxygen_line"
    family = "physics"
    kind = "oxygen_line"
    kinds = ("dilution_forged_o2", "o2_low", "dilution", "span_change")
    innocent = ("fuel_change", "instrument_fault", "recalibration")

    def __init__(self, memory: Memory, config: Config, residuals: Residuals) -> None:
        self.oxygen, self.carbon = oxygen_of(memory)[-1:], carbon_dioxide_of(memory)[-1:]
        tested = self.oxygen if self.carbon else []
        super().__init__(memory, config, tested, config.oxygen_line_budget)
        self.residuals = residuals
        self.ledger = Ledger(config)

    def factor(self, rows: slice) -> Values:
        """Give Fo of some hours, NaN where either gas is not measured, is explained, or the unit stands."""
        hours, both = self.memory.hours, [*self.oxygen, *self.carbon]
        off = (hours.view("claimed")[rows][:, both] | hours.view("marked")[rows][:, both]).any(axis=1)
        o2, co2 = (hours.view("mean")[rows, k] for k in both)
        running = operating(self.memory)[rows]
        return np.where(off | ~running, np.nan, stoichiometric_factor(o2, co2))

    def measure(self, k: int, day: int) -> Judged | None:
        """Enter the day's log Fo; judge the newest windows, up and down."""
        logs = np.log(self.factor(day_hours(self.memory, day)))
        if not self.ledger.add(day, logs, _LEAST_HOURS):
            return None
        known = self.ledger.rows[:, 2]
        spread = float(np.std(known[:-1])) if len(known) > 2 else 0.1
        found, upwards = self.ledger.rarest(spread), False
        risen = self.ledger.rarest(spread, upwards=True)
        if risen is not None and (found is None or risen.rate < found.rate):
            found, upwards = risen, True
        if found is None or found.size < _LEAST_SHIFT:
            return None
        days = max(1, math.ceil(found.days))
        from_day = int(self.ledger.rows[-days, 0])
        usual = math.exp(found.base)
        now = usual * math.exp(found.size if upwards else -found.size)
        numbers: dict[str, float | int | str] = {
            "factor": now,
            "usual_factor": usual,
            "window_days": found.days,
            "largest_before": found.largest,
            "fuels": fuels_of(now)[0],
            "usual_fuels": fuels_of(usual)[0],
            "moved": self._moved(day, days),
        }
        least = (
            self.ledger.least(spread, self.budget / _SIDES, upwards)
            if _SIDES * found.rate <= self.budget
            else None
        )
        if least is not None:
            numbers |= {
                "delta_min_pct": 100 * math.expm1(max(least[0], _LEAST_SHIFT)),
                "delta_min_days": least[1],
            }
        return Judged(found.size, from_day * DAY_MS, (day + 1) * DAY_MS - 1, numbers, _SIDES * found.rate)

    def rate(self, k: int, judged: Judged) -> float | None:
        """Take the rate of the rarest window."""
        return judged.least_rate

    def _moved(self, day: int, days: int) -> str:
        """Tell which gas left what load and process lead one to expect: "O2", "CO2" or neither."""
        far = {}
        for name, k in (("O2", self.oxygen[0]), ("CO2", self.carbon[0])):
            if k in self.residuals.models:
                residual = self.residuals.residual(k, day_hours(self.memory, day, days))
                before = self.residuals.residual(k, day_hours(self.memory, day - days, 14))
                if np.isfinite(residual).any() and np.isfinite(before).any():
                    spread = self.residuals.models[k].residual_spread
                    far[name] = abs(float(np.nanmean(residual)) - float(np.nanmean(before))) / spread
        return max(far, key=lambda name: far[name]) if far else ""

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """Rank by the gas that moved."""
        if judged.numbers["moved"] == "O2":
            return ("o2_low", "dilution_forged_o2", "dilution", "span_change")
        return self.kinds

    def _flag(self, k: int, judged: Judged, rate: float) -> list[Finding]:
        self.ledger.flag(judged.from_ms // DAY_MS)
        return super()._flag(k, judged, rate)

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        n, names = judged.numbers, self.memory.names
        o2, co2 = names[self.oxygen[0]], names[self.carbon[0]]
        now, usual = short(float(n["factor"])), short(float(n["usual_factor"]))
        before = rough(float(n["largest_before"]))
        fuels_en, fuels_zh = fuels_of(float(n["factor"]))
        fits_en = f"fits {fuels_en}" if fuels_en else "fits no fuel in the tables"
        fits_zh = f"对应{fuels_zh}" if fuels_zh else "不对应表中任何燃料"
        en = (
            f"(20.9 - {o2}) / {co2} was {now}, ordinarily {usual}: {now} {fits_en} (Method 3B). The largest such shift "
            f"before was {before}, now {rough(judged.score)}."
        )
        zh = (
            f"(20.9 - {o2}) / {co2} 为 {now},平时为 {usual}:{now} {fits_zh}(Method 3B)。"
            f"此前最大的同类偏移为 {before},现为 {rough(judged.score)}。"
        )
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        gases = series_of(self.memory, [self.oxygen[0], self.carbon[0]], first, last)
        line = {
            "channel": f"(20.9 - {o2}) / {co2}",
            "unit": "",
            "role": "ratio",
            "t": gases[0]["t"],
            "v": [
                float(f"{(AIR_O2 - a) / b:.6g}") if a is not None and b else None
                for a, b in zip(gases[0]["v"], gases[1]["v"], strict=True)
            ],
        }
        plot = {
            "kind": "residual",
            "title_en": f"{o2} and {co2} off their line",
            "title_zh": f"{o2} 与 {co2} 偏离关系线",
            "series": [gases[0], line, gases[1]],
        }
        return en, zh, plot

    def notes(self) -> list[Note]:
        """Say what is missing."""
        if not self.tested:
            lacks = "carbon dioxide" if self.oxygen else "oxygen"
            return [
                Note(
                    self.detector,
                    "",
                    "companion",
                    f"no channel of {lacks} (role diluent): the line cannot be drawn",
                )
            ]
        if len(self.ledger.rows) < self.config.calibration_min_days + self.config.reference_lag_days:
            return [
                Note(
                    self.detector,
                    self.memory.names[self.tested[0]],
                    "history",
                    "fewer than 24 days with both gases",
                )
            ]
        return []

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        return {**super().dump(), "ledger": self.ledger.rows}

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back."""
        super().load(tree)
        if self.tested:
            self.ledger.rows = tree["ledger"]
