"""Exceedances: of the readings near a level, fewer lie above it than the model leads one to expect.

Among the hours whose reported value lies within a band round the limit (a channel without one: the levels that 30, 20
and 10 % of its past exceed) the model, the spread of its own residuals and the level of the last week give each the
chance to lie above. The sum of these chances over days, less the count, stands against the same sum in the channel's
own past. A shift of all hours moves both sides of the level; what lowers only the high ones empties one side.

And the hours expected to be high are compared with the others of the same week: how far their residuals lie lower, in
the windows of `ledger.BANK`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stackwitness_detectors.conditional.ledger import Ledger, rarity
from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note, Values
from stackwitness_detectors.daily import DailyTest, Judged, day_hours
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import series_of, short, span_ms

_WINDOWS = (3, 7, 14, 30)  # days
_HALF = 2.0  # the budget is shared by the counts and by the high hours' residuals
_HIGH_HOURS = 2  # of a day, at the least
_OTHER_HOURS = 24  # of the week
_TRIED = 4.0  # so many independent tests the windows and levels are together
_BANDS = (0.06, 0.12, 0.25, 0.4)  # round a limit: in log units, about shares
# Without a limit: the share of the past that lies above the level, and the band.
_EXCEEDED = ((0.2, 0.12), (0.2, 0.25), (0.3, 0.2), (0.1, 0.2))
_LEAST_MISSING = 4.0  # exceedances: fewer are no pattern
_LEAST_EXPECTED = 6.0
_ORDINARY = 2.0  # the score's usual spread: hours hang together
_STEADY = 4.0  # added to the variance: a handful of hours is always by chance
_DAY, _COUNT = 0, len(_BANDS)


class Exceedances(DailyTest):
    """Score = (expected - counted exceedances) / spread, of the rarest window and level."""

    name = "exceedances"
    detector = "exceedances"
    family = "conditional"
    kind = "exceedances_missing"
    kinds = ("limit_aware_scale", "altered_records", "clip", "bunch", "averaging_game", "missing_when_high")
    innocent = ("limit_control", "treatment_change", "covariate_fault", "instrument_fault")

    def __init__(self, memory: Memory, config: Config, residuals: Residuals) -> None:
        tested = [k for k in residuals.targets if memory.channels[k].role == "pollutant"] or residuals.targets
        super().__init__(memory, config, tested, config.exceedances_budget)
        self.residuals = residuals
        # Day, flag, then for each level: expected, counted, variance.
        self.rows: dict[int, Values] = {k: np.empty((0, 2 + 3 * _COUNT)) for k in tested}
        self.highs = {k: Ledger(config) for k in tested}

    def measure(self, k: int, day: int) -> Judged | None:
        """Enter the day's chances and counts; judge the sums."""
        row = self._row(k, day)
        if row is None:
            return None
        self.rows[k] = np.vstack([self.rows[k], row])[-self.config.ledger_days :]
        best = self._high(k, day)
        for days in _WINDOWS:
            for level in range(_COUNT):
                judged = self._judge(k, day, days, level)
                if judged is not None and (best is None or judged.least_rate < best.least_rate):
                    best = judged
        return best

    def rate(self, k: int, judged: Judged) -> float | None:
        """Take the rate of the rarest sum."""
        return judged.least_rate

    def _high(self, k: int, day: int) -> Judged | None:
        """Compare the hours expected to be high with the others of their week."""
        hours, memory = self.memory.hours, self.memory
        rows, week = day_hours(memory, day), day_hours(memory, day, 7)
        limit = memory.channels[k].limit
        day_of = hours.view("hour") // 24
        past = hours.view("mean")[(day_of < day - self.config.reference_lag_days), k]
        past = past[np.isfinite(past)]
        # A limit that is hardly ever reached says nothing: then the highest fifth is meant.
        level = float(np.quantile(past, 1.0 - _EXCEEDED[0][0]))
        level = min(level, limit) if limit is not None else level
        expected, residual = hours.view("expected")[week, k], self.residuals.residual(k, week)
        others = np.isfinite(residual) & (expected < level)
        here = slice(rows.start - week.start, rows.stop - week.start)
        high = np.isfinite(residual[here]) & (expected[here] >= level)
        if others.sum() < _OTHER_HOURS:
            return None
        base = float(residual[others].mean())
        if not self.highs[k].add(day, residual[here][high] - base, _HIGH_HOURS):
            return None
        found = self.highs[k].rarest(self.residuals.models[k].residual_spread)
        if found is None:
            return None
        days = max(1, math.ceil(found.days))
        from_day = int(self.highs[k].rows[-days, _DAY])
        numbers: dict[str, float | int | str] = {
            "high_shift_percent": 100 * math.expm1(-found.size),
            "largest_before": found.largest,
            "window_days": found.days,
            "level": level,
            "model_r2": self.residuals.models[k].r2,
        }
        if found.size < self.config.level_least_shortfall:
            return None
        return Judged(found.size, from_day * DAY_MS, (day + 1) * DAY_MS - 1, numbers, _HALF * found.rate)

    def _row(self, k: int, day: int) -> Values | None:
        model, hours, config = self.residuals.models.get(k), self.memory.hours, self.config
        rows = day_hours(self.memory, day)
        residual = self.residuals.residual(k, rows)
        known = np.isfinite(residual)
        if model is None or not model.logarithmic or known.sum() < config.day_min_hours // 2:
            return None
        day_of = hours.view("hour") // 24
        past = (day_of < day - config.reference_lag_days) & (day_of >= day - config.reference_from_days)
        everything = self.residuals.residual(k, slice(0, len(day_of)))
        reference = everything[past & np.isfinite(everything)]
        if len(reference) < config.reference_min_hours:
            return None
        week = everything[(day_of > day - 7) & np.isfinite(everything)]
        base = float(np.median(week))
        spread = np.sort(reference - float(np.median(reference)))
        expected = np.log(hours.view("expected")[rows, k][known]) + base
        reported = expected + residual[known] - base
        row = [float(day), 0.0]
        for level, band in self._levels(k, hours.view("mean")[past, k]):
            near = np.abs(reported - level) <= band
            at = level - expected[near]
            below, middle, above = (np.searchsorted(spread, at + edge) for edge in (-band, 0.0, band))
            chance = (above - middle + 0.5) / (above - below + 1.0)
            counted = float((reported[near] > level).sum())
            row += [float(chance.sum()), counted, float((chance * (1.0 - chance)).sum())]
        return np.array(row)

    def _levels(self, k: int, past: Values) -> list[tuple[float, float]]:
        """Give logarithms of levels, with the bands round them."""
        limit = self.memory.channels[k].limit
        if limit is not None and limit > 0:
            return [(math.log(limit), band) for band in _BANDS]
        known = past[np.isfinite(past) & (past > 0)]
        if not known.size:
            return [(0.0, 0.0)] * _COUNT
        return [(math.log(float(np.quantile(known, 1.0 - share))), band) for share, band in _EXCEEDED]

    def _judge(self, k: int, day: int, days: int, level: int) -> Judged | None:
        table = self.rows[k]
        first = 2 + 3 * level
        n = len(table)
        if n < days + self.config.calibration_min_days:
            return None
        total = np.vstack([np.zeros(3), np.cumsum(table[:, first : first + 3], axis=0)])
        expected, counted, variance = (total[days:] - total[:-days]).T
        score = (expected - counted) / np.sqrt(variance + _STEADY)
        if expected[-1] < _LEAST_EXPECTED or expected[-1] - counted[-1] < _LEAST_MISSING:
            return None
        size = np.concatenate([np.full(days - 1, np.nan), score])
        rate = rarity(size, table[:, _DAY], table[:, 1] > 0, days, self.config, _ORDINARY)
        if rate is None:
            return None
        from_day = int(table[-days, _DAY])
        numbers: dict[str, float | int | str] = {
            "expected_exceedances": float(expected[-1]),
            "exceedances": int(counted[-1]),
            "window_days": days,
            "model_r2": self.residuals.models[k].r2,
        }
        return Judged(
            float(score[-1]), from_day * DAY_MS, (day + 1) * DAY_MS - 1, numbers, _HALF * _TRIED * rate
        )

    def _flag(self, k: int, judged: Judged, rate: float) -> list[Finding]:
        table = self.rows[k]
        table[table[:, _DAY] >= judged.from_ms // DAY_MS, 1] = 1.0
        self.highs[k].flag(judged.from_ms // DAY_MS)
        return super()._flag(k, judged, rate)

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        if "high_shift_percent" in n:
            en, zh = self._words_of_high(k, judged)
        else:
            en, zh = self._words_of_counts(k, judged)
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        plot: dict[str, Any] = {
            "kind": "residual",
            "title_en": f"{channel.name}: fewer high hours than expected",
            "title_zh": f"{channel.name}:高值小时少于预期",
            "series": series_of(self.memory, [k, *self.memory.indices("load")[:1]], first, last),
            "band": self.residuals.band(k, first, last),
        }
        if channel.limit is not None:
            plot["limit"] = channel.limit
        return en, zh, plot

    def _words_of_high(self, k: int, judged: Judged) -> tuple[str, str]:
        channel, n = self.memory.channels[k], judged.numbers
        level, by = short(float(n["level"])), short(abs(float(n["high_shift_percent"])))
        before = short(float(n["largest_before"]))
        en = (
            f"Hours of {channel.name} expected above {level} {channel.unit} were reported {by} % lower, against the "
            f"other hours of their week, than before (window {n['window_days']} d; largest such shift before {before}, "
            f"now {short(judged.score)})."
        )
        zh = (
            f"{channel.name} 预期高于 {level} {channel.unit} 的时段,相对同周其他时段,比以往低报 {by} %"
            f"(窗口 {n['window_days']} 天;此前最大偏移 {before},现为 {short(judged.score)})。"
        )
        return en, zh

    def _words_of_counts(self, k: int, judged: Judged) -> tuple[str, str]:
        channel, n = self.memory.channels[k], judged.numbers
        limit, limit_zh = "its usual high level", "通常的高值水平"
        if channel.limit is not None:
            limit = f"its limit of {short(channel.limit)} {channel.unit}"
            limit_zh = f"限值 {short(channel.limit)} {channel.unit}"
        expected, counted = short(float(n["expected_exceedances"])), n["exceedances"]
        en = (
            f"Of the hours near it, {channel.name} exceeded {limit} in {counted} over {n['window_days']} days; its "
            f"drivers lead one to expect {expected} (score {short(judged.score)})."
        )
        zh = (
            f"{channel.name} 在 {n['window_days']} 天内,临近{limit_zh}的时段中有 {counted} 小时超过;"
            f"按驱动变量预期为 {expected} 小时(得分 {short(judged.score)})。"
        )
        return en, zh

    def notes(self) -> list[Note]:
        """Say which channels have too few days."""
        need = self.config.calibration_min_days + self.config.reference_lag_days
        return [
            Note(self.detector, self.memory.names[k], "fewer than 24 days with expectations in the reference")
            for k in self.tested
            if len(self.rows[k]) < need
        ]

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        names = self.memory.names
        rows = {names[k]: table for k, table in self.rows.items()}
        highs = {names[k]: ledger.rows for k, ledger in self.highs.items()}
        return {**super().dump(), "rows": rows, "highs": highs}

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back."""
        super().load(tree)
        for k in self.tested:
            name = self.memory.names[k]
            self.rows[k] = tree["rows"].get(name, self.rows[k])
            self.highs[k].rows = tree["highs"].get(name, self.highs[k].rows)
