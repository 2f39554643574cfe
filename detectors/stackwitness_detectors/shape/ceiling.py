"""A ceiling: hours pile up just below some level above which there are hardly any, unlike in the channel's past.

With a limit the level is sought in its last tenth; without one among the upper two fifths of the window. The scan
chooses the oddest level, so its score is compared with those of the channel's own earlier days, scanned alike.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Note, Values
from stackwitness_detectors.daily import DailyTest, Judged
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import rough, series_of, short, span_ms

_WINDOWS = (7, 14, 28)
BANDS = (0.01, 0.05)  # of the level: clamped values lie within a hundredth, moved ones within a twentieth
_ABOVE = 3.0  # bands above the level that should hold three times as many readings
_FROM, _TO = 0.55, 0.995
_STEPS = 30
_LEAST_BELOW = 6
_PRIOR = 12.0
_THIN = 1.3  # per cent of the level: half of what a clamp with its jitter makes lies nearer to the top
_SHARP = 0.4
_MOST_SCORE = 60.0
_PRECISE = 0.05  # residual spread of a model that can tell which hours would have exceeded a level
_HELD_BACK = (
    0.25  # share of a pile expected above it: fewer, and the unit simply ran at that output (full load)
)


class Ceiling(DailyTest):
    """Score = exp(0.4 z), z of the share of [c - band, c) among [c - band, c + 3 bands), days counted as clusters."""

    family = "shape"
    kind = "ceiling"
    kinds = ("clip", "bunch", "averaging_game", "span_change")
    innocent = ("limit_control", "steady_operation", "recalibration", "resolution_change")

    def __init__(self, memory: Memory, config: Config, residuals: Residuals, band: float) -> None:
        super().__init__(
            memory, config, memory.indices("pollutant", "flow"), config.ceiling_budget / len(BANDS)
        )
        self.band, self.residuals = band, residuals
        self.name = self.detector = f"ceiling_{100 * band:g}"
        self.others: list[Ceiling] = []

    def measure(self, k: int, day: int) -> Judged | None:
        """Scan levels, bands and windows."""
        hours = self.memory.hours
        hour = hours.view("hour")
        y = np.where(hours.view("claimed")[:, k], np.nan, hours.view("mean")[:, k])
        limit = self.memory.channels[k].limit
        best: Judged | None = None
        for days in _WINDOWS:
            first, last = np.searchsorted(hour, [(day - days + 1) * 24, (day + 1) * 24])
            before = int(np.searchsorted(hour, (day - days + 1 - 2) * 24))
            past = np.sort(y[:before][np.isfinite(y[:before])])
            use = np.isfinite(y[first:last])
            now, on = y[first:last][use], hour[first:last][use] // 24
            if len(now) < 12 * days or len(past) < 240:
                continue
            if limit is not None and limit > 0 and float((now > 0.9 * limit).sum()) >= _LEAST_BELOW:
                levels = limit * np.linspace(0.9, 1.0, _STEPS + 1)
            else:
                levels = np.unique(np.quantile(now, np.linspace(_FROM, _TO, _STEPS)))
                levels = levels * (1.0 + 1e-9)
            found = _scan(now, on, past, levels[levels > 0], self.band)
            if found is not None and (best is None or found[0] > float(best.numbers["z"])):
                z, level, below, above, share, usual = found
                pile = (now >= level * (1 - self.band)) & (now < level)
                driven = self._driven(k, hours.view("expected")[first:last, k][use][pile], level)
                numbers: dict[str, float | int | str] = {
                    "z": z,
                    "level": level,
                    "band_percent": 100 * self.band,
                    "below": below,
                    "above": above,
                    "share_percent": 100 * share,
                    "usual_percent": 100 * usual,
                    "days": days,
                    "driven": int(driven),
                }
                pile = now[(now >= 0.95 * level) & (now < level)]
                numbers["thickness_percent"] = 100 * float(np.median(pile.max() - pile)) / level
                score = math.exp(min(_SHARP * z, _MOST_SCORE))
                best = Judged(score, (day - days + 1) * DAY_MS, (day + 1) * DAY_MS - 1, numbers)
        return best

    def rate(self, k: int, judged: Judged) -> float | None:
        """Leave alone a pile that the drivers explain; it counts among the channel's own days all the same."""
        return math.inf if judged.numbers["driven"] else super().rate(k, judged)

    def _driven(self, k: int, expected: Values, level: float) -> bool:
        """Tell whether the drivers lead one to expect a pile [n] where it is: few of its hours would have exceeded the level."""
        model = self.residuals.models.get(k)
        known = expected[np.isfinite(expected)]
        if (
            model is None
            or not model.logarithmic
            or model.residual_spread > _PRECISE
            or 2 * len(known) < len(expected)
        ):
            return False
        return float((known >= level * (1.0 + 2.0 * model.residual_spread)).mean()) < _HELD_BACK

    def past_days(self, k: int) -> list[int]:
        """Learn from the remembered days at the beginning."""
        hour = self.memory.hours.view("hour")
        if self.past[k] or self.waiting[k] or not len(hour) or int(hour[-1] - hour[0]) < 24 * 28:
            return []
        return list(range(int(hour[0]) // 24 + 20, int(hour[-1]) // 24 - self.config.young_lag_days))

    def muted(self, k: int, day: int) -> bool:
        """Leave it to the other band when that one already speaks."""
        return any(self.memory.names[k] in other.episodes for other in self.others)

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """A narrow pile is a clamp, a wide one was moved there."""
        return (
            self.kinds if float(judged.numbers["band_percent"]) < 3 else ("bunch", "clip", "averaging_game")
        )

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        level, band, before = (
            short(float(n["level"])),
            short(float(n["band_percent"])),
            float(np.log(max(longest, 1.0))),
        )
        z, most = rough(float(n["z"])), rough(before / _SHARP)
        en = (
            f"{channel.name}: within {n['days']} days {n['below']} hours lie in the {band} % below {level} {channel.unit} and "
            f"{n['above']} in three times that width above it (z = {z}, most before {most})."
        )
        zh = (
            f"{channel.name}:{n['days']} 天内有 {n['below']} 个小时位于 {level} {channel.unit} 以下 {band} % 内,"
            f"而其上三倍宽度内仅 {n['above']} 个(z = {z},此前最大 {most})。"
        )
        return en, zh, self._plot(k, judged)

    def _plot(self, k: int, judged: Judged) -> dict[str, Any]:
        channel, n = self.memory.channels[k], judged.numbers
        level = float(n["level"])
        edges = [level * (1 + 0.015 * j) for j in range(-10, 11)]
        hours = self.memory.hours
        hour, y = hours.view("hour"), hours.view("mean")[:, k]
        first = int(np.searchsorted(hour, judged.from_ms // 3_600_000))
        plot: dict[str, Any] = {
            "kind": "density",
            "title_en": f"{channel.name} piles up below a level",
            "title_zh": f"{channel.name} 集中于某一水平之下",
            "series": series_of(self.memory, [k], *span_ms(self.memory, judged.from_ms, judged.to_ms)),
            "histogram": {
                "edges": [float(f"{e:.6g}") for e in edges],
                "counts": np.histogram(y[first:][np.isfinite(y[first:])], edges)[0].tolist(),
                "reference": np.histogram(y[:first][np.isfinite(y[:first])], edges)[0].tolist(),
                "mark": float(f"{level:.6g}"),
                "label_en": f"hourly {channel.name}, {channel.unit}",
                "label_zh": f"{channel.name} 小时值,{channel.unit}",
            },
        }
        if channel.limit is not None:
            plot["limit"] = channel.limit
        return plot

    def notes(self) -> list[Note]:
        """Say which channels have too few days behind them."""
        return self.short_reference("days scanned for a ceiling")


def ceilings(memory: Memory, config: Config, residuals: Residuals) -> list[Ceiling]:
    """Make the tests of a narrow and of a wide band."""
    made = [Ceiling(memory, config, residuals, band) for band in BANDS]
    for one in made:
        one.others = [other for other in made if other is not one]
    return made


def _scan(
    now: Values, on: Any, past: Values, levels: Values, band: float
) -> tuple[float, float, int, int, float, float] | None:
    """Give z, level, counts below and above, share and usual share of the oddest level."""
    order = np.argsort(now, kind="stable")
    ordered = now[order]
    edges = [levels * (1 - band), levels, levels * (1 + _ABOVE * band)]
    low, mid, high = (np.searchsorted(ordered, e) for e in edges)
    below, above = mid - low, high - mid
    p_low, p_mid, p_high = (np.searchsorted(past, e) for e in edges)
    smooth = 1.0 / (1.0 + _ABOVE)
    usual = np.maximum(((p_mid - p_low) + _PRIOR * smooth) / ((p_high - p_low) + _PRIOR), smooth)
    n = below + above
    # Hours of one day are one another's neighbours: the days that carry the pile count, not the hours.
    share = below / np.maximum(n, 1)
    z = (share - usual) / np.sqrt(
        usual * (1 - usual) * (1 / np.maximum(n, 1) + 1 / ((p_high - p_low) + _PRIOR))
    )
    z = np.where(below >= _LEAST_BELOW, z, -np.inf)
    for at in np.argsort(-z)[:3].tolist():
        if not np.isfinite(z[at]):
            return None
        days = np.bincount(np.unique(on[order][low[at] : mid[at]], return_inverse=True)[1])
        if len(days) < 3:
            continue
        wide = max(1.0, float((days**2).sum() / days.sum())) ** 0.25
        return (
            float(z[at]) / wide,
            float(levels[at]),
            int(below[at]),
            int(above[at]),
            float(share[at]),
            float(usual[at]),
        )
    return None
