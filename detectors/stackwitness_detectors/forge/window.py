"""Hold the piece of one channel that a forgery may change, with its history, limit, resolution, companions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import ChannelInfo, Context, DetectorError, Frame, Letters, Times, Values
from stackwitness_detectors.forge.places import Places, places_of, to_step

NORMAL = ord("N")
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
AIR_O2 = 20.9  # % by volume in dry air (EPA Method 19)
HISTORY_MIN = 48
_PLACES_FROM = 500  # latest readings

Mask = NDArray[np.bool_]


class ForgeError(DetectorError):
    """Tell what a forgery lacks: its code starts with "forge."; numpy's own errors never come out."""


@dataclass(frozen=True)
class Surroundings:
    """Give what lies beyond the station: frames of other stations, and honest intervals (inspections, audits).

    `honest_ms` holds [from, to) pairs in ms; a forger who fears the visit reports the truth in them.
    """

    neighbours: tuple[tuple[Context, Frame], ...] = ()
    honest_ms: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Window:
    """Give a forgery its material: whole series `at_ms`, `values`, `status`; it may change [lo, hi) only."""

    at_ms: Times
    values: Values
    status: Letters
    lo: int
    hi: int
    info: ChannelInfo
    strength: float
    rng: np.random.Generator
    frame: Frame
    context: Context
    seed: int = 0
    around: Surroundings = field(default_factory=Surroundings)

    @cached_property
    def times(self) -> Times:
        """Return the times inside."""
        return self.at_ms[self.lo : self.hi]

    @cached_property
    def inside(self) -> Values:
        """Return a copy of the values inside."""
        return self.values[self.lo : self.hi].copy()

    @cached_property
    def letters(self) -> Letters:
        """Return a copy of the status letters inside."""
        return self.status[self.lo : self.hi].copy()

    @cached_property
    def usable(self) -> Mask:
        """Tell which readings inside are normal and present: a forger leaves the others alone."""
        normal: Mask = (self.letters == NORMAL) & np.isfinite(self.inside)
        return normal

    @cached_property
    def part(self) -> Mask:
        """Tell which usable readings lie in the first `strength` (a share) of the interval."""
        reached = np.arange(self.inside.size) < np.ceil(min(self.strength, 1.0) * self.inside.size)
        chosen: Mask = self.usable & reached
        return chosen

    @cached_property
    def day_ms(self) -> int:
        """Return the length of a day, or of the interval where that is shorter (fast test beds)."""
        return min(DAY_MS, int(self.times[-1] - self.times[0]) + self.step_ms)

    @cached_property
    def audited(self) -> Mask:
        """Tell which readings inside fall into an honest interval."""
        inside = np.zeros(self.times.size, np.bool_)
        for from_ms, to_ms in self.around.honest_ms:
            inside |= (self.times >= from_ms) & (self.times < to_ms)
        return inside

    @cached_property
    def before(self) -> Mask:
        """Tell which readings of the whole series are normal, present and before the interval."""
        normal: Mask = (self.status == NORMAL) & np.isfinite(self.values)
        normal[self.lo :] = False
        return normal

    @cached_property
    def history(self) -> Values:
        """Return the normal values before the interval, or, where there are too few, those inside."""
        before = self.values[self.before]
        return before if before.size >= HISTORY_MIN else self.inside[self.usable]

    @cached_property
    def limit(self) -> float:
        """Return the limit, or for a channel without one the level a fifth of its readings exceed."""
        if self.info.limit is not None:
            return self.info.limit
        return float(np.quantile(self.history, 0.8)) if self.history.size else 1.0

    @cached_property
    def resolution(self) -> float:
        """Return the registered step of the instrument, or the largest power of ten that fits its readings of all sizes."""
        return self.places.usual

    @cached_property
    def places(self) -> Places:
        """Return the last place by the size of the reading: one where a resolution is registered."""
        if self.info.resolution:
            return Places(np.empty(0, np.int64), np.empty(0), self.info.resolution)
        return places_of(self.history[-_PLACES_FROM:])

    @cached_property
    def floor(self) -> float:
        """Return the lowest legal value: 0, or where the history knows negative readings its lowest."""
        return min(0.0, float(self.history.min())) if self.history.size else 0.0

    @cached_property
    def zero(self) -> float:
        """Return what nothing reads: 0, or the lowest past value of a channel often below 0 (standardised)."""
        often = self.history.size > 0 and float(np.mean(self.history < 0.0)) > 0.05
        return self.floor if often else 0.0

    @cached_property
    def ceiling(self) -> float:
        """Return the highest legal value: of oxygen that of air, of shares of volume 100, else none."""
        most = 100.0 if self.info.unit.startswith("%") else np.inf
        if is_oxygen(self.info):
            most = AIR_O2
        return max(most, float(self.history.max())) if self.history.size else most

    @cached_property
    def step_ms(self) -> int:
        """Return the usual distance of two readings."""
        return int(np.median(np.diff(self.at_ms))) if self.at_ms.size > 1 else HOUR_MS

    @cached_property
    def analogue(self) -> Values:
        """Return the values inside as the analyser had them: the last step is filled evenly (and seeded)."""
        dither = np.random.default_rng([self.seed, 1]).uniform(-0.5, 0.5, self.inside.size)
        return self.inside + self.places.of(self.inside) * dither

    def lowered(self, factor: Values | float) -> Values:
        """Return what the instrument shows when its slope is `factor` times the true one."""
        return self.rounded(self.zero + (self.analogue - self.zero) * factor)

    def rounded(self, values: Values) -> Values:
        """Round as the instrument does, within the legal values."""
        return np.clip(to_step(values, self.places.of(values)), self.floor, self.ceiling)

    def beside(self, name: str) -> Window:
        """Return the same interval of another channel of the station."""
        return _cut(self.frame, self.context, name, (self.lo, self.hi), self.strength, self.seed, self.around)


