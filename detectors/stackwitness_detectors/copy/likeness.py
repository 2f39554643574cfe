"""Disguised copies: an earlier stretch with a factor, an offset and noise, that no exact match sees."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.copy.evidence import rate_beyond
from stackwitness_detectors.copy.motif import Past, best_match, on_log_scale, own_course
from stackwitness_detectors.copy.pieces import forgeable
from stackwitness_detectors.daily import DAYS_PER_MONTH, DailyTest, Judged, operating
from stackwitness_detectors.memory import HOUR_MS, Memory
from stackwitness_detectors.plots import plain, rough, series_of, short, span_ms

_LEAST_NATS = 6.0
_MOST_NOISE = 0.1  # of the level: daily cycles of a unit that is started every morning are as alike as that
_LEAST_R = 0.9  # what goes together less is no copy, however poorly the window explains itself
_DRIVEN_FILLED = 0.8  # of the window's hours must have an expectation
_LOOKS_H = (0, 6, 12, 18)  # hours before the day's end at which windows end: forgeries begin at any hour


class Courses:
    """Give the hourly courses of a day, made once for all lengths of window."""

    def __init__(self, memory: Memory, config: Config) -> None:
        self.memory, self.config = memory, config
        self._day = -1
        self._made: dict[int, tuple[int, Past, float]] = {}

    def of(self, k: int, day: int) -> tuple[int, Past, float]:
        """Give the first hour, the course without gaps in time (NaN missing), and what rounding makes."""
        if day != self._day:
            self._day, self._made = day, {}
        if k not in self._made:
            self._made[k] = self._make(k)
        return self._made[k]

    def _make(self, k: int) -> tuple[int, Past, float]:
        hours = self.memory.hours
        hour = hours.view("hour")
        if not len(hour):
            return 0, Past(np.empty(0)), 0.0
        off = hours.view("claimed")[:, k] | hours.view("marked")[:, k] | ~operating(self.memory)
        base = int(hour[0])
        series = np.full(int(hour[-1]) - base + 1, np.nan)
        series[hour - base] = np.where(off, np.nan, hours.view("mean")[:, k])
        series = series[-self.config.history_hours :]
        base = int(hour[-1]) + 1 - len(series)
        values, least = on_log_scale(series, self.memory.channels[k].resolution or 0.0)
        return base, Past(values), least


class Likeness(DailyTest):
    """Score = nats by which the best earlier stretch beats the window's own course, windows of `days` days."""

    detector = "likeness"
    family = "copy"
    kind = "likeness"
    kinds = ("replay_disguised", "replay_exact", "replay_shifted", "generated")
    innocent = ("deterministic_process", "substitute_data", "steady_operation")

    def __init__(
        self,
        memory: Memory,
        config: Config,
        days: int,
        courses: Courses | None = None,
        residuals: Residuals | None = None,
    ) -> None:
        super().__init__(memory, config, forgeable(memory), config.likeness_budget / 3)
        self.courses, self.days, self.residuals = courses or Courses(memory, config), days, residuals
        self.others: list[Likeness] = []
        self.name = f"likeness_{days}d"

    def measure(self, k: int, day: int) -> Judged | None:
        """Search all remembered hours for the stretch most alike."""
        hours = self.memory.hours
        base, past, least = self.courses.of(k, day)
        series, width = past.series, 24 * self.days
        best: tuple[float, Judged] | None = None
        for back in _LOOKS_H:
            stop = (day + 1) * 24 - back - base
            if stop > len(series) or stop < 2 * width:
                continue
            window = series[stop - width : stop]
            found = best_match(window, past, least, own_course(window, least), stop - width)
            if found is None or (best is not None and found.score <= best[0]):
                continue
            from_h = base + stop - width
            lag_h = stop - width - found.place
            numbers: dict[str, float | int | str] = {
                "lag_hours": lag_h,
                "slope": found.slope,
                "noise": found.noise,
                "correlation": found.r,
                "hours": int(np.isfinite(series[stop - width : stop]).sum()),
                "source_from_ms": (from_h - lag_h) * HOUR_MS,
            }
            judged = Judged(found.score, from_h * HOUR_MS, (from_h + width) * HOUR_MS - 1, numbers)
            best = (found.score, judged)
        return best[1] if best is not None and len(hours) else None

    def rate(self, k: int, judged: Judged) -> float | None:
        """Expect exponential tails: the score is a log-likelihood ratio."""
        past = self.past[k]
        if len(past) < self.config.week_reference_days:
            return None
        n = judged.numbers
        alike = float(n["correlation"]) >= _LEAST_R and float(n["noise"]) <= _MOST_NOISE
        if judged.score < _LEAST_NATS or not alike:
            return math.inf
        rate = rate_beyond(judged.score, past, len(past) / DAYS_PER_MONTH, self.config.likeness_tail_nats)
        return math.inf if rate <= self.budget and self._driven(k, judged) else rate

    def _driven(self, k: int, judged: Judged) -> bool:
        """Tell whether the drivers of these very hours explain them as well as the earlier stretch: the plant ran alike."""
        model = self.residuals.models.get(k) if self.residuals is not None else None
        if model is None:
            return False
        hours = self.memory.hours
        first, last = np.searchsorted(
            hours.view("hour"), [judged.from_ms // HOUR_MS, judged.to_ms // HOUR_MS + 1]
        )
        y, expected = hours.view("mean")[first:last, k], hours.view("expected")[first:last, k]
        known = np.isfinite(y) & np.isfinite(expected)
        if known.sum() < _DRIVEN_FILLED * len(known) or float(np.ptp(expected[known])) <= 0:
            return False
        r = float(np.corrcoef(model.transform(y[known]), model.transform(expected[known]))[0, 1])
        return r >= float(judged.numbers["correlation"])

    def muted(self, k: int, day: int) -> bool:
        """Leave alone what another length of window has said already."""
        name = self.memory.names[k]
        return any(name in other.episodes for other in self.others)

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        lag, noise = short(float(n["lag_hours"]) / 24), rough(100 * float(n["noise"]))
        r = f"{float(n['correlation']):.4f}"
        en = (
            f"Over {n['hours']} h {channel.name} follows its own course of {lag} days before (correlation {r}, what differs "
            f"is {noise} %) more closely than it follows its own last hours; {rough(judged.score)} nats for a copy with a "
            f"factor or noise, the most before was {rough(longest)}."
        )
        zh = (
            f"{channel.name} 在 {n['hours']} 小时内与 {lag} 天前自身曲线高度一致(相关系数 {r},差异 {noise}%),"
            f"比跟随自身前几小时更紧密;支持加系数或噪声回放的证据为 {rough(judged.score)} 奈特,此前最高 {rough(longest)}。"
        )
        source = int(n["source_from_ms"])
        hour = self.memory.hours.view("hour")
        first, last = np.searchsorted(hour, [source // HOUR_MS, source // HOUR_MS + 24 * self.days])
        rows = slice(int(first), int(last))
        mean, lag_h = self.memory.hours.view("mean"), int(float(n["lag_hours"]))
        # At the level of what is flagged: the same course is seen as the same.
        now = mean[np.isin(hour, hour[rows] + lag_h), k]
        levels = [
            float(np.nanmedian(part)) if np.isfinite(part).any() else 0.0 for part in (now, mean[rows, k])
        ]
        factor = levels[0] / levels[1] if min(levels) > 0 else 1.0
        plot: dict[str, Any] = {
            "kind": "copy",
            "title_en": f"{channel.name} follows an earlier stretch",
            "title_zh": f"{channel.name} 与先前时段一致",
            "series": series_of(self.memory, [k], *span_ms(self.memory, judged.from_ms, judged.to_ms)),
            "match": {
                "t": (hour[rows] * HOUR_MS).tolist(),
                "v": plain(mean[rows, k] * factor),
                "lag_ms": lag_h * HOUR_MS,
                "of_en": f"{lag} days before, times {rough(factor)}",
                "of_zh": f"{lag} 天前(乘以 {rough(factor)})",
            },
        }
        return en, zh, plot
