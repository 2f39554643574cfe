"""Bunching just below the limit: more hours in the last few per cent below it than its neighbours and the past explain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Note, Values
from stackwitness_detectors.daily import DAYS_PER_MONTH, SLIDING, DailyTest, Judged, day_hours
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import rough, series_of, short, span_ms
from stackwitness_detectors.quantiles import quantile

_COMMON = float(
    special.ndtri(1 - 0.05 / 3)
)  # the largest of five looks, some alike, exceeds this on one day in twenty
_HOLE = 0.9  # of the hours in bands on both sides: fewer below the limit, and there is no hole above it
_DAYS_DIFFER = (
    0.6  # power of how much more days of the past differ than hours would: days in a row are alike, not equal
)
_PRIOR = 20.0  # hours as a smooth density has them
_SLOPE_HOURS = 30  # below the bands: fewer tell nothing of how the density falls


@dataclass(frozen=True)
class Zone:
    """Hold one comparison, in bands of `band` x limit: the judged band ends at the limit, others lie beside it."""

    band: float
    below: int
    above: int

    def smooth(self, ratio: float) -> float:
        """Give the judged band's share where each band holds `ratio` times what the one below it does."""
        steps = ratio ** np.arange(-self.below, self.above + 1)
        return float(1.0 / steps.sum())


# What is clamped or moved lies within 3 or 5 % below the limit; what was moved is missing within 5 or 15 % above it.
ZONES = (Zone(0.03, 2, 1), Zone(0.05, 0, 1), Zone(0.05, 0, 3))
LOOKS = (*((14, zone) for zone in ZONES), *((7, zone) for zone in ZONES if not zone.below))


class LimitDensity(DailyTest):
    """Score = z of the hours in [L - band, L) among the bands beside it, the oddest zone; dispersion by day."""

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
        """Compare the window's shares with the past's, or with a smooth density."""
        limit = float(self.memory.channels[k].limit or 0.0)
        best: Judged | None = None
        for days, zone in LOOKS:
            rows = day_hours(self.memory, day, days)
            found = self._compare(k, rows, limit, zone)
            if found is not None and (best is None or found[0] > best.score):
                z, hits, n, share, usual = found
                numbers: dict[str, float | int | str] = {
                    "limit": limit,
                    "band_percent": 100 * zone.band,
                    "just_below": int(hits),
                    "near": int(n),
                    "share_percent": 100 * share,
                    "usual_percent": 100 * usual,
                    "above": self._above(k, rows, limit),
                    "days": days,
                }
                best = Judged(z, (day - days + 1) * DAY_MS, (day + 1) * DAY_MS - 1, numbers)
        return best

    def _compare(
        self, k: int, rows: slice, limit: float, zone: Zone
    ) -> tuple[float, float, float, float, float] | None:
        """Give z, hours in the band and in the zone, their share and the usual one; None with too few hours."""
        judged, near = self._by_day(k, rows, limit, zone)
        hits, n = float(judged.sum()), float(near.sum())
        if n < self.config.density_min_values:
            return None
        past_hits, past_n = self._by_day(k, slice(0, rows.start), limit, zone)
        before = float(past_n.sum())
        smooth = zone.smooth(1.0)
        if not zone.below:
            ratio = self._falls(k, rows, limit, zone.band)
            if ratio is None:
                return None
            smooth = zone.smooth(ratio)
        usual = max(smooth, (float(past_hits.sum()) + _PRIOR * smooth) / (before + _PRIOR))
        share = hits / n
        if not zone.below and share < _HOLE:
            return None
        days = max(int((near > 0).sum()), 1)
        spread = float(((judged - near * share) ** 2).sum()) * days / max(days - 1, 1)
        dispersion = max(1.0, spread / max(n * max(share * (1 - share), 0.05), 1e-9))
        if not zone.below and before > 0:
            # A band that is full on every day tells nothing of how days differ: the past does.
            often = float(past_hits.sum()) / before
            apart = float(((past_hits - past_n * often) ** 2).sum())
            dispersion = max(dispersion, (apart / max(before * often * (1 - often), 1.0)) ** _DAYS_DIFFER)
        variance = usual * (1 - usual) * (1 / n + 1 / (before + _PRIOR)) * dispersion
        return (share - usual) / math.sqrt(variance), hits, n, share, usual

    def _falls(self, k: int, rows: slice, limit: float, band: float) -> float | None:
        """Give how the density falls from band to band on the way to the limit (at most 1), window and past together."""
        y, _ = self._values(k, slice(0, rows.stop))
        edges = limit * (1.0 - band * np.array([3.0, 2.0, 1.0]))
        low, high = np.histogram(y[np.isfinite(y)], edges)[0].tolist()
        return None if low + high < _SLOPE_HOURS else min(1.0, (high + 1.0) / (low + 1.0))

    def rate(self, k: int, judged: Judged) -> float | None:
        """Widen the normal law by how much the channel's own ordinary fortnights exceed it."""
        past = self.past[k]
        wide = 1.0
        if len(past) >= self.config.calibration_min_days:
            wide = max(1.0, quantile(past, 0.95) / _COMMON)
        p = float(special.ndtr(-judged.score / wide))
        return len(LOOKS) * SLIDING * p * DAYS_PER_MONTH / LOOKS[0][0]

    def _values(self, k: int, rows: slice) -> tuple[Values, Any]:
        hours = self.memory.hours
        y = np.where(hours.view("claimed")[rows, k], np.nan, hours.view("mean")[rows, k])
        return y, hours.view("hour")[rows] // 24

    def _above(self, k: int, rows: slice, limit: float) -> int:
        return int((self._values(k, rows)[0] >= limit).sum())

    def _by_day(self, k: int, rows: slice, limit: float, zone: Zone) -> tuple[Values, Values]:
        """Count per day the hours just below the limit, and near it."""
        y, day = self._values(k, rows)
        band = zone.band * limit
        near = (y >= limit - (zone.below + 1) * band) & (y < limit + zone.above * band)
        hit = (y >= limit - band) & (y < limit)
        if not len(day):
            return np.zeros(1), np.zeros(1)
        _, index = np.unique(day, return_inverse=True)
        return np.bincount(index, hit).astype(np.float64), np.bincount(index, near).astype(np.float64)

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        limit, percent = float(n["limit"]), short(float(n["band_percent"]))
        band = 0.01 * float(n["band_percent"]) * limit
        share, usual = rough(float(n["share_percent"])), rough(float(n["usual_percent"]))
        en = (
            f"{channel.name}: {n['just_below']} of {n['near']} hours near the limit of {short(limit)} "
            f"{channel.unit} lie in the last {percent} % below it ({share} %, expected {usual} %); {n['above']} lie above."
        )
        zh = (
            f"{channel.name}:限值 {short(limit)} {channel.unit} 附近的 {n['near']} 个小时中有 {n['just_below']} 个"
            f"位于限值下方 {percent} % 内({share} %,预期 {usual} %);超过限值的有 {n['above']} 个。"
        )
        rows = day_hours(self.memory, judged.to_ms // DAY_MS, int(n["days"]))
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
