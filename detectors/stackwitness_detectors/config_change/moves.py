"""How a constant between channels moved: by a share, an amount, through oxygen, in high hours, in single ones, loosely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import Values

_ALL = 0.9
_HIGH_PAIRS = 0.93
_LOOSE = 0.5


@dataclass(frozen=True)
class Move:
    """Name the move, its size (log), and the line reported = slope x computed + intercept of the hours it holds in."""

    name: str
    size: float
    slope: float
    intercept: float


def move_of(off: Values, moved: NDArray[np.bool_], expected: Values, gap: tuple[Values, int] | None) -> Move:
    """Name how hours left their constant.

    `off` [n]: log of reported / computed; `moved` [n]: which hours did; `expected` [n]: log of computed; `gap`:
    distance of the reported oxygen from that of air [n] and its power, None where no oxygen is part of the relation.
    """
    r, computed = off[moved], np.exp(expected[moved])
    size = float(np.median(r))
    slope, intercept = _line(computed, computed * np.exp(r))
    if moved.mean() < _ALL:
        # Share of pairs (moved hour, other hour) in which the moved one is expected higher.
        higher = float((expected[moved][:, None] > expected[~moved][None, :]).mean())
        high = higher > _HIGH_PAIRS and size < 0
        return Move("high" if high else "single", size, slope, intercept)
    if float(np.std(r)) > _LOOSE * abs(size):
        return Move("loose", size, slope, intercept)
    amount = float(np.median(computed * np.expm1(r)))
    left = {
        "share": float(np.abs(r - size).sum()),
        "amount": float(np.abs(r - np.log(np.maximum(1.0 + amount / computed, 1e-6))).sum()),
    }
    if gap is not None:
        reported, power = gap[0][moved], gap[1]
        # Reported oxygen d points too low makes the gap g' = g + d: the constant moves by -power log(g' / (g' - d)).
        points = float(np.median(reported * (1.0 - np.exp(r / power))))
        true = np.maximum(reported - points, 1e-3)
        left["oxygen"] = float(np.abs(r + power * np.log(reported / true)).sum())
    return Move(min(left, key=lambda one: left[one]), size, slope, intercept)


def _line(x: Values, y: Values) -> tuple[float, float]:
    spread = float(((x - x.mean()) ** 2).sum())
    if spread <= 0 or len(x) < 3:
        return float(y.mean() / x.mean()), 0.0
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
    return slope, float(y.mean() - slope * x.mean())
