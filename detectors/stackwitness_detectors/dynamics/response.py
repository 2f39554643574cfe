"""Response: do the steps of a channel from hour to hour still follow the steps of what drives it?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Note, Values
from stackwitness_detectors.daily import DailyTest, Judged, operating
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import rough
from stackwitness_detectors.quantiles import median, without_absurd
from stackwitness_detectors.running import least_running

_RIDGE = 1e-3
_BOUND = 5.0  # spreads beyond which a step counts no more: start-ups and faults
_LEAST_HOURS = 240
_LEAST_R = 0.2  # correlation of steps and expected steps: below it there is nothing to lose
_FILLED = 0.6
_SHARP = 0.35
_WANDERS = 0.05  # standard deviation of the slope from week to week where nothing is forged (fuel, season)
_KEPT = 0.8  # of the usual correlation, in Fisher's z: so close a window has not lost its drivers
_RARE_LEVEL = 0.025  # share of the past beyond which a load is rare
_NEAR_LEVEL = 0.01  # of the load: full load is never quite the same
_LEAST_T = 2.0  # standard errors: below it nothing is odd, however steadily the past followed
_MOST_SCORE = 60.0
_SMALL, _LARGE = 0.4, 1.8
_STEEPEST = {1: 5.0, 7: 3.0}  # see DailyTest.steepest
_YOUNG_HOURS = 24 * 40
# After half a day off a unit and its treatment are cold: other rules hold until the catalyst and the stack are warm. Where
# that comes every fortnight it is how the plant runs, and is learned.
_COLD_AFTER_H = 12
_COLD_FOR_H = 8
_RARE_DAYS = 14


class Steps:
    """Fit the steps of each channel on those of its drivers, anew each day, for all tests: it needs no state."""

    def __init__(self, memory: Memory, config: Config, residuals: Residuals) -> None:
        self.memory, self.config, self.residuals = memory, config, residuals
        self._day = -1
        self._drivers: Values = np.empty((0, 0))
        self._fitted: dict[int, tuple[Values, Values, float] | None] = {}

    def fit(self, k: int, day: int) -> tuple[Values, Values, float] | None:
        """Give steps and expected steps of all remembered hours, in spreads of the rest, and their correlation."""
        if day != self._day:
            self._day, self._fitted = day, {}
            self._drivers = without_absurd(self.memory.hours.view("mean"))
        if k not in self._fitted:
            self._fitted[k] = self._fit(k, day)
        return self._fitted[k]

    def _fit(self, k: int, day: int) -> tuple[Values, Values, float] | None:
        hours, config = self.memory.hours, self.config
        hour, mean = hours.view("hour"), hours.view("mean")
        covariates = self.residuals.covariates(k)
        if len(hour) < _LEAST_HOURS or not len(covariates):
            return None
        off = hours.view("claimed")[:, k] | hours.view("marked")[:, k] | ~operating(self.memory)
        off |= cold_start(self.memory)
        drivers = self._drivers[:, covariates]
        steps = np.diff(np.column_stack([mean[:, k], drivers]), axis=0, prepend=np.nan)
        d = np.where(off, np.nan, steps[:, 0])
        d[np.diff(hour, prepend=hour[0] - 2) != 1] = np.nan
        lag = config.reference_lag_days if len(hour) > _YOUNG_HOURS else config.young_lag_days
        known = np.isfinite(d) & (hour // 24 < day - lag)
        d[unheard_of(drivers[:, 0], known)] = np.nan
        known &= np.isfinite(d)
        scale = _spread(d[known]) if known.sum() >= _LEAST_HOURS else 0.0
        if scale <= 0:
            return None
        x = _bounded(steps[:, 1:], known)
        # The first driver is the load, or what comes nearest: at another level the answer may be another.
        level = drivers[:, 0]
        if np.isfinite(level[known]).any():
            level = (level - np.nanmean(level[known])) / max(float(np.nanstd(level[known])), 1e-12)
        else:
            level = np.zeros_like(level)
        x = np.column_stack([x, x * np.clip(np.where(np.isfinite(level), level, 0.0), -2.0, 2.0)[:, None]])
        d = np.clip(d / scale, -_BOUND, _BOUND)
        expected = x @ _ridge(x[known], d[known])
        rest = _spread((d - expected)[known])
        r = float(np.corrcoef(d[known], expected[known])[0, 1]) if float(expected[known].std()) > 0 else 0.0
        if not r >= _LEAST_R or rest <= 0:
            return None
        slope = float(expected[known] @ d[known]) / float(expected[known] @ expected[known])
        return d / rest, slope * expected / rest, r


class Response(DailyTest):
    """Score = exp(0.35 t), t the standard errors by which the slope on the expected steps fell below the usual 1."""

    family = "dynamics"
    kind = "response_lost"
    kinds = ("generated", "near_freeze", "manual_jitter", "smoothed", "invented_records", "replay_disguised")
    innocent = ("instrument_fault", "covariate_fault", "steady_operation", "treatment_change")

    def __init__(self, memory: Memory, config: Config, steps: Steps, days: int) -> None:
        super().__init__(memory, config, steps.residuals.targets, config.response_budget / 3)
        self.steps, self.residuals, self.days = steps, steps.residuals, days
        self.steepest = _STEEPEST[days]
        self.name = self.detector = f"response_{days}d"
        self.others: list[Response] = []

    def measure(self, k: int, day: int) -> Judged | None:
        """Fit the steps of the time before, and ask the window for their slope."""
        fit = self.steps.fit(k, int(self.memory.hours.view("hour")[-1]) // 24)
        if fit is None:
            return None
        d, expected, r = fit
        hour = self.memory.hours.view("hour")
        first, last = np.searchsorted(hour, [(day - self.days + 1) * 24, (day + 1) * 24])
        known = np.isfinite(d[first:last]) & np.isfinite(expected[first:last])
        if known.sum() < _FILLED * 24 * self.days:
            return None
        y, x = d[first:last][known], expected[first:last][known]
        swing = float(x @ x)
        if swing <= 0:
            return None
        slope = float(x @ y) / swing
        # In units of the usual spread about the expected steps; a rougher window is less sure.
        rest = max(1.0, math.sqrt(float(np.mean((y - slope * x) ** 2))))
        scatter = self._scatter(x, y - slope * x, hour[first:last][known])
        t = (1.0 - slope) / math.sqrt(max(rest**2 / swing, scatter) + _WANDERS**2)
        spread = float(np.sqrt(np.mean(y**2)))
        followed = float(x @ y) / math.sqrt(swing * max(float(y @ y), 1e-12))
        # Another slope, as closely followed, is another fuel or heat rate: what is lost goes with the drivers no longer.
        t = 0.0 if _fisher(followed) > _KEPT * _fisher(r) else t
        numbers: dict[str, float | int | str] = {
            "slope": slope,
            "correlation": followed,
            "usual_correlation": r,
            "standard_errors": t,
            "hours": int(known.sum()),
            "step_spread": spread,
            "usual_spread": 1.0 / math.sqrt(max(1.0 - r * r, 1e-6)),
        }
        from_ms, to_ms = (day - self.days + 1) * DAY_MS, (day + 1) * DAY_MS - 1
        return Judged(self.oddness(y, x, t), from_ms, to_ms, numbers)

    def _scatter(self, x: Values, rest: Values, hour: NDArray[np.int64]) -> float:
        """Give the variance of the slope as single hours, or the days of a week, disagree about it (White 1980).

        One fuel change with large steps moves the slope of a window; a response that is lost is lost throughout.
        """
        parts = x * rest
        if self.days > 1:
            first = np.flatnonzero(np.diff(hour // 24, prepend=-1))
            parts = np.add.reduceat(parts, first)
        n = len(parts)
        return float(parts @ parts) / float(x @ x) ** 2 * n / max(n - 1, 1)

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """Steps that are small: held or averaged. Large: invented. As usual: generated or copied."""
        spread, usual = float(judged.numbers["step_spread"]), float(judged.numbers["usual_spread"])
        if spread < _SMALL * usual:
            return ("smoothed", "near_freeze", "manual_jitter", "generated")
        if spread > _LARGE * usual:
            return ("invented_records", "generated", "bootstrap", "calibration_gas")
        return self.kinds

    def oddness(self, y: Values, x: Values, t: float) -> float:
        """Give the score; a tail exponent of 8 then is nearly a normal tail, one of 1.5 a very long one."""
        return math.exp(min(_SHARP * max(t, _LEAST_T), _MOST_SCORE))

    def past_days(self, k: int) -> list[int]:
        """Learn from the remembered days when the first fit has been made."""
        hour = self.memory.hours.view("hour")
        if self.past[k] or self.waiting[k] or self.steps.fit(k, int(hour[-1]) // 24) is None:
            return []
        return list(range(int(hour[0]) // 24 + self.days, int(hour[-1]) // 24 - self.config.young_lag_days))

    def muted(self, k: int, day: int) -> bool:
        """Leave it to the other window when that one already speaks."""
        return any(self.memory.names[k] in other.episodes for other in self.others)

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        drivers_en, drivers_zh = self.residuals.drivers()
        r, usual = float(n["correlation"]), float(n["usual_correlation"])
        t = rough(float(n["standard_errors"]))
        before = rough(math.log(max(longest, 1e-12)) / _SHARP)
        en = (
            f"Over {n['hours']} h the hourly steps of {channel.name} followed those of {drivers_en} with a correlation "
            f"of {r:.2f}; usual is {usual:.2f} ({t} standard errors below, largest before {before})."
        )
        zh = (
            f"{n['hours']} 小时内 {channel.name} 的小时变化与{drivers_zh}变化的相关系数为 {r:.2f},平时为 {usual:.2f}"
            f"(低 {t} 个标准误,此前最大 {before})。"
        )
        title_en, title_zh = (
            f"{channel.name} no longer moves with its drivers",
            f"{channel.name} 不再随驱动变量变动",
        )
        plot = self.residuals.picture(k, judged.from_ms, judged.to_ms, title_en, title_zh)
        return en, zh, plot

    def notes(self) -> list[Note]:
        """Say which channels have no steps to follow yet."""
        return self.short_reference("days whose steps can be judged")


def cold_start(memory: Memory) -> NDArray[np.bool_]:
    """Tell for each remembered hour whether the unit came back from a long stop within the last hours; see above."""
    hour, loads = memory.hours.view("hour"), memory.indices("load")
    cold = np.zeros(len(hour), np.bool_)
    if not loads or not len(hour):
        return cold
    load = memory.hours.view("mean")[:, loads[0]]
    runs = hour[load > least_running(load)]
    starts = runs[1:][np.diff(runs) > _COLD_AFTER_H]
    if not starts.size or starts.size * _RARE_DAYS * 24 > hour[-1] - hour[0]:
        return cold
    place = np.searchsorted(starts, hour, "right") - 1
    since = hour - starts[np.maximum(place, 0)]
    return np.asarray((place >= 0) & (since < _COLD_FOR_H))


def _spread(x: Values) -> float:
    """Give a standard deviation that a few large steps do not move, at least a tenth of the plain one."""
    plain = float(np.std(x))
    return max(1.4826 * median(np.abs(x - median(x))), 0.1 * plain)


def unheard_of(level: Values, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell where the first driver stands where it hardly ever stood: what steps do there, nothing has taught."""
    past = level[known & np.isfinite(level)]
    if not past.size:
        return np.zeros(len(level), np.bool_)
    low, high = np.quantile(past, [_RARE_LEVEL, 1.0 - _RARE_LEVEL])
    near = _NEAR_LEVEL * max(abs(float(low)), abs(float(high)))
    return np.asarray((level < low - near) | (level > high + near))


