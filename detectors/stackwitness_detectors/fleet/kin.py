"""Who is related to whom: stations that measure the same, how closely they go together, and who speaks as one."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from stackwitness_detectors.contract import Values
from stackwitness_detectors.copy.motif import Own, own_course
from stackwitness_detectors.fleet.looks import best_of, look_at_hours, look_at_ties, look_back
from stackwitness_detectors.fleet.table import FleetMemory

_LEAST_HOURS = 240
_RELATED = 0.6
_MOST_PEERS = 6
# Up to so many others each is compared closely with each; of more, so many are chosen by a first look.
MOST_SOURCES = 12
_BY_LOOK = 4
_LOOK_HOURS = 18
_LOOKS_NOW = tuple((width, back) for width in (6, 12, 18, 24) for back in (0, 6, 12, 18))
_ONE_VOICE = 0.995  # correlation of hourly changes: equal data have one vote
_ANCHORED = 0.3
# How far back others' earlier stretches are searched, and from how long before a window on.
BACK_HOURS = 24 * 35
LEAST_LAG_H = 6
T = TypeVar("T")


@dataclass(frozen=True)
class Choices:
    """Name the columns a channel is compared with: in the same hours, with their earlier ones, as relatives."""

    now: list[int]
    then: list[int]
    related: list[int]


class Kin:
    """Answer for the day that has just been closed; everything follows from the remembered hours."""

    def __init__(self, fleet: FleetMemory) -> None:
        self.fleet = fleet
        self.day = -1
        self._related: dict[int, list[int]] = {}
        self._own: dict[tuple[int, int, int], Own | None] = {}
        self._known: dict[Hashable, Any] = {}
        self._chosen: dict[int, Choices] = {}
        self.alike: dict[tuple[str, str], list[int]] = {}
        for k in fleet.targets:
            self.alike.setdefault(self._measured(k), []).append(k)

    def _measured(self, k: int) -> tuple[str, str]:
        return self.fleet.channels[k].quantity, self.fleet.channels[k].unit

    def comparable(self, k: int) -> bool:
        """Tell whether another station measures the same quantity in the same unit."""
        return any(self.fleet.stn_of[j] != self.fleet.stn_of[k] for j in self.alike[self._measured(k)])

    def choices(self, k: int, day: int) -> Choices:
        """Name the columns of other stations that could explain it today: all that measure the same, the next ones first.

        Of more than MOST_SOURCES those that a first look finds likest: in the same hours, in earlier ones, in the reference.
        """
        self._turn(day)
        if k not in self._chosen:
            group = self.alike[self._measured(k)]
            others = [j for j in group if self.fleet.stn_of[j] != self.fleet.stn_of[k]]
            if len(others) > MOST_SOURCES:
                self._look(group, day)
            else:
                near = [j for j in others if j > k] + [j for j in others if j < k]
                self._chosen[k] = Choices(near, near, near)
        return self._chosen[k]

    def peers(self, k: int, day: int) -> list[int]:
        """List those that went together with it in the reference, closest first; equal data have one vote."""
        self._turn(day)
        if k not in self._related:
            self._related[k] = self._choose(k, day)
        return self._related[k]

    def own(self, k: int, stop_h: int, width: int) -> Own | None:
        """Give what a window of the day is to itself, worked out once for all who ask."""
        if (k, stop_h, width) not in self._own:
            y = self.fleet.window(k, stop_h, width)
            self._own[k, stop_h, width] = own_course(y, self.fleet.rounding[k])
        return self._own[k, stop_h, width]

    def once(self, day: int, key: Hashable, work_out: Callable[[], T]) -> T:
        """Work something of the day out once for all who ask for it by the same key."""
        self._turn(day)
        if key not in self._known:
            self._known[key] = work_out()
        known: T = self._known[key]
        return known

    def _turn(self, day: int) -> None:
        if day != self.day:
            self.day, self._related, self._own, self._known, self._chosen = day, {}, {}, {}, {}

    def _look(self, group: list[int], day: int) -> None:
        """Choose for every column of a large group whom it is compared with today."""
        fleet, end_h = self.fleet, (day + 1) * 24
        ties = look_at_ties(np.column_stack([self.reference(j, day) for j in group]), _LEAST_HOURS)
        now = np.full(ties.shape, -np.inf)
        for width, back in _LOOKS_NOW:
            hours = fleet.block(group, end_h - back, width)
            if len(hours) == width:
                now = np.maximum(now, look_at_hours(hours))
        then = look_back(
            fleet.block(group, end_h, _LOOK_HOURS), fleet.block(group, end_h - LEAST_LAG_H, BACK_HOURS)
        )
        stations = np.array([fleet.stn_of[j] for j in group])
        for i, k in enumerate(group):
            foreign = stations != stations[i]
            found = [
                best_of(look[i], foreign, count)
                for look, count in ((now, _BY_LOOK), (then, _BY_LOOK), (ties, MOST_SOURCES))
            ]
            self._chosen[k] = Choices(*(sorted(group[j] for j in places) for places in found))

    def _choose(self, k: int, day: int) -> list[int]:
        y = self.reference(k, day)
        related = self.choices(k, day).related
        scored = [(correlation(y, self.reference(j, day), _LEAST_HOURS), j) for j in related]
        close = [j for r, j in sorted(scored, key=lambda one: (-one[0], one[1])) if r >= _RELATED]
        chosen: list[int] = []
        for j in close:
            changes = np.diff(self.reference(j, day))
            heard = any(
                correlation(changes, np.diff(self.reference(i, day)), _LEAST_HOURS) >= _ONE_VOICE
                for i in chosen
            )
            if not heard and len(chosen) < _MOST_PEERS:
                chosen.append(j)
        return chosen

    def reference(self, k: int, day: int) -> Values:
        """Give the course of days 56 to 14 before: a fortnight of forgery does not change who is related."""
        config = self.fleet.config
        stop = (day - config.reference_lag_days) * 24
        return self.fleet.window(k, stop, 24 * (config.reference_from_days - config.reference_lag_days))

    def estranged(self, k: int, other: int, day: int, stop_h: int, width: int) -> float | None:
        """Tell how much less than usual a column goes with its own load and with third stations; None without any.

        Of two stations that suddenly report the same, it is the forger that has left its own plant.
        """
        fleet = self.fleet
        load = fleet.load_of.get(fleet.stn_of[k])
        anchors = [j for j in self.peers(k, day) if fleet.stn_of[j] != fleet.stn_of[other]]
        if load is not None and load != k:
            anchors.append(load)
        losses = []
        for j in anchors:
            usual = correlation(self.reference(k, day), self.reference(j, day), _LEAST_HOURS)
            if abs(usual) < _ANCHORED:
                continue
            wide = max(width, 24)
            now = correlation(fleet.window(k, stop_h, wide), fleet.window(j, stop_h, wide), 12)
            losses.append(abs(usual) - now * np.sign(usual))
        return float(np.mean(losses)) if losses else None


def correlation(a: Values, b: Values, least: int) -> float:
    """Return the correlation of the hours that both have, 0 where they are fewer than `least` or stand still."""
    if len(a) != len(b):
        return 0.0
    both = np.isfinite(a) & np.isfinite(b)
    if int(both.sum()) < least:
        return 0.0
    x, y = a[both] - a[both].mean(), b[both] - b[both].mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 0 else 0.0
