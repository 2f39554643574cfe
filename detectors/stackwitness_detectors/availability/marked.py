"""Marked when high: readings above the limit carry a mark that takes them out of the report; the values tell."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stackwitness_detectors.availability.missing import mean_gap, scheduled_hours
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note
from stackwitness_detectors.daily import DAYS_PER_MONTH, SLIDING, DailyTest, Judged
from stackwitness_detectors.memory import DAY_MS, HOUR_MS, MEASURING, Block, Memory, Table, place_of
from stackwitness_detectors.plots import rough, series_of, short, span_ms
from stackwitness_detectors.quantiles import quantile

_HOURS = 24 * 45
_WINDOWS = (3, 14)
_HIGH_SHARE = 0.85
_LEAST_MARKED = 3
_LEAST_BEFORE = 24 * 10
_LEAST_HOURS = 48


class MarkedHigh(DailyTest):
    """Score = -log10 p (Fisher) of "marked" against "the value sent with the mark is high", the last 3 and 14 days."""

    name = "marked_high"
    detector = "marked_high"
    family = "availability"
    kind = "marked_high"
    kinds = ("status_abuse", "missing_when_high", "selective_transmission")
    innocent = ("load_related_fault", "instrument_fault", "recalibration")
    needs_reference = False

    def __init__(self, memory: Memory, config: Config) -> None:
        super().__init__(memory, config, memory.indices("pollutant", "flow"), config.marked_high_budget)
        width = len(self.tested)
        self.table = Table(_HOURS, {"hour": ("<i8", -1), "sent": ("<f8", width), "marked": ("|b1", width)})

    def hour(self, block: Block) -> list[Finding]:
        """Keep what was sent, marked or not: the mean of the marked samples where there are any."""
        values, off = block.values[:, self.tested], ~MEASURING[block.letters[:, self.tested]]
        known = np.isfinite(values)
        marked = (known & off).any(axis=0)
        chosen = known & (off | ~marked)
        count = chosen.sum(axis=0)
        sent = np.where(count > 0, np.where(chosen, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
        self.table.append(block.hour, sent, marked)
        return []

    def sent_share(self, k: int, hours: NDArray[np.int64]) -> float:
        """Give the share of clock hours for which a value was sent although none counts."""
        if k not in self.tested or not len(hours):
            return 0.0
        kept = self.table.view("hour")
        at = np.searchsorted(kept, hours)
        found = at < len(kept)
        sent = self.table.view("sent")[np.minimum(at, len(kept) - 1), self.tested.index(k)]
        return float((found & np.isfinite(sent)).mean())

    def measure(self, k: int, day: int) -> Judged | None:
        """Count high and other hours, marked and not."""
        j, hour = self.tested.index(k), self.table.view("hour")
        sent, marked = self.table.view("sent")[:, j], self.table.view("marked")[:, j]
        limit = self.memory.channels[k].limit
        best: Judged | None = None
        for days in _WINDOWS:
            first, last = np.searchsorted(hour, [(day - days + 1) * 24, (day + 1) * 24])
            if first < _LEAST_BEFORE:
                continue  # which hours are marked by routine is not known yet
            routine = scheduled_hours(hour[:first] % 24, marked[:first])
            use = np.isfinite(sent[first:last]) & ~routine[hour[first:last] % 24]
            y, m = sent[first:last][use], marked[first:last][use]
            if len(y) < _LEAST_HOURS or m.sum() < _LEAST_MARKED or m.all():
                continue
            level = quantile(y, _HIGH_SHARE)
            if limit is not None and _LEAST_MARKED <= (y > limit).sum() <= 0.5 * len(y):
                level = limit
            best = self._judged(best, y > level, m, level, day, days)
        return best

    def _judged(
        self, best: Judged | None, high: Any, m: Any, level: float, day: int, days: int
    ) -> Judged | None:
        length = mean_gap(m)
        table = np.array([[(m & high).sum(), (m & ~high).sum()], [(~m & high).sum(), (~m & ~high).sum()]])
        p = float(stats.fisher_exact(np.ceil(table / length).astype(np.int64), alternative="greater").pvalue)
        score = -float(np.log10(max(p, 1e-300)))
        if best is not None and best.score >= score:
            return best
        numbers: dict[str, float | int | str] = {
            "marked": int(m.sum()), "marked_high": int((m & high).sum()), "high_hours": int(high.sum()), "hours": len(m),
            "level": level, "mean_mark_hours": length, "days": days,
            "share_high_percent": 100 * float((m & high).sum()) / max(float(high.sum()), 1.0),
            "share_other_percent": 100 * float((m & ~high).sum()) / max(float((~high).sum()), 1.0),
        }  # fmt: skip
        return Judged(score, (day - days + 1) * DAY_MS, (day + 1) * DAY_MS - 1, numbers)

    def rate(self, k: int, judged: Judged) -> float | None:
        """Take the exact test, widened by what the channel's own days exceed it."""
        past, wide = self.past[k], 1.0
        if len(past) >= self.config.calibration_min_days:
            wide = max(1.0, quantile(past, 0.95) / float(np.log10(20.0 * len(_WINDOWS))))
        return float(SLIDING * len(_WINDOWS) * 10.0 ** (-judged.score / wide) * DAYS_PER_MONTH / 7)

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        high, other = (rough(float(n[f"share_{which}_percent"])) for which in ("high", "other"))
        level = short(float(n["level"]))
        en = (
            f"{channel.name} carries a mark that takes it out of the report in {n['marked_high']} of {n['high_hours']} hours "
            f"in which more than {level} {channel.unit} was sent ({high} %), but in {other} % of the other hours."
        )
        zh = (
            f"{channel.name} 在所传数值高于 {level} {channel.unit} 的 {n['high_hours']} 个小时中有 {n['marked_high']} 个带有"
            f"不计入统计的标记({high} %),其他小时仅 {other} %。"
        )
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        plot: dict[str, Any] = {
            "kind": "missing",
            "title_en": f"{channel.name} marked when high",
            "title_zh": f"{channel.name} 偏高时被标记",
            "series": series_of(self.memory, [k, *self.memory.indices("load")[:1]], first, last),
            "marks": self._high(k, judged, float(n["level"])),
        }
        if channel.limit is not None:
            plot["limit"] = channel.limit
        return en, zh, plot

    def _high(self, k: int, judged: Judged, level: float) -> list[int]:
        """Give the hours that were sent high and marked."""
        j, hour = self.tested.index(k), self.table.view("hour")
        odd = (self.table.view("sent")[:, j] > level) & self.table.view("marked")[:, j]
        odd &= (hour * HOUR_MS >= judged.from_ms) & (hour * HOUR_MS <= judged.to_ms)
        return [int(at) * HOUR_MS for at in hour[odd][-self.config.plot_points :]]

    def notes(self) -> list[Note]:
        """Without marks there is nothing to judge and nothing to say."""
        return []

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        names = [self.memory.names[k] for k in self.tested]
        return {**super().dump(), "names": names, "table": self.table.dump()}

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back; channels are matched by name."""
        super().load(tree)
        self.table.load(
            tree["table"], place_of(tuple(self.memory.names[k] for k in self.tested), tree["names"])
        )
