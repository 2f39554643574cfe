"""Draw a channel beside another station's: hourly courses in the own unit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stackwitness_detectors.contract import Times, Values
from stackwitness_detectors.daily import Judged
from stackwitness_detectors.fleet.table import FleetMemory
from stackwitness_detectors.memory import DAY_MS, HOUR_MS
from stackwitness_detectors.plots import plain, rough, span_ms, thin


def draw_match(
    fleet: FleetMemory,
    k: int,
    source: int,
    judged: Judged,
    lag_h: int,
    title: tuple[str, str],
    of: tuple[str, str],
) -> dict[str, Any]:
    """Give plot data: the reported hours, and the source's hours `lag_h` before at the level of the own ones; `of` names it."""
    _, inside = _hours(fleet, k, judged.from_ms, judged.to_ms)
    shift = lag_h * HOUR_MS
    there_t, there = _hours(fleet, source, judged.from_ms - shift, judged.to_ms - shift)
    level, mine = np.nanmedian(there) if there.size else 0.0, np.nanmedian(inside) if inside.size else 0.0
    factor = float(mine / level) if level > 0 and mine > 0 else 1.0
    matched = thin(there_t, fleet.config.plot_points)
    match = {
        "t": (there_t + shift)[matched].tolist(),
        "v": plain(there[matched] * factor),
        "lag_ms": 0,
        "of_en": f"{of[0]}, times {rough(factor)}",
        "of_zh": f"{of[1]},乘以 {rough(factor)}",
    }
    return {"kind": "copy", **_drawn(fleet, k, judged, title), "match": match}


def draw_expected(fleet: FleetMemory, k: int, source: int, judged: Judged) -> dict[str, Any]:
    """Give plot data: the reported hours, and what a neighbour leads one to expect by how the two stood in the reference.

    The middle is the neighbour's hours times the usual ratio, the band two spreads of that ratio by the hour.
    """
    config, day = fleet.config, judged.to_ms // DAY_MS
    reference = [(day - back) * DAY_MS for back in (config.reference_from_days, config.reference_lag_days)]
    ratio = np.log(_hours(fleet, k, *reference)[1] / _hours(fleet, source, *reference)[1])
    ratio = ratio[np.isfinite(ratio)]
    usual = float(np.median(ratio)) if ratio.size else 0.0
    spread = 1.4826 * float(np.median(np.abs(ratio - usual))) if ratio.size else 0.0
    at_ms, there = _hours(fleet, source, *span_ms(fleet, judged.from_ms, judged.to_ms))
    shown = thin(at_ms, fleet.config.plot_points)
    lo, mid, hi = (plain(there[shown] * math.exp(usual + z * spread)) for z in (-2.0, 0.0, 2.0))
    own, other = fleet.channel_of[k], fleet.stn_of[source]
    title = (f"{own} and what station {other} leads one to expect", f"{own} 与按站点 {other} 推算的数值")
    band = {"t": at_ms[shown].tolist(), "lo": lo, "mid": mid, "hi": hi}
    return {"kind": "residual", **_drawn(fleet, k, judged, title), "band": band}


def _drawn(fleet: FleetMemory, k: int, judged: Judged, title: tuple[str, str]) -> dict[str, Any]:
    channel = fleet.channels[k]
    t, own = _hours(fleet, k, *span_ms(fleet, judged.from_ms, judged.to_ms))
    shown = thin(t, fleet.config.plot_points)
    series = {"channel": fleet.channel_of[k], "unit": channel.unit, "role": channel.role}
    return {
        "title_en": title[0],
        "title_zh": title[1],
        "series": [{**series, "t": t[shown].tolist(), "v": plain(own[shown])}],
    }


def _hours(fleet: FleetMemory, k: int, from_ms: int, to_ms: int) -> tuple[Times, Values]:
    at_ms = fleet.hours.view("hour") * HOUR_MS
    first, last = np.searchsorted(at_ms, [from_ms, to_ms + 1])
    return at_ms[first:last], fleet.hours.view("mean")[first:last, k]
