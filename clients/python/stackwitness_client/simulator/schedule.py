"""Decide when a plant runs: outages, start-ups, shut-downs, and the daily cycle of a peaking unit."""

from __future__ import annotations

from stackwitness_client.simulator.industries import Running
from stackwitness_client.simulator.noise import DAY_MS, HOUR_MS, uniform

_WINDOW_MS = 28 * DAY_MS


class Schedule:
    """Hold one plant's running times (all times are the plant's local milliseconds)."""

    def __init__(self, key: int, running: Running) -> None:
        self._key, self._kind = key, running

    def running(self, local_ms: int) -> float:
        """Return 0 (stopped) .. 1 (on line); between, the unit ramps."""
        level = self._outage(local_ms)
        return min(level, self._cycle(local_ms)) if self._kind == "cycling" else level

    def _outage(self, local_ms: int) -> float:
        """Take one outage of 9 to 50 h in three of five 28-day windows; 2 h down, 5 h up."""
        window, rest = divmod(local_ms, _WINDOW_MS)
        if uniform(self._key, 4 * window) > 0.6:
            return 1.0
        start = (2 + 20 * uniform(self._key, 4 * window + 1)) * DAY_MS
        length = (9 + 41 * uniform(self._key, 4 * window + 2)) * HOUR_MS
        return _ramp(rest, start, start + length, down_ms=2 * HOUR_MS, up_ms=5 * HOUR_MS)

    def _cycle(self, local_ms: int) -> float:
        """Run from about six to about eleven in the evening; every night the unit stands."""
        day, rest = divmod(local_ms, DAY_MS)
        on = (5.2 + 1.2 * uniform(self._key, 4 * day + 3)) * HOUR_MS
        off = (22.0 + 1.5 * uniform(self._key, -4 * day - 5)) * HOUR_MS
        if rest < on:
            return 0.0
        if rest < off:
            return min(1.0, (rest - on) / (1.2 * HOUR_MS))
        return max(0.0, 1.0 - (rest - off) / (0.5 * HOUR_MS))


def _ramp(rest: float, start: float, stop: float, *, down_ms: float, up_ms: float) -> float:
    if rest < start or rest >= stop + up_ms:
        return 1.0
    if rest < stop:
        return max(0.0, 1.0 - (rest - start) / down_ms)
    return (rest - stop) / up_ms
