"""Plot data beside a finding: a few hundred points, JSON-able, missing values as null."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import Times, Values
from stackwitness_detectors.memory import Memory

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_COUNTED_DECADES = 6.0  # a million is still counted, more is a power of ten


def thin(at_ms: Times, points: int) -> NDArray[np.int64]:
    """Choose at most `points` positions, evenly."""
    stride = max(1, -(-len(at_ms) // points))
    return np.arange(0, len(at_ms), stride)


def plain(values: Values) -> list[float | None]:
    """Give numbers of at most seven digits, None where missing."""
    return [float(f"{v:.7g}") if math.isfinite(v) else None for v in values.tolist()]


def series_of(memory: Memory, channels: list[int], from_ms: int, to_ms: int) -> list[dict[str, Any]]:
    """Give the reported rows of some channels, as far as they are remembered."""
    at_ms = memory.rows.view("at_ms")
    first, last = np.searchsorted(at_ms, [from_ms, to_ms + 1])
    chosen = first + thin(at_ms[first:last], memory.config.plot_points)
    values = memory.rows.view("values")
    return [
        {
            "channel": memory.names[k],
            "unit": memory.channels[k].unit,
            "role": memory.channels[k].role,
            "t": at_ms[chosen].tolist(),
            "v": plain(values[chosen, k]),
        }
        for k in channels
    ]


def short(x: float) -> str:
    """Write a number for a sentence: at most five digits, beyond everyday sizes as 4.6×10⁻⁵."""
    if not math.isfinite(x):
        return "-"
    plain = f"{x:.5g}"
    if (1e-4 <= abs(x) < 1e6 and "e" not in plain) or x == 0:
        return plain
    digits, power = f"{x:.2e}".split("e")
    return f"{float(digits):g}×10{raised(int(power))}"


def raised(power: int) -> str:
    """Write an exponent as small figures, as people print it."""
    return str(power).translate(_SUPERSCRIPT)


def one_in(decades: float) -> tuple[str, str]:
    """Say a probability of 10^-decades for a sentence, in English and Chinese: 1 in 22,000; 1/22,000."""
    if decades < _COUNTED_DECADES:
        count = f"{float(f'{max(1.0, 10.0**decades):.2g}'):,.0f}"
        return f"1 in {count}", f"1/{count}"
    return f"1 in 10{raised(round(decades))}", f"10{raised(-round(decades))}"


def rough(x: float) -> str:
    """Write a statistic for a sentence: three digits tell enough; a reading is written by `short`, as it was sent."""
    return short(float(f"{x:.3g}")) if math.isfinite(x) else "-"


def span_ms(memory: Memory, from_ms: int, to_ms: int) -> tuple[int, int]:
    """Widen an interval for the eye: as much before as it is long, within a day and a fortnight."""
    pad = min(max(to_ms - from_ms, 86_400_000), 14 * 86_400_000)
    return from_ms - pad, to_ms + pad
