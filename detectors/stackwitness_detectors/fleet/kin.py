"""Who is related to whom: stations that measure the same, how closely they go together, and who speaks as one."""

from __future__ import annotations

import numpy as np

from stackwitness_detectors.contract import Values
from stackwitness_detectors.fleet.table import FleetMemory

_LEAST_HOURS = 240
_RELATED = 0.6
_MOST_PEERS = 6
_MOST_SOURCES = 12
_ONE_VOICE = 0.995  # correlation of hourly changes: equal data have one vote
_ANCHORED = 0.3


class Kin:
    """Answer for the day that has just been closed; everything follows from the remembered hours."""

    def __init__(self, fleet: FleetMemory) -> None:
        self.fleet = fleet
        self.day = -1
        self._related: dict[int, list[int]] = {}

    def sources(self, k: int) -> list[int]:
        """List the columns of other stations that measure the same quantity in the same unit, the next ones first."""
        fleet = self.fleet
        mine = fleet.channels[k]
        same = [
            j
            for j in fleet.targets
            if fleet.stn_of[j] != fleet.stn_of[k]
            and (fleet.channels[j].quantity, fleet.channels[j].unit) == (mine.quantity, mine.unit)
        ]
        return ([j for j in same if j > k] + [j for j in same if j < k])[:_MOST_SOURCES]

    def peers(self, k: int, day: int) -> list[int]:
        """List the sources that went together with it in the reference, closest first; equal data have one vote."""
        if day != self.day:
            self.day, self._related = day, {}
        if k not in self._related:
            self._related[k] = self._choose(k, day)
        return self._related[k]

    def _choose(self, k: int, day: int) -> list[int]:
        y = self.reference(k, day)
        scored = [(correlation(y, self.reference(j, day), _LEAST_HOURS), j) for j in self.sources(k)]
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
