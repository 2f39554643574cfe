"""ECOD (Li et al. 2022, the numbers of PyOD) on daily features of a channel's residuals, fitted on its own earlier days."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Values
from stackwitness_detectors.daily import DailyTest, Judged, day_hours
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import rough, series_of, span_ms
from stackwitness_detectors.tail import monthly_rate

FEATURES = ("mean", "spread", "movement", "lag1", "correlation", "still", "range")
_LEAST_DAYS = 45  # fewer days than this tell nothing of tails in seven dimensions
_STEEPNESS = 3.0  # scores fall off exponentially: exp(score / 3) gives them a Pareto tail


class SecondOpinion(DailyTest):
    """Score = exp(ECOD / 3) of the day among the channel's earlier unflagged days."""

    name = "second_opinion"
    detector = "ecod"
    family = "second_opinion"
    kind = "odd_features"
    kinds = ("generated", "smoothed", "near_freeze", "replay_disguised", "scale")
    innocent = ("instrument_fault", "treatment_change", "recalibration", "covariate_fault")

    def __init__(self, memory: Memory, config: Config, residuals: Residuals, others: list[DailyTest]) -> None:
        super().__init__(memory, config, residuals.principal, config.second_opinion_budget)
        self.residuals, self.others = residuals, others
        self.rows: dict[int, Values] = {k: np.empty((0, len(FEATURES))) for k in residuals.principal}
        self.young: dict[int, list[tuple[int, list[float]]]] = {k: [] for k in residuals.principal}

    def muted(self, k: int, day: int) -> bool:
        """Speak only of what no test has named."""
        return any(self.memory.names[k] in other.episodes for other in self.others)

    def day(self, day: int) -> list[Finding]:
        """Judge as any daily test, with the day's features as the reference of days to come."""
        findings = []
        for k in self.tested:
            for earlier in self.residuals.fresh.get(k, []):
                self._keep(k, self.features(k, earlier))
            while self.young[k] and self.young[k][0][0] <= day - self.config.reference_lag_days:
                self._keep(k, np.array(self.young[k].pop(0)[1]))
            row = self.features(k, day)
            if row is None:
                findings += self._quiet(k, day)
                continue
            judged, rate = self._score(k, day, row)
            if judged is not None and rate <= self.budget and self.budget > 0:
                if not self.muted(k, day):
                    findings += self._flag(k, judged, rate)
                continue
            self.young[k].append((day, row.tolist()))
            findings += self._quiet(k, day)
        return findings

    def features(self, k: int, day: int) -> Values | None:
        """Describe one day of one channel, None with too few hours."""
        model = self.residuals.models.get(k)
        rows = day_hours(self.memory, day)
        residual = self.residuals.residual(k, rows)
        known = np.isfinite(residual)
        if model is None or known.sum() < self.config.day_min_hours:
            return None
        r = residual[known]
        expected = model.transform(self.memory.hours.view("expected")[rows, k][known])
        y = expected + r
        tiny = 1e-6 + 1e-3 * model.residual_spread
        centred = r - r.mean()
        lag1 = float((centred[1:] * centred[:-1]).sum() / max(float((centred**2).sum()), tiny**2))
        swing, spread = float(expected.std()), float(y.std())
        link = float(np.corrcoef(y, expected)[0, 1]) if min(swing, spread) > tiny else 0.0
        return np.array(
            [
                r.mean() / model.residual_spread,
                math.log(float(r.std()) + tiny),
                math.log(float(np.abs(np.diff(y)).mean()) + tiny),
                lag1,
                link,
                float((np.diff(y) == 0).mean()),
                math.log(float(np.ptp(y)) + tiny),
            ]
        )

    def _keep(self, k: int, row: Values | None) -> None:
        if row is not None and np.isfinite(row).all():
            self.rows[k] = np.vstack([self.rows[k], row])[-self.config.history_days :]

    def _score(self, k: int, day: int, row: Values) -> tuple[Judged | None, float]:
        past = self.rows[k]
        if len(past) < _LEAST_DAYS or not np.isfinite(row).all():
            return None, math.inf
        reference, score = ecod_scores(past, row[None, :])
        x = math.exp(score / _STEEPNESS)
        rate = monthly_rate(
            x,
            np.sort(np.exp(reference / _STEEPNESS))[-max(6, len(past) // 8) :],
            len(past) / 30.0,
            self.config,
            self.config.daily_alpha_high,
        )
        numbers: dict[str, float | int | str] = {"ecod": score, "largest_before": float(reference.max())}
        if rate <= self.budget:
            low, centre, high = np.quantile(past, [0.25, 0.5, 0.75], axis=0)
            far = (row - centre) / np.where(high > low, high - low, 1.0)
            most = int(np.abs(far).argmax())
            numbers |= {"feature": FEATURES[most], "feature_spreads": float(far[most])}
        return Judged(x, day * DAY_MS, (day + 1) * DAY_MS - 1, numbers), rate

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        name, n = self.memory.names[k], judged.numbers
        score, before = rough(float(n["ecod"])), rough(float(n["largest_before"]))
        far = rough(float(n["feature_spreads"]))
        en = (
            f"The day of {name} as a whole is unlike its earlier days: ECOD {score}, largest before {before}; "
            f"furthest off is the {n['feature']} of its residuals ({far} quartile ranges)."
        )
        zh = (
            f"{name} 当日整体与以往不同:ECOD {score},此前最大 {before};"
            f"偏离最大的是残差特征 {n['feature']}({far} 个四分位距)。"
        )
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        plot = {
            "kind": "features",
            "title_en": f"{name}: an unusual day",
            "title_zh": f"{name}:异常的一天",
            "series": series_of(self.memory, [k, *self.memory.indices("load")[:1]], first, last),
            "band": self.residuals.band(k, first, last, judged.from_ms),
        }
        return en, zh, plot

    def notes(self) -> list[Any]:
        """Say nothing of its own: it is an addition."""
        return []

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        names = self.memory.names
        return {
            **super().dump(),
            "rows": {names[k]: rows for k, rows in self.rows.items()},
            "young": {names[k]: young for k, young in self.young.items()},
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back."""
        super().load(tree)
        here = {self.memory.names[k]: k for k in self.tested}
        for name, rows in tree["rows"].items():
            if name in here:
                self.rows[here[name]] = rows
                self.young[here[name]] = [(int(day), row) for day, row in tree["young"][name]]


def ecod_scores(reference: Values, rows: Values) -> tuple[Values, float]:
    """Score the reference [n, F] and the one row together by ECOD (Li et al. 2022); exchangeable when alike.

    PyOD's own gives the same numbers (tests hold it to that); loading it takes seconds, with matplotlib and numba.
    """
    x = np.vstack([reference, rows])
    # How rare a value is, by the share of values that are at most, or at least, as large.
    rarity = -np.log(np.linspace(1.0 / len(x), 1.0, len(x)))
    total = np.zeros(len(x))
    for column in x.T:
        ordered = np.sort(column)
        low = rarity[np.searchsorted(ordered, column, "right") - 1]
        high = rarity[len(x) - np.searchsorted(ordered, column, "left") - 1]
        skew = _skew_sign(column)
        skewed = low + high if skew == 0 else high if skew > 0 else low
        total += np.maximum(np.maximum(low, high), skewed)
    return total[:-1], float(total[-1])


def _skew_sign(column: Values) -> float:
    mean = float(column.mean())
    centred = column - mean
    squares = centred * centred
    if float(squares.mean()) <= (np.finfo(np.float64).eps * mean) ** 2:
        return 0.0
    return float(np.sign((squares * centred).mean()))
