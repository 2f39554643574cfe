"""Missing when high: Fisher's exact test of "invalid or missing" against "the model expects a high value"."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Values
from stackwitness_detectors.daily import DAYS_PER_MONTH, SLIDING, DailyTest, Judged, day_hours
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import rough, series_of, short, span_ms
from stackwitness_detectors.quantiles import quantile

_DAYS = 14
_NEAR_LIMIT = 0.9  # of the limit: the model's expectation is smoother than the hours themselves
_HIGH_SHARE = 0.85  # without a limit, or far below it: the highest 15 % of what is expected
_LEAST_HIGH = 8
_SENT = 50.0  # per cent of the missing high hours for which a value was sent beside the mark
_LEAST_GAPS = 4
_SCHEDULED = 0.5  # share of days on which an hour of the day is missing


class Marks(Protocol):
    """What the test of marks knows: whether a value was sent beside a mark."""

    def sent_share(self, k: int, hours: NDArray[np.int64]) -> float:
        """Give the share of clock hours for which a value was sent although none counts."""


class MissingWhenHigh(DailyTest):
    """Score = -log10 p of the last 14 days; a gap of many hours counts as one chance, not as many."""

    name = "availability"
    detector = "missing_when_high"
    family = "availability"
    kind = "missing_when_high"
    kinds = ("missing_when_high", "status_abuse", "selective_transmission")
    innocent = ("load_related_fault", "instrument_fault", "covariate_fault")
    needs_reference = False

    def __init__(self, memory: Memory, config: Config, residuals: Residuals, marks: Marks) -> None:
        super().__init__(memory, config, residuals.targets, config.availability_budget)
        self.residuals, self.marks = residuals, marks

    def measure(self, k: int, day: int) -> Judged | None:
        """Count present and missing hours, expected high and not."""
        rows = day_hours(self.memory, day, _DAYS)
        hours = self.memory.hours
        expected = hours.view("expected")[rows, k]
        # The schedule is learned before the window: what begins to fail every evening now is no schedule.
        before = slice(0, rows.start)
        gone = ~np.isfinite(hours.view("mean")[before, k])
        routine = scheduled_hours(hours.view("hour")[before] % 24, gone)
        known = np.isfinite(expected) & ~routine[hours.view("hour")[rows] % 24]
        reported = hours.view("mean")[rows, k][known]
        expected = expected[known]
        missing, marked = ~np.isfinite(reported), hours.view("marked")[rows, k][known]
        if missing.sum() < self.config.missing_min_hours or missing.all():
            return None
        limit = self.memory.channels[k].limit
        level = quantile(expected, _HIGH_SHARE)
        if limit is not None and _LEAST_HIGH <= (expected >= _NEAR_LIMIT * limit).sum() <= 0.5 * len(
            expected
        ):
            level = _NEAR_LIMIT * limit
        high = expected >= level
        length = mean_gap(missing)
        both, low_missing = float((missing & high).sum()), float((missing & ~high).sum())
        present_high, present_low = float((~missing & high).sum()), float((~missing & ~high).sum())
        table = np.array(
            [[both / length, low_missing / length], [present_high / length, present_low / length]]
        )
        p = float(stats.fisher_exact(np.round(table).astype(np.int64), alternative="greater").pvalue)
        edges = p_of_edges(reported)
        sent = self.marks.sent_share(k, hours.view("hour")[rows][known][missing & high])
        numbers: dict[str, float | int | str] = {
            "edges_p": edges,
            "sent_percent": 100 * sent,
            "missing_hours": int(missing.sum()),
            "missing_high": int(both),
            "marked_high": int((missing & high & marked).sum()),
            "high_hours": int(high.sum()),
            "hours": len(expected),
            "level": level,
            "share_high_percent": 100 * both / max(float(high.sum()), 1.0),
            "share_other_percent": 100 * low_missing / max(float((~high).sum()), 1.0),
            "mean_gap_hours": length,
        }
        p = min(1.0, 2.0 * min(p, edges))
        score = -float(np.log10(max(p, 1e-300)))
        least = SLIDING * p * DAYS_PER_MONTH / _DAYS
        return Judged(score, (day - _DAYS + 1) * DAY_MS, (day + 1) * DAY_MS - 1, numbers, least)

    def rate(self, k: int, judged: Judged) -> float | None:
        """Trust the exact test: ordinary days without gaps give no reference to compare with."""
        return judged.least_rate

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """Rank hiding behind marks first where most of these hours carry one beside their value."""
        if float(judged.numbers["sent_percent"]) < _SENT:
            return self.kinds
        return ("status_abuse", "missing_when_high", "selective_transmission")

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        high, other = rough(float(n["share_high_percent"])), rough(float(n["share_other_percent"]))
        level = short(float(n["level"]))
        en = (
            f"{channel.name} is missing or invalid in {n['missing_high']} of {n['high_hours']} hours for which the "
            f"model expects at least {level} {channel.unit} ({high} %), but in {other} % of the other hours."
        )
        zh = (
            f"模型预期不低于 {level} {channel.unit} 的 {n['high_hours']} 个小时中,{channel.name} 有 "
            f"{n['missing_high']} 个缺失或无效({high} %),其他小时仅 {other} %。"
        )
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        plot: dict[str, Any] = {
            "kind": "missing",
            "title_en": f"{channel.name} missing when expected high",
            "title_zh": f"{channel.name} 预期偏高时缺失",
            "series": series_of(self.memory, [k, *self.memory.indices("load")[:1]], first, last),
            "band": self.residuals.band(k, first, last, judged.from_ms),
        }
        if channel.limit is not None:
            plot["limit"] = channel.limit
        return en, zh, plot

    def notes(self) -> list[Any]:
        """Its need of a model is noted by the model."""
        return []


def p_of_edges(reported: Values) -> float:
    """Give the probability that the readings beside gaps stand so high among all (one mean rank a gap).

    Who loses what exceeds a level leaves gaps between readings just below it, whatever a model knows.
    """
    present = np.isfinite(reported)
    order = np.sort(reported[present])
    starts = np.flatnonzero(present[:-1] & ~present[1:])
    ends = np.flatnonzero(~present[:-1] & present[1:]) + 1
    if not len(order) or min(len(starts), len(ends)) < _LEAST_GAPS:
        return 1.0

    def rank(at: NDArray[np.int64]) -> Values:
        found: Values = (
            np.searchsorted(order, reported[at]) + np.searchsorted(order, reported[at], "right")
        ) / (2.0 * len(order))
        return found

    gaps = min(len(starts), len(ends))
    mean = float(np.concatenate([rank(starts), rank(ends)]).mean())
    # The two readings of a gap say nearly the same: it counts once. A mean of n ranks has variance 1 / 12 n.
    return float(stats.norm.sf((mean - 0.5) * np.sqrt(12.0 * gaps)))


def scheduled_hours(hour_of_day: NDArray[np.int64], missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell for each hour of the day whether it is missing every other day or oftener: a daily calibration."""
    total = np.bincount(hour_of_day, minlength=24)
    gone = np.bincount(hour_of_day, missing, minlength=24)
    often: NDArray[np.bool_] = (gone >= _SCHEDULED * total) & (total >= 7)
    return often


def mean_gap(missing: NDArray[np.bool_]) -> float:
    """Give the mean length of runs of missing hours."""
    starts = int((missing & ~np.concatenate([[False], missing[:-1]])).sum())
    return float(missing.sum()) / max(starts, 1)
