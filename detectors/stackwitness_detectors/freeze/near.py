"""Near-freezes: a day on which a channel hardly moves although it always did (and the load did)."""

from __future__ import annotations

from typing import Any

import numpy as np

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note
from stackwitness_detectors.daily import DailyTest, Judged, day_hours
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import series_of, short, span_ms

_ROLES = ("pollutant", "diluent", "flow")
_MIN_HOURS = 20
_STILL = 0.1  # of the level: a day that ranges wider is not still, however rare


class NearHolds(DailyTest):
    """Stillness = 1 / (range of the day's hourly means, relative to its level, per range of load)."""

    name = "near_freeze"
    detector = "near_hold"
    family = "freeze"

    def __init__(self, memory: Memory, config: Config) -> None:
        super().__init__(memory, config, memory.indices(*_ROLES), config.near_freeze_budget)
        loads = memory.indices("load")
        self.load_at = loads[0] if loads else None

    def measure(self, k: int, day: int) -> Judged | None:
        """Give the stillness of one channel on one day, None when it cannot be told."""
        rows = day_hours(self.memory, day)
        mean = self.memory.hours.view("mean")[rows]
        use = np.isfinite(mean[:, k]) & ~self.memory.hours.view("claimed")[rows, k]
        contrast = 1.0
        if self.load_at is not None:
            load = mean[:, self.load_at]
            use &= load > 0
            if use.sum() < _MIN_HOURS:
                return None
            contrast = float(np.ptp(load[use]) / load[use].max())
            if contrast <= self.config.contrast_share:
                return None
        if use.sum() < _MIN_HOURS:
            return None
        y = mean[use, k]
        level, spread = float(np.abs(np.median(y))), float(np.ptp(y))
        if spread == 0 or spread > _STILL * level:
            return None
        stillness = contrast * level / spread
        return Judged(stillness, day * DAY_MS, (day + 1) * DAY_MS - 1, {"range": spread, "level": level})

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, numbers = self.memory.channels[k], judged.numbers
        spread, level = short(float(numbers["range"])), short(float(numbers["level"]))
        least = short(float(numbers["range"]) * judged.score / longest) if longest > 0 else "-"
        en = (
            f"{channel.name} moved by only {spread} {channel.unit} round "
            f"{level} in a day; at like load the least before was {least}."
        )
        zh = (
            f"{channel.name} 一天内仅在 {level} 附近变化 {spread} {channel.unit};"
            f"此前相近负荷变化下最小为 {least}。"
        )
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        shown = [k] + ([self.load_at] if self.load_at is not None else [])
        plot = {
            "kind": "hold",
            "title_en": f"{channel.name} hardly moves",
            "title_zh": f"{channel.name} 几乎不变",
            "series": series_of(self.memory, shown, first, last),
        }
        return en, zh, plot

    kind = "near_hold"
    kinds = ("near_freeze", "smoothed", "generated", "freeze")
    innocent = ("steady_operation", "analyser_hold", "detection_floor", "instrument_fault")

    def notes(self) -> list[Note]:
        """Say which channels have too few days behind them."""
        return self.short_reference("days of ordinary movement")

    def hour(self, block: Any) -> list[Finding]:
        """Nothing happens within the day."""
        return []
