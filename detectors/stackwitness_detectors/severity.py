"""How grave a matter is: how sure one may be, times the share of a month's mass that the report may hide.

A level finding says how much less was reported than expected, and how large such a shift has been in honest times:
that is the estimate and its interval. Where only a model's band is known, the interval is two spreads of the days'
mean. What no model measures (a copy, a hold) hides an unknown share: none to all of it. Free of numpy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

HOUR_MS = 3_600_000
DAY_H, MONTH_H = 24.0, 720.0
# A class of words is worth a factor of thirty: what cannot be comes before what is unusual for a whole month.
_WEIGHT = {"cannot be": 900.0, "very unlikely": 30.0, "unusual": 1.0}
# A hidden share nobody measured counts as a tenth in the order of matters: what naive forgers take away.
_UNMEASURED = 0.1


@dataclass(frozen=True)
class Hidden:
    """Estimate what one channel hides: shares of what should have been reported over `hours`, low <= share <= high.

    `missing` is the mean that is missing, in the channel's unit. Shares below 0 mean more reported than expected.
    """

    channel: str
    share: float
    low: float
    high: float
    missing: float
    hours: float

    @property
    def of_month(self) -> float:
        """Return the estimate as a share of a month's mass."""
        return max(self.share, 0.0) * min(self.hours / MONTH_H, 1.0)


def hidden_of(
    channel: str, from_ms: int, to_ms: int, numbers: Mapping[str, Any], plot: Mapping[str, Any]
) -> Hidden | None:
    """Estimate what a finding's channel hides, from its numbers or else from its picture; None when neither tells."""
    hours = max(to_ms - from_ms, HOUR_MS) / HOUR_MS
    try:
        return _by_numbers(channel, hours, numbers) or _by_picture(channel, from_ms, to_ms, plot)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None  # numbers and pictures of older detectors


def _by_numbers(channel: str, hours: float, numbers: Mapping[str, Any]) -> Hidden | None:
    if numbers.get("direction") != "below":
        return None
    reported, expected = float(numbers["reported"]), float(numbers["expected"])
    largest = float(numbers["largest_before"])
    if expected <= 0.0:
        return None
    ratio = reported / expected
    # Residuals of a logarithmic model are factors, those of a linear one amounts.
    log = "shift_percent" in numbers
    low = 1.0 - ratio * math.exp(largest) if log else 1.0 - ratio - largest / expected
    high = 1.0 - ratio * math.exp(-largest) if log else 1.0 - ratio + largest / expected
    return Hidden(channel, 1.0 - ratio, low, min(high, 1.0), expected - reported, hours)


def _by_picture(channel: str, from_ms: int, to_ms: int, plot: Mapping[str, Any]) -> Hidden | None:
    band = plot.get("band")
    drawn = [series for series in plot.get("series", ()) if series["channel"] == channel]
    if not band or not drawn:
        return None
    sums: dict[int, tuple[float, int]] = {}
    for at_ms, value in zip(drawn[0]["t"], drawn[0]["v"], strict=True):
        if value is not None and from_ms <= at_ms <= to_ms:
            total, count = sums.get(at_ms // HOUR_MS, (0.0, 0))
            sums[at_ms // HOUR_MS] = total + value, count + 1
    pairs = [
        (sums[at_ms // HOUR_MS][0] / sums[at_ms // HOUR_MS][1], mid, (hi - lo) / 2)
        for at_ms, lo, mid, hi in zip(band["t"], band["lo"], band["mid"], band["hi"], strict=True)
        if at_ms // HOUR_MS in sums and None not in (lo, mid, hi)
    ]
    if len(pairs) < 4:
        return None
    reported, expected, half = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    if expected <= 0.0:
        return None
    hours = max(to_ms - from_ms, HOUR_MS) / HOUR_MS
    # Hours of one day err together, days for themselves.
    wide = half / math.sqrt(max(hours / DAY_H, 1.0)) / expected
    share = 1.0 - reported / expected
    return Hidden(channel, share, share - wide, min(share + wide, 1.0), expected - reported, hours)


def largest_of(estimates: Iterable[Hidden | None]) -> Hidden | None:
    """Return the estimate that hides the most of a month, where it is sure to hide anything (low > 0); else None."""
    sure = [one for one in estimates if one is not None and one.low > 0.0]
    return max(sure, key=lambda one: (one.of_month, one.channel), default=None)


def severity(verdict: str, hidden: Hidden | None, from_ms: int, to_ms: int) -> float:
    """Return the weight of the words times the share of a month's mass that is hidden, as far as one can tell."""
    weight = _WEIGHT.get(verdict, 1.0)
    if hidden is not None:
        return weight * hidden.of_month
    months = min(max(to_ms - from_ms, HOUR_MS) / HOUR_MS / MONTH_H, 1.0)
    return weight * _UNMEASURED * months
