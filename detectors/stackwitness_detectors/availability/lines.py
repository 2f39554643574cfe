"""Filled lines: readings that lie on straight lines to the last step, oftener or longer than the past has them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Values
from stackwitness_detectors.daily import DAYS_PER_MONTH, SLIDING, Judged
from stackwitness_detectors.memory import DAY_MS, HOUR_MS, Memory
from stackwitness_detectors.plots import rough, series_of, span_ms
from stackwitness_detectors.quantiles import quantile
from stackwitness_detectors.shape.daily_digits import DigitTest
from stackwitness_detectors.shape.grid import dispersion
from stackwitness_detectors.shape.units import DigitReader, Digits

_WINDOWS = (1, 7, 30)
_NEAR = 1.5  # steps of the last place off the line: rounding alone puts half of filled values there
_LEAST_RISE = 3.0  # steps between the two neighbours: less is a hold, not a line
_LEAST_TRIPLES = 12
_LEAST_PAST = 200
_LEAST_HITS = 2
_BRIDGED = (
    0.05  # a month: how often a logger at least bridges a gap by itself (a gas turbine: once in 20 months)
)
_LONGER = 0.5  # of the gaps it bridges are longer by one more reading
_SHORT_RUN = 3
_MOST_USUAL = 0.2  # share of readings on a line by chance: more, and the resolution is too coarse
_PRIOR = 10.0  # readings after one on a line, as likely as any other to be on one
_QUIET = 1.0  # the score of a day without lines, and the least one


class Lines(DigitTest):
    """Score = -log10 p of the count of readings midway between their neighbours (1, 7, 30 days) or the longest line."""

    name = "lines"
    detector = "filled_line"
    family = "availability"
    kind = "filled_line"
    kinds = ("backfill", "smoothed", "averaging_game")
    innocent = ("acquisition_hold", "substitute_data", "steady_operation")

    def __init__(self, memory: Memory, config: Config, reader: DigitReader) -> None:
        super().__init__(memory, config, reader, config.lines_budget)

    def weigh(self, k: int, day: int, digits: Digits) -> Judged | None:
        """Count lines in the windows, against how often three readings lie on one by chance."""
        at_ms = self.memory.rows.view("at_ms")
        on = straight(at_ms, digits.units.whole(self.memory.rows.view("values")[:, k]))
        cut = int(np.searchsorted(at_ms, (day - _past_gap(at_ms, day)) * DAY_MS))
        past = on[:cut][np.isfinite(on[:cut])]
        if len(past) < _LEAST_PAST:
            self.why[k] = (
                "history",
                "too few readings that move, to know how often three lie on a line by chance",
            )
            return None
        chance = chance_of(past)
        if chance.usual > _MOST_USUAL:
            self.why[k] = "digits", "it moves by few steps of its resolution: lines come about by chance"
            return None
        best: Judged | None = None
        for days in _WINDOWS:
            first, last = np.searchsorted(at_ms, [(day + 1 - days) * DAY_MS, (day + 1) * DAY_MS])
            if first < cut and days > 1:
                continue
            best = _better(best, _judged(on[first:last], chance, day, days))
        return best

    def rate(self, k: int, judged: Judged) -> float | None:
        """Take the binomial law, widened by what the channel's own days exceed it."""
        past, wide = self.past[k], 1.0
        tries = 2 * len(_WINDOWS)
        if len(past) >= self.config.calibration_min_days:
            wide = max(1.0, quantile(past, 0.95) / math.log10(20.0 * tries))
        if judged.score <= _QUIET:
            return math.inf
        law = float(SLIDING * tries * 10.0 ** (-judged.score / wide) * DAYS_PER_MONTH)
        # Gaps that the logger bridges by itself come in bunches: the law alone knows nothing of them.
        own = (
            super().rate(k, judged)
            if len(past) >= self.config.calibration_min_days and judged.score > 0
            else law
        )
        return max(law, own or 0.0, bridged_by_itself(judged.numbers))

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        name, n = self.memory.names[k], judged.numbers
        usual = rough(float(n["usual_percent"]))
        en = (
            f"{n['midway']} of {n['readings']} readings of {name} within {n['days']} days lie exactly midway between their "
            f"neighbours ({usual} % do so by chance), up to {n['longest']} in a row."
        )
        zh = (
            f"{name} {n['days']} 天内的 {n['readings']} 个读数中有 {n['midway']} 个恰位于相邻读数的中点"
            f"(偶然为 {usual} %),最多连续 {n['longest']} 个。"
        )
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        plot = {
            "kind": "hold",
            "title_en": f"{name} on straight lines",
            "title_zh": f"{name} 呈直线",
            "series": series_of(self.memory, [k], first, last),
            "marks": self._midway(k, judged),
        }
        return en, zh, plot

    def _midway(self, k: int, judged: Judged) -> list[int]:
        """Give the times of the readings that lie midway, the newest where there are many."""
        digits = self.reader.read(k, judged.to_ms // DAY_MS)
        if not isinstance(digits, Digits):
            return []
        at_ms = self.memory.rows.view("at_ms")
        on = straight(at_ms, digits.units.whole(self.memory.rows.view("values")[:, k]))
        told = (on > 0) & (at_ms >= judged.from_ms) & (at_ms <= judged.to_ms)
        return [int(t) for t in at_ms[told][-self.config.plot_points :]]


def bridged_by_itself(numbers: dict[str, float | int | str]) -> float:
    """Expect so often a month as many gaps, or as long a one, that a logger has bridged by itself."""
    days, stretches, longest = (float(numbers[key]) for key in ("days", "stretches", "longest"))
    usual = _BRIDGED * days / DAYS_PER_MONTH
    many = float(stats.poisson.sf(stretches - 1, usual)) * DAYS_PER_MONTH / days
    return float(min(many, _BRIDGED * _LONGER ** max(longest - _SHORT_RUN, 0.0)))


def straight(at_ms: Any, whole: Values) -> Values:
    """Tell for each reading whether it lies midway between its neighbours: 1, 0, or NaN (no neighbours, a hold)."""
    on = np.full(len(whole), np.nan)
    if len(whole) < 3:
        return on
    before, here, after = whole[:-2], whole[1:-1], whole[2:]
    even = np.diff(at_ms)[:-1] == np.diff(at_ms)[1:]
    near = np.diff(at_ms)[1:] <= 2 * HOUR_MS
    judged = even & near & (np.abs(after - before) >= _LEAST_RISE)
    off = np.abs(before - 2 * here + after)
    on[1:-1] = np.where(judged & np.isfinite(off), off <= _NEAR, np.nan)
    return on


def _past_gap(at_ms: Any, day: int) -> int:
    """Leave a month out of the past where there is more than two, else a week, else three days."""
    kept = day - int(at_ms[0]) // DAY_MS
    return 30 if kept > 75 else 7 if kept > 21 else 3


@dataclass(frozen=True)
class Chance:
    """Hold how often a reading lies on a line by chance, how often one does after one that did, how bunched they come."""

    usual: float
    again: float
    bunched: float


def chance_of(past: Values) -> Chance:
    """Count the past [n] of ones (on a line) and zeros: readings a few steps above a floor come in lines by themselves."""
    usual = (float(past.sum()) + 1.0) / (len(past) + 2.0)
    after = past[1:][past[:-1] > 0]
    again = (float(after.sum()) + _PRIOR * usual) / (len(after) + _PRIOR)
    return Chance(usual, max(usual, again), dispersion(past))


def _judged(on: Values, chance: Chance, day: int, days: int) -> Judged | None:
    hits = on[np.isfinite(on)]
    if len(hits) < _LEAST_TRIPLES:
        return None
    count, run = int(hits.sum()), _longest(hits)
    if count < _LEAST_HITS:
        return Judged(_QUIET, day * DAY_MS, (day + 1) * DAY_MS - 1, {})
    usual, bunched = chance.usual, chance.bunched
    one_run = math.log(len(hits)) + math.log(usual) + (run - 1) * math.log(chance.again)
    log_p = min(
        float(stats.binom.logsf(math.ceil(count / bunched) - 1, math.ceil(len(hits) / bunched), usual)),
        one_run if run >= _LEAST_HITS else 0.0,
    )
    numbers: dict[str, float | int | str] = {
        "midway": count, "readings": len(hits), "usual_percent": 100 * usual, "longest": run, "days": days,
        "stretches": int((np.diff(hits, prepend=0.0) > 0).sum()),
    }  # fmt: skip
    return Judged(
        max(-log_p / math.log(10.0), 0.0), (day - days + 1) * DAY_MS, (day + 1) * DAY_MS - 1, numbers
    )


def _longest(hits: Values) -> int:
    longest = run = 0
    for hit in hits.tolist():
        run = run + 1 if hit else 0
        longest = max(longest, run)
    return longest


def _better(one: Judged | None, other: Judged | None) -> Judged | None:
    if one is None or other is None:
        return one or other
    return other if other.score > one.score else one
