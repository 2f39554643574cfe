"""Give reproducible noise as a function of time, so that a plant can be asked for any moment.

A sequential generator would have to be replayed from the start after every restart. Here every random number
is a hash of (key, index): a knot of value noise, a day's event, one sample's instrument noise.
"""

from __future__ import annotations

import hashlib
import math

_MASK = (1 << 64) - 1
_ROOT3 = math.sqrt(3.0)


def key_of(*parts: object) -> int:
    """Derive a 64-bit key from a name path such as (seed, "so2", "fast")."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big")


def _mix(key: int, index: int) -> int:
    # splitmix64, the usual finaliser: enough for a simulator, and cheap in pure Python.
    z = (key + index * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def uniform(key: int, index: int) -> float:
    """Return a number in [0, 1) that depends on key and index only."""
    return _mix(key, index) / 18446744073709551616.0


def bell(key: int, index: int) -> float:
    """Return a nearly normal number (mean 0, variance 1; sum of four uniforms, so within +-3.5)."""
    z = _mix(key, index)
    total = (z & 0xFFFF) + ((z >> 16) & 0xFFFF) + ((z >> 32) & 0xFFFF) + (z >> 48)
    return (total / 65536.0 - 2.0) * _ROOT3


class Wave:
    """Hold value noise of one time scale: unit variance, correlated over about `period_ms`."""

    __slots__ = ("_index", "_key", "_left", "_right", "period_ms")

    def __init__(self, key: int, period_ms: int) -> None:
        self._key, self.period_ms = key, period_ms
        self._index: int | None = None
        self._left = self._right = 0.0

    def at(self, at_ms: int) -> float:
        """Return the noise at a time; the two knots around it are remembered, which changes speed only."""
        index, rest = divmod(at_ms, self.period_ms)
        if index != self._index:
            self._left, self._right = bell(self._key, index), bell(self._key, index + 1)
            self._index = index
        w = rest / self.period_ms
        # Interpolation alone would be quieter between knots; dividing keeps the variance at 1 everywhere.
        return ((1.0 - w) * self._left + w * self._right) / math.sqrt(1.0 - 2.0 * w + 2.0 * w * w)


MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


class Drift:
    """Hold noise with memory: waves of several time scales added up (unit variance)."""

    __slots__ = ("_waves", "_weights")

    def __init__(self, key: int, periods_ms: tuple[int, ...], weights: tuple[float, ...]) -> None:
        norm = math.sqrt(sum(w * w for w in weights))
        self._waves = tuple(Wave(key_of(key, p), p) for p in periods_ms)
        self._weights = tuple(w / norm for w in weights)

    def at(self, at_ms: int) -> float:
        """Return the noise at a time."""
        return sum(weight * wave.at(at_ms) for wave, weight in zip(self._waves, self._weights, strict=True))


def fast_drift(key: int) -> Drift:
    """Make process noise: 13 minutes to 7 hours, as a control loop leaves it."""
    return Drift(key, (13 * MINUTE_MS, 47 * MINUTE_MS, 160 * MINUTE_MS, 7 * HOUR_MS), (0.5, 0.6, 0.6, 0.5))


def slow_drift(key: int) -> Drift:
    """Make slow noise: half a day to a week, as fuel lots, catalysts and weather leave it."""
    return Drift(key, (11 * HOUR_MS, 31 * HOUR_MS, 6 * DAY_MS), (0.6, 0.6, 0.5))