def _fisher(r: float) -> float:
    """Give Fisher's z of a correlation (1915), whose spread is the same everywhere."""
    return math.atanh(min(max(r, -0.999), 0.999))


def _bounded(x: Values, known: NDArray[np.bool_]) -> Values:
    """Scale columns by their spread in the reference and bound them; what is missing did not move."""
    spread = np.array(
        [_spread(column[np.isfinite(column)]) if np.isfinite(column).any() else 0.0 for column in x[known].T],
        np.float64,
    )
    z: Values = x / np.where(spread > 0, spread, np.inf)
    z = np.minimum(np.maximum(z, -_BOUND), _BOUND)
    filled: Values = np.where(np.isfinite(z), z, 0.0).astype(np.float64)
    return filled


def _ridge(x: Values, y: Values) -> Values:
    gram = x.T @ x + _RIDGE * len(y) * np.eye(x.shape[1])
    solved: Values = np.asarray(np.linalg.solve(gram, x.T @ y), np.float64)
    return solved


def responses(memory: Memory, config: Config, residuals: Residuals) -> list[Response]:
    """Make the tests of a day and of a week."""
    steps = Steps(memory, config, residuals)
    day, week = Response(memory, config, steps, 1), Response(memory, config, steps, 7)
    day.others, week.others = [week], [day]
    return [day, week]
