"""Bunching just below the limit: more hours in the last 3 % below it than its neighbours and the past explain."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Note, Values
from stackwitness_detectors.daily import DAYS_PER_MONTH, SLIDING, DailyTest, Judged, day_hours
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import rough, series_of, short, span_ms
from stackwitness_detectors.quantiles import quantile

_COMMON = float(special.ndtri(0.95))
_BELOW, _ABOVE = 2, 1  # bins of one band each on either side of the judged one
_SMOOTH = 1.0 / (_BELOW + _ABOVE + 1)  # share of the judged bin when the limit is nothing special


class LimitDensity(DailyTest):
    """Score = z of the hours in [L - band, L) among [L - 3 band, L + band), counted by day (dispersion by day)."""

    name = "density"
    detector = "limit_density"
    family = "shape"
    kind = "below_limit"
    kinds = ("clip", "bunch", "generated", "limit_aware_scale")
    innocent = ("limit_control", "recalibration", "fuel_change")
    needs_reference = False

    def __init__(self, memory: Memory, config: Config) -> None:
        limited = [k for k in memory.indices("pollutant") if (memory.channels[k].limit or 0) > 0]
        super().__init__(memory, config, limited, config.density_budget)

    def measure(self, k: int, day: int) -> Judged | None:
        """Compare the window's share with the past's, or with a smooth density."""
        limit, config = float(self.memory.channels[k].limit or 0.0), self.config
        rows = day_hours(self.memory, day, config.density_window_days)
        judged, near = self._by_day(k, rows, limit)
        hits, n = float(judged.sum()), float(near.sum())
        if n < config.density_min_values:
            return None
        past_hits, past_n = self._by_day(k, slice(0, rows.start), limit)
        before = float(past_n.sum())
        usual = max(_SMOOTH, (float(past_hits.sum()) + 20 * _SMOOTH) / (before + 20))
        share = hits / n
        days = max(int((near > 0).sum()), 1)
        spread = float(((judged - near * share) ** 2).sum()) * days / max(days - 1, 1)
        dispersion = max(1.0, spread / max(n * max(share * (1 - share), 0.05), 1e-9))
        variance = usual * (1 - usual) * (1 / n + 1 / (before + 20)) * dispersion
        z = (share - usual) / math.sqrt(variance)
        numbers: dict[str, float | int | str] = {
            "limit": limit,
            "just_below": int(hits),
            "near": int(n),
            "share_percent": 100 * share,
            "usual_percent": 100 * usual,
            "above": self._above(k, rows, limit),
        }
        return Judged(z, (day - config.density_window_days + 1) * DAY_MS, (day + 1) * DAY_MS - 1, numbers)

    def rate(self, k: int, judged: Judged) -> float | None:
        """Widen the normal law by how much the channel's own ordinary fortnights exceed it."""
        past = self.past[k]
        wide = 1.0
        if len(past) >= self.config.calibration_min_days:
            wide = max(1.0, quantile(past, 0.95) / _COMMON)
        p = float(special.ndtr(-judged.score / wide))
        return SLIDING * p * DAYS_PER_MONTH / self.config.density_window_days

    def _values(self, k: int, rows: slice) -> tuple[Values, Any]:
        hours = self.memory.hours
        y = np.where(hours.view("claimed")[rows, k], np.nan, hours.view("mean")[rows, k])
        return y, hours.view("hour")[rows] // 24

    def _above(self, k: int, rows: slice, limit: float) -> int:
        return int((self._values(k, rows)[0] >= limit).sum())

    def _by_day(self, k: int, rows: slice, limit: float) -> tuple[Values, Values]:
        """Count per day the hours just below the limit, and near it."""
        y, day = self._values(k, rows)
        band = self.config.density_band * limit
        near = (y >= limit - (_BELOW + 1) * band) & (y < limit + _ABOVE * band)
        hit = (y >= limit - band) & (y < limit)
        if not len(day):
            return np.zeros(1), np.zeros(1)
        _, index = np.unique(day, return_inverse=True)
        return np.bincount(index, hit).astype(np.float64), np.bincount(index, near).astype(np.float64)

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        limit, band = float(n["limit"]), self.config.density_band * float(n["limit"])
        share, usual = rough(float(n["share_percent"])), rough(float(n["usual_percent"]))
        en = (
            f"{channel.name}: {n['just_below']} of {n['near']} hours near the limit of {short(limit)} "
            f"{channel.unit} lie in the last 3 % below it ({share} %, expected {usual} %); {n['above']} lie above."
        )
        zh = (
            f"{channel.name}:限值 {short(limit)} {channel.unit} 附近的 {n['near']} 个小时中有 {n['just_below']} 个"
            f"位于限值下方 3 % 内({share} %,预期 {usual} %);超过限值的有 {n['above']} 个。"
        )
        rows = day_hours(self.memory, judged.to_ms // DAY_MS, self.config.density_window_days)
        edges = [limit + j * band for j in range(-8, 9)]
        now, _ = self._values(k, rows)
        before, _ = self._values(k, slice(0, rows.start))
        plot = {
            "kind": "density",
            "title_en": f"{channel.name} just below its limit",
            "title_zh": f"{channel.name} 集中于限值下方",
            "series": series_of(self.memory, [k], *span_ms(self.memory, judged.from_ms, judged.to_ms)),
            "limit": limit,
            "histogram": {
                "edges": [float(f"{e:.6g}") for e in edges],
                "counts": np.histogram(now[np.isfinite(now)], edges)[0].tolist(),
                "reference": np.histogram(before[np.isfinite(before)], edges)[0].tolist(),
                "mark": limit,
                "label_en": f"hourly {channel.name}, {channel.unit}",
                "label_zh": f"{channel.name} 小时值,{channel.unit}",
            },
        }
        return en, zh, plot

    def notes(self) -> list[Note]:
        """Say which pollutants have no limit."""
        names, tested = self.memory.names, set(self.tested)
        open_ended = [k for k in self.memory.indices("pollutant") if k not in tested]
        return [
            Note(self.detector, names[k], "no_limit", "no limit is set for this channel") for k in open_ended
        ]
