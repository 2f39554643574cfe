"""Saturation: flue gas cannot hold more water vapour than its temperature allows.

    x_max = p_sat(t) / p,  p_sat = 6.112 hPa exp(17.62 t / (243.12 + t)), t in Celsius (Magnus, WMO No. 8, 4.B)

The formula lies 2.5 % high at 100 Cel, on the careful side.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Note, Values
from stackwitness_detectors.daily import DAYS_PER_MONTH, DailyTest, Judged, day_hours
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import plain, series_of, short, span_ms
from stackwitness_detectors.tail import monthly_rate

_LEAST_HOURS = 6
_TOLD, _IMPOSSIBLE = 1.05, 1.15  # of saturation: 2 Cel of error are a tenth of the vapour
_STEEP = 24.0  # exponent of the tail beyond the wettest day so far: vapour follows the temperature closely
_LOWEST_HPA = 850.0  # without a barometer: a plant 1,500 m above the sea
_STACK = ("stack", "flue", "outlet", "烟", "排口")
_AIR_PRESSURE = ("ambient", "barometric", "atmospheric", "大气")
_TO_HPA = {"hpa": 1.0, "mbar": 1.0, "kpa": 10.0, "pa": 0.01}


class Saturation(DailyTest):
    """Score = reported moisture / moisture of saturation in the second wettest hour of the day."""

    name = "saturation"
    detector = "saturation"
    family = "physics"
    kind = "above_saturation"
    kinds = ("joint_scale", "invented_records", "generated")
    innocent = ("droplets", "instrument_fault", "covariate_fault")

    def __init__(self, memory: Memory, config: Config) -> None:
        self.warm, self.air = _temperature(memory), _barometer(memory)
        wet = [k for k in memory.indices("moisture") if memory.channels[k].unit.startswith("%")]
        super().__init__(memory, config, wet if self.warm is not None else [], config.saturation_budget)
        self.wet = wet

    def _most(self, rows: slice) -> Values:
        """Give the moisture of saturation, in %, for some hours."""
        mean = self.memory.hours.view("mean")[rows]
        hpa = np.full(len(mean), _LOWEST_HPA)
        if self.air is not None:
            k, factor = self.air
            hpa = np.where(np.isfinite(mean[:, k]), mean[:, k] * factor, _LOWEST_HPA)
        return saturated(mean[:, self.warm or 0], hpa)

    def measure(self, k: int, day: int) -> Judged | None:
        """Compare the hours of the day with saturation."""
        rows, hours = day_hours(self.memory, day), self.memory.hours
        off = hours.view("marked")[rows, k] | hours.view("marked")[rows, self.warm]
        wet, most = hours.view("mean")[rows, k], self._most(rows)
        ratio = np.where(off | (wet <= 0), np.nan, wet / most)
        known = np.flatnonzero(np.isfinite(ratio))
        if len(known) < _LEAST_HOURS:
            return None
        at = int(known[np.argsort(ratio[known])[-2]])
        numbers: dict[str, float | int | str] = {
            "moisture": float(wet[at]), "saturation": float(most[at]), "hours": len(known),
            "temperature": float(hours.view("mean")[rows][at, self.warm]),
            "hours_above": int((ratio[known] > _TOLD).sum()),
        }  # fmt: skip
        return Judged(float(ratio[at]), day * DAY_MS, (day + 1) * DAY_MS - 1, numbers)

    def rate(self, k: int, judged: Judged) -> float | None:
        """What is below saturation is no finding, however rare; above it a limit of nature ends the tail."""
        past = self.past[k]
        if len(past) < self.config.calibration_min_days:
            return None
        if judged.score < _TOLD:
            return math.inf
        return monthly_rate(judged.score, past, len(past) / DAYS_PER_MONTH, self.config, exponent=_STEEP)

    def impossible(self, k: int, judged: Judged) -> bool:
        """No gas holds more vapour."""
        return judged.score >= _IMPOSSIBLE

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        n, names, warm = judged.numbers, self.memory.names, self.warm or 0
        wet, most, at = (short(float(n[key])) for key in ("moisture", "saturation", "temperature"))
        en = (
            f"{names[k]} was {wet} % at {at} Cel ({names[warm]}), but a gas of that temperature holds {most} % of water at "
            f"most; in {n['hours_above']} of {n['hours']} hours of the day it stood above saturation."
        )
        zh = (
            f"{names[k]} 在 {at} ℃({names[warm]})时为 {wet} %,而该温度的烟气最多含水 {most} %;"
            f"当日 {n['hours']} 小时中有 {n['hours_above']} 小时高于饱和。"
        )
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        hour = self.memory.hours.view("hour") * 3_600_000
        rows = slice(*(int(i) for i in np.searchsorted(hour, [first, last + 1])))
        step = max(1, -(-(rows.stop - rows.start) // self.config.plot_points))
        middle = self._most(rows)[::step]
        good = np.isfinite(middle)
        line = plain(middle[good])
        plot = {
            "kind": "residual",
            "title_en": f"{names[k]} and what the gas can hold",
            "title_zh": f"{names[k]} 与饱和含湿量",
            "series": series_of(self.memory, [k, warm], first, last),
            "band": {"t": hour[rows][::step][good].tolist(), "lo": line, "mid": line, "hi": line},
        }
        return en, zh, plot

    def notes(self) -> list[Note]:
        """Say what is missing where moisture is reported."""
        if self.wet and self.warm is None:
            return [
                Note(
                    self.detector,
                    self.memory.names[k],
                    "companion",
                    "no stack temperature (role temperature) beside it",
                )
                for k in self.wet
            ]
        return self.short_reference("days with moisture and temperature")


def saturated(celsius: Values, hpa: Values) -> Values:
    """Return the share of water vapour at saturation in % [n]; NaN above 100 % or below 0 Cel."""
    held = 100.0 * 6.112 * np.exp(17.62 * celsius / (243.12 + celsius)) / hpa
    found: Values = np.where((celsius > 0) & (held < 100.0), held, np.nan)
    return found


def _temperature(memory: Memory) -> int | None:
    warm = [
        k for k in memory.indices("temperature") if memory.channels[k].unit.lower() in ("cel", "c", "°c", "℃")
    ]
    named = [k for k in warm if any(word in memory.channels[k].quantity.lower() for word in _STACK)]
    chosen = named or warm
    return chosen[-1] if len(chosen) == 1 else None


def _barometer(memory: Memory) -> tuple[int, float] | None:
    for k in memory.indices("ambient", "pressure"):
        channel = memory.channels[k]
        said = channel.quantity.lower()
        if any(word in said for word in _AIR_PRESSURE) and ("pressure" in said or "压" in said):
            factor = _TO_HPA.get(channel.unit.lower())
            if factor is not None:
                return k, factor
    return None
