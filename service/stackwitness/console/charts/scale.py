"""Map data to pixels, and choose ticks a person would have chosen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
TIME_STEPS_MS = (
    *(minutes * 60_000 for minutes in (5, 15, 30)),
    *(hours * HOUR_MS for hours in (1, 3, 6, 12)),
    *(days * DAY_MS for days in (1, 2, 7, 14, 28, 91, 182, 364)),
)


@dataclass(frozen=True)
class Scale:
    """A linear map from [lo, hi] to [start_px, end_px]."""

    lo: float
    hi: float
    start_px: float
    end_px: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; an empty domain maps to the middle."""
        if self.hi == self.lo:
            return (self.start_px + self.end_px) / 2
        return self.start_px + (value - self.lo) / (self.hi - self.lo) * (self.end_px - self.start_px)


@dataclass(frozen=True)
class TimeTick:
    """One tick of a time axis; `strong` marks a label that carries the date."""

    at_ms: int
    label: str
    strong: bool


def extent(values: Iterable[float | None], include: Iterable[float] = ()) -> tuple[float, float]:
    """Return a padded (lo, hi) that holds all finite values; (0, 1) when there are none."""
    finite = [v for v in values if v is not None and math.isfinite(v)]
    finite += [v for v in include if math.isfinite(v)]
    if not finite:
        return 0.0, 1.0
    lo, hi = min(finite), max(finite)
    # A register near zero reads better from zero: 0..9 rather than 3..9.
    if 0 <= lo < 0.5 * hi:
        return 0.0, hi * 1.06
    pad = (hi - lo) * 0.08 or abs(hi) * 0.1 or 1.0
    return lo - pad, hi + pad


def value_ticks(lo: float, hi: float, count: int = 4) -> list[float]:
    """Return round values between lo and hi, about `count` of them."""
    span = hi - lo
    if span <= 0 or not math.isfinite(span):
        return [lo]
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= count + 0.5)
    first = math.ceil(lo / step - 1e-9)
    last = math.floor(hi / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)] or [lo]


def tick_label(value: float) -> str:
    """Format a tick value shortly (1200 -> "1200", 0.5 -> "0.5", 50000 -> "50k", 3e6 -> "3M", 1e-5 -> "1e-5")."""
    if value != 0 and (abs(value) >= 1e12 or abs(value) < 1e-4):
        return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.6g}{letter}"
    return f"{value:.10g}"


def time_ticks(from_ms: int, to_ms: int, utc_offset_min: int, count: int = 8) -> list[TimeTick]:
    """Return ticks on round local times of the station, about `count` of them."""
    span = max(to_ms - from_ms, 1)
    step = next((s for s in TIME_STEPS_MS if span / s <= count), TIME_STEPS_MS[-1])
    offset_ms = utc_offset_min * 60_000
    at_ms = -(-(from_ms + offset_ms) // step) * step - offset_ms
    ticks: list[TimeTick] = []
    last_day = ""
    while at_ms <= to_ms:
        local = datetime.fromtimestamp(at_ms / 1000, UTC) + timedelta(minutes=utc_offset_min)
        day = local.strftime("%m-%d") if span < 200 * DAY_MS else local.strftime("%Y-%m")
        strong = day != last_day
        clock = local.strftime("%H:%M")
        if step >= DAY_MS or clock == "00:00":
            label = day
        else:
            label = f"{day} {clock}" if strong else clock
        ticks.append(TimeTick(at_ms, label, strong))
        last_day = day
        at_ms += step
    return ticks
