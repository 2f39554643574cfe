"""Weigh what a forgery hides: the share of the reported mass that is gone, and kilograms where flow is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stackwitness_detectors.contract import LARGEST, ChannelInfo, Context, Frame, Letters, Values
from stackwitness_detectors.forge.window import AIR_O2, HOUR_MS, forgeable_channels, is_oxygen, likest
from stackwitness_detectors.mass_units import KG_H, KG_M3, M3_H

_COUNTED = np.frombuffer(b"NSRHT\0", np.uint8)  # readings with any other letter are no part of a report
_O2_MOST = 19.0  # beyond it the value at reference oxygen is undefined in practice


@dataclass(frozen=True)
class HiddenMass:
    """State what one channel hides: `percent` of the honest report; `kg` None without a flow in m3 a time.

    `before` and `after` are the sums themselves (kg, or without a flow the channel's unit times hours).
    `corrected_percent` is the share by which the mean at reference oxygen fell, None without oxygen.
    Negative figures mean that more was reported than measured.
    """

    channel: str
    percent: float
    kg: float | None
    before: float
    after: float
    corrected_percent: float | None


def hidden_mass(
    before: Frame,
    after: Frame,
    context: Context,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> dict[str, HiddenMass]:
    """Compare an honest and a forged frame of the same times, per channel, within [from_ms, to_ms).

    A reading counts when its letter is N, S, R, H or T. Where the flow is missing its median counts. The zero
    of a channel with negative readings is its lowest one (standardised data know no other).
    """
    lo, hi = (
        int(np.searchsorted(before.at_ms, at)) if at is not None else end
        for at, end in ((from_ms, 0), (to_ms, before.at_ms.size))
    )
    step_h = float(np.median(np.diff(before.at_ms))) / HOUR_MS if before.at_ms.size > 1 else 1.0
    infos = {c.name: c for c in context.channels}
    with np.errstate(all="ignore"):
        return {
            name: _weigh(before, after, context, infos[name], slice(lo, hi), step_h)
            for name in forgeable_channels(context, before)
            if name in after.values
        }


def _weigh(
    before: Frame, after: Frame, context: Context, info: ChannelInfo, rows: slice, step_h: float
) -> HiddenMass:
    whole = np.asarray(before.values[info.name], np.float64)
    finite = whole[np.abs(whole) <= LARGEST]
    often_negative = finite.size > 0 and float(np.mean(finite < 0.0)) > 0.05
    zero = float(finite.min()) if often_negative else 0.0
    flow = likest(info.name, [c.name for c in context.channels if c.unit in M3_H and c.name in before.values])
    units = {c.name: c.unit for c in context.channels}
    weighed = info.unit in KG_M3 and flow is not None
    factor = KG_H.get(info.unit, 1.0) * step_h
    if weighed and flow is not None:
        factor = KG_M3[info.unit] * M3_H[units[flow]] * step_h
    sums = []
    for frame in (before, after):
        series = counted(frame, info.name)[rows] - zero
        if weighed and flow is not None:
            usual = counted(before, flow)[rows]
            stream = counted(frame, flow)[rows]
            usual_flow = float(np.nanmedian(usual)) if np.isfinite(usual).any() else 0.0
            series = series * np.where(np.isfinite(stream), stream, usual_flow)
        sums.append(float(np.nansum(series)) * factor)
    hidden = sums[0] - sums[1]
    return HiddenMass(
        info.name,
        _percent(sums[0], sums[1]),
        hidden if weighed or info.unit in KG_H else None,
        sums[0],
        sums[1],
        _corrected(before, after, context, info, rows),
    )


def counted(frame: Frame, name: str) -> Values:
    """Return the values of a channel that enter a report, NaN elsewhere."""
    values = np.asarray(frame.values[name], np.float64)
    letters: Letters | None = frame.status.get(name)
    keep = (np.abs(values) <= LARGEST) & (True if letters is None else np.isin(letters, _COUNTED))
    return np.where(keep, values, np.nan)


def _corrected(before: Frame, after: Frame, context: Context, info: ChannelInfo, rows: slice) -> float | None:
    oxygen = likest(info.name, [c.name for c in context.channels if is_oxygen(c) and c.name in before.values])
    if oxygen is None or info.name == oxygen:
        return None
    means = []
    for frame in (before, after):
        o2 = counted(frame, oxygen)[rows]
        series = counted(frame, info.name)[rows] / np.where(o2 <= _O2_MOST, AIR_O2 - o2, np.nan)
        means.append(float(np.nanmean(series)) if np.isfinite(series).any() else 0.0)
    return _percent(means[0], means[1])


def _percent(before: float, after: float) -> float:
    return 100.0 * (before - after) / before if before > 0.0 else 0.0
