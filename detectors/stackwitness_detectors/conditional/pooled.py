"""How often channels lie so many spreads out, learned from many of them: a channel's own past holds too few such days."""

from __future__ import annotations

import math
from dataclasses import dataclass

_YOUNG = 8.0  # n windows that stand apart know their spread so badly that 1 + 8 / n times as many lie far out
_NEAR = 0.3  # spreads: nearer is nothing to speak of, and a power law has no meaning there


@dataclass(frozen=True)
class Pooled:
    """Expect `monthly` at a distance of `spreads` or further, and so many fewer with the distance to this `power`."""

    monthly: float
    spreads: float
    power: float

    def rate(self, distance: float, apart: float) -> float:
        """Expect so many a month this far out, at a channel with `apart` windows behind it."""
        return self._of(apart) * math.pow(self.spreads / max(distance, _NEAR), self.power)

    def distance(self, rate: float, apart: float) -> float:
        """Give how far out something must lie to be as rare."""
        return self.spreads * math.pow(self._of(apart) / rate, 1.0 / self.power)

    def _of(self, apart: float) -> float:
        return self.monthly * (1.0 + _YOUNG / apart)


# Windows of three days and those of a week and more; both count the windows that are tried beside each other.
OF_DAYS, OF_WEEKS = Pooled(0.068, 6.0, 4.0), Pooled(0.060, 4.0, 3.3)
