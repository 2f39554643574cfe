"""Draw a channel beside another station's: hourly courses in the own unit."""

from __future__ import annotations

from typing import Any

import numpy as np

from stackwitness_detectors.contract import Times, Values
from stackwitness_detectors.daily import Judged
from stackwitness_detectors.fleet.table import FleetMemory
from stackwitness_detectors.memory import HOUR_MS
from stackwitness_detectors.plots import plain, span_ms, thin


def picture(
    fleet: FleetMemory, k: int, source: int, judged: Judged, lag_h: int, title: tuple[str, str]
) -> dict[str, Any]:
    """Give plot data: the reported hours, and the source's hours `lag_h` before at the level of the own ones."""
    t, own = _hours(fleet, k, *span_ms(fleet, judged.from_ms, judged.to_ms))
    _, inside = _hours(fleet, k, judged.from_ms, judged.to_ms)
    shift = lag_h * HOUR_MS
    there_t, there = _hours(fleet, source, judged.from_ms - shift, judged.to_ms - shift)
    level, mine = np.nanmedian(there) if there.size else 0.0, np.nanmedian(inside) if inside.size else 0.0
    factor = float(mine / level) if level > 0 and mine > 0 else 1.0
    channel = fleet.channels[k]
    series = {"channel": fleet.channel_of[k], "unit": channel.unit, "role": channel.role}
    shown, matched = thin(t, fleet.config.plot_points), thin(there_t, fleet.config.plot_points)
    return {
        "kind": "copy",
        "title_en": title[0],
        "title_zh": title[1],
        "series": [{**series, "t": t[shown].tolist(), "v": plain(own[shown])}],
        "match": {"t": (there_t + shift)[matched].tolist(), "v": plain(there[matched] * factor)},
    }


def _hours(fleet: FleetMemory, k: int, from_ms: int, to_ms: int) -> tuple[Times, Values]:
    at_ms = fleet.hours.view("hour") * HOUR_MS
    first, last = np.searchsorted(at_ms, [from_ms, to_ms + 1])
    return at_ms[first:last], fleet.hours.view("mean")[first:last, k]
