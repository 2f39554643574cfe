"""Loose: does a channel leave what the model expects by larger steps than it usually does, hour for hour, all day?

The median of the day's steps of the residual: start-ups, trips and faults are a few large steps, while readings that
are invented, altered here and there or come from other days are off in every hour.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.conditional.model import Model
from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Note, Values
from stackwitness_detectors.daily import DailyTest, Judged
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import rough
from stackwitness_detectors.quantiles import median

_FILLED = 14  # steps of a day
_LEAST_DAYS = 20
_LEAST_SPREAD = 0.1  # of the log of typical steps from day to day: a calm month promises nothing
_LEAST_STEP = 0.1  # of the residuals' spread: smaller steps are rounding
_STEADY = 1e-4  # variance of log sizes: an expectation that always moves alike tells nothing
_SHARP = 0.35
_MOST_SCORE = 60.0
_YOUNG_DAYS = 40
_TURNS = -0.3  # autocorrelation of steps: at -0.5 each hour is drawn anew


class Loose(DailyTest):
    """Score = exp(0.35 z), z the log of the day's typical residual step above its usual value, in usual spreads."""

    name = detector = "loose_1d"
    family = "dynamics"
    kind = "too_rough"
    kinds = ("generated", "replay_disguised", "invented_records", "altered_records", "bootstrap")
    innocent = ("instrument_fault", "covariate_fault", "steady_operation", "treatment_change")

    def __init__(self, memory: Memory, config: Config, residuals: Residuals) -> None:
        super().__init__(memory, config, residuals.targets, config.response_budget / 3)
        self.residuals = residuals

    def measure(self, k: int, day: int) -> Judged | None:
        """Compare the day's typical step with those of the days remembered, but for the last fortnight."""
        model = self.residuals.models.get(k)
        if model is None:
            return None
        base, steps, moves = self._steps(k, model)
        at = day - base
        full = np.isfinite(steps).sum(axis=1) >= _FILLED
        if not 0 <= at < len(steps) or not full[at]:
            return None
        lag = self.config.reference_lag_days if len(steps) > _YOUNG_DAYS else self.config.young_lag_days
        before = full & (np.arange(len(steps)) < at - lag)
        if before.sum() < _LEAST_DAYS:
            return None
        least = _LEAST_STEP * model.residual_spread
        size, driven = _typical(steps, full, least), _typical(moves, full, least)
        size = size - _slope(driven[before], size[before]) * driven
        usual = median(size[before])
        spread = max(1.4826 * median(np.abs(size[before] - usual)), _LEAST_SPREAD)
        z = (float(size[at]) - usual) / spread
        today = steps[at][np.isfinite(steps[at])]
        numbers: dict[str, float | int | str] = {
            "times": math.exp(z * spread),
            "spreads": z,
            "turning": _turning(steps[at]),
            "hours": int(today.size),
        }
        score = math.exp(min(_SHARP * max(z, 0.0), _MOST_SCORE))
        return Judged(score, day * DAY_MS, (day + 1) * DAY_MS - 1, numbers)

    def _steps(self, k: int, model: Model) -> tuple[int, Values, Values]:
        """Give the first day remembered, and the steps of residual and expectation from hour to hour [days, 24], NaN where unknown."""
        hours = self.memory.hours
        hour = hours.view("hour")
        base = int(hour[0]) // 24
        laid = np.full((2, (int(hour[-1]) // 24 - base + 1) * 24), np.nan)
        laid[0, hour - base * 24] = self.residuals.residual(k, slice(0, len(hour)))
        laid[1, hour - base * 24] = model.transform(hours.view("expected")[:, k])
        steps = np.diff(laid, axis=1, prepend=np.nan)
        return base, steps[0].reshape(-1, 24), steps[1].reshape(-1, 24)

    def past_days(self, k: int) -> list[int]:
        """Learn from the remembered days when the channel has a model for the first time."""
        hour = self.memory.hours.view("hour")
        if self.past[k] or self.waiting[k] or k not in self.residuals.models:
            return []
        return list(range(int(hour[0]) // 24 + _LEAST_DAYS, int(hour[-1]) // 24 - self.config.young_lag_days))

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """Steps that turn back each hour: drawn anew hour by hour. Others: another course."""
        if float(judged.numbers["turning"]) < _TURNS:
            return ("altered_records", "invented_records", "near_freeze", "generated")
        return self.kinds

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        drivers_en, drivers_zh = self.residuals.drivers()
        now, z = rough(float(n["times"])), rough(float(n["spreads"]))
        before = rough(math.log(max(longest, 1.0)) / _SHARP)
        en = (
            f"Within {n['hours']} h {channel.name} left what {drivers_en} lead one to expect by steps that are typically {now} "
            f"times the usual ones ({z} of their spread from day to day; the most before was {before})."
        )
        zh = (
            f"{n['hours']} 小时内 {channel.name} 偏离{drivers_zh}所预期值的典型逐时变化为平时的 {now} 倍"
            f"(相当于其日间离散度的 {z} 倍;此前最大 {before})。"
        )
        title_en, title_zh = f"{channel.name} jumps about", f"{channel.name} 跳动异常"
        return en, zh, self.residuals.picture(k, judged.from_ms, judged.to_ms, title_en, title_zh)

    def notes(self) -> list[Note]:
        """Say which channels have too few days behind them."""
        return self.short_reference("days whose steps can be judged")


def _typical(steps: Values, full: NDArray[np.bool_], least: float) -> Values:
    """Give the log of the typical size of each day's steps, NaN for days that are not full."""
    found = np.full(len(steps), np.nan)
    found[full] = np.log(np.nanmedian(np.abs(steps[full]), axis=1) + least)
    return found


def _slope(driven: Values, size: Values) -> float:
    """Say how the size of the steps grows with that of the expected ones, between 0 and 1: a load that cycles leaves more unexplained."""
    known = np.isfinite(driven) & np.isfinite(size)
    spread = float(driven[known].var()) if known.any() else 0.0
    if spread <= _STEADY:
        return 0.0
    centred = driven[known] - driven[known].mean()
    return min(max(float((centred * size[known]).mean()) / spread, 0.0), 1.0)


def _turning(steps: Values) -> float:
    """Give the autocorrelation of neighbouring steps [24]."""
    a, b = steps[:-1], steps[1:]
    both: NDArray[np.bool_] = np.isfinite(a) & np.isfinite(b)
    size = float((steps[np.isfinite(steps)] ** 2).mean())
    return float((a[both] * b[both]).mean()) / size if both.any() and size > 0 else 0.0