def is_oxygen(info: ChannelInfo) -> bool:
    """Tell oxygen by its quantity ("O2", "oxygen", "O2 at the outlet"), not carbon dioxide."""
    words = info.quantity.lower().replace("-", " ").split()
    return info.role == "diluent" and bool({"o2", "oxygen"} & set(words))


def is_carbon_dioxide(info: ChannelInfo) -> bool:
    """Tell carbon dioxide as a diluent by its quantity."""
    return info.role == "diluent" and "co2" in info.quantity.lower().replace("carbon dioxide", "co2")


def forgeable_channels(context: Context, frame: Frame) -> tuple[str, ...]:
    """Return what a forger would forge: the pollutants, or without any the flows, or else the process."""
    for roles in (("pollutant",), ("flow",), ("process", "temperature", "pressure", "moisture", "diluent")):
        names = tuple(c.name for c in context.channels if c.role in roles and c.name in frame.values)
        if names:
            return names
    return ()


def likest(name: str, names: list[str]) -> str | None:
    """Return the name with the longest beginning in common with `name`, of several the last, or None."""
    shared = [
        next((i for i, (a, b) in enumerate(zip(name.lower(), other.lower(), strict=False)) if a != b), 99)
        for other in names
    ]
    return names[max(range(len(names)), key=lambda i: (shared[i], i))] if names else None


def open_window(
    frame: Frame,
    context: Context,
    channel: str,
    from_ms: int,
    to_ms: int,
    strength: float,
    seed: int,
    around: Surroundings | None = None,
) -> Window:
    """Cut the window of one channel.

    Raises ForgeError: forge.channel, forge.times (not increasing), forge.interval (no reading inside),
    forge.strength (not a positive number), forge.nothing (no normal reading inside).
    """
    if channel not in frame.values or all(c.name != channel for c in context.channels):
        raise ForgeError("forge.channel", f"{channel!r} is no channel of {context.stn}")
    if not (np.isfinite(strength) and strength > 0.0):
        raise ForgeError("forge.strength", f"a strength is a positive number, not {strength}")
    if frame.at_ms.size > 1 and not (np.diff(frame.at_ms) > 0).all():
        raise ForgeError("forge.times", "the times of the readings do not increase")
    lo, hi = (int(i) for i in np.searchsorted(frame.at_ms, [from_ms, to_ms]))
    if hi <= lo:
        raise ForgeError("forge.interval", "no reading lies in the interval")
    window = _cut(frame, context, channel, (lo, hi), strength, seed, around or Surroundings())
    if not window.usable.any():
        raise ForgeError("forge.nothing", f"{channel} has no normal reading in the interval")
    return window


def _cut(
    frame: Frame,
    context: Context,
    channel: str,
    place: tuple[int, int],
    strength: float,
    seed: int,
    around: Surroundings,
) -> Window:
    info = next(c for c in context.channels if c.name == channel)
    values = np.asarray(frame.values[channel], dtype=np.float64)
    given = frame.status.get(channel)
    status = np.full(values.size, NORMAL, dtype=np.uint8) if given is None else np.asarray(given, np.uint8)
    status = np.where(status == 0, np.uint8(NORMAL), status)
    rng = np.random.default_rng(seed)
    return Window(
        frame.at_ms, values, status, place[0], place[1], info, strength, rng, frame, context, seed, around
    )


def put_back(frame: Frame, window: Window, inside: Values, letters: Letters) -> Frame:
    """Return a frame with the forged piece in place; the given frame is not touched."""
    values, status = window.values.copy(), window.status.copy()
    values[window.lo : window.hi] = inside
    status[window.lo : window.hi] = letters
    name = window.info.name
    changed: Mapping[str, Values] = {**frame.values, name: values}
    return replace(frame, values=changed, status={**frame.status, name: status})
