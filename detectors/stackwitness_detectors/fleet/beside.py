"""What related stations lead one to expect of a channel, hour by hour: the middle of what each of them says alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stackwitness_detectors.conditional.ledger import Ledger, Shift
from stackwitness_detectors.contract import Values
from stackwitness_detectors.fleet.kin import Kin

LEAST_PEERS = 2
# An hour counts as so many spreads at most; a neighbour and the channel must have so many hours both.
_WINSOR, _LEAST_HOURS = 4.0, 240
# Clean air stations crossed the laws of the ledger 0.4 to 0.7 times as often as promised, those of windows of six hours and a
# day a tenth as often (see docs/detectors/fleet.md): neighbours take away the weather, and no plant changes beside them.
_LONG_PART, _SHORT_PART = 0.7, 0.15
_SHORT_DAYS = 3.0


@dataclass(frozen=True)
class Beside:
    """Hold a day's hours [24] less what the neighbours say, what each weighs, the usual spread, the neighbour in the middle."""

    residual: Values
    weight: Values
    spread: float
    middle: int
    peers: int


class FleetLedger(Ledger):
    """Judge residuals against neighbours: how often they lie far out was measured apart from those of models."""

    def weigh(self, day: int, beside: Beside, least_hours: int) -> bool:
        """Add a day of hours that weigh differently; tell whether it is the newest and counts."""
        if not self.add(day, beside.residual, least_hours):
            return False
        known = np.isfinite(beside.residual)
        residual, weight = beside.residual[known], beside.weight[known]
        span = np.ones(min(6, weight.size))
        six = np.convolve(weight * residual, span, "valid") / np.convolve(weight, span, "valid")
        row = [day, weight.sum(), float(weight @ residual) / float(weight.sum()), six.min(), six.max(), 0.0]
        # Kept with seven digits, as in the state: what is judged now is what is judged from the state.
        self.rows[-1] = np.array(row, np.float32)
        return True

    def _judge(self, days: float, base_days: int, size: Values, base: float, ordinary: float) -> Shift | None:
        shift = super()._judge(days, base_days, size, base, ordinary)
        part = _SHORT_PART if days < _SHORT_DAYS else _LONG_PART
        return None if shift is None else _rarer(shift, part)

    def _added_up(self, spread: float, upwards: bool) -> Shift | None:
        shift = super()._added_up(spread, upwards)
        return None if shift is None else _rarer(shift, _LONG_PART)


def _rarer(shift: Shift, part: float) -> Shift:
    return Shift(**{**vars(shift), "rate": part * shift.rate})


def look_beside(kin: Kin, k: int, day: int) -> Beside | None:
    """Compare a channel's day with its related neighbours; None with fewer than two that can say something.

    Each neighbour speaks alone, by mean and spread of both courses in the reference (days 14 to 56 before): the slope is the
    ratio of the spreads (reduced major axis), since a neighbour errs like the channel itself and least squares would
    flatten its course. The middle of them counts, and its mean error in the reference is taken away.
    """
    fleet, peers = kin.fleet, kin.peers(k, day)
    if len(peers) < LEAST_PEERS:
        return None
    stop_h = (day + 1) * 24
    y = kin.reference(k, day)
    there = np.column_stack([kin.reference(j, day) for j in peers])
    now = fleet.block(peers, stop_h, 24)
    own = fleet.window(k, stop_h, 24)
    if len(there) != len(y) or len(own) != 24:
        return None
    mean_y, mean_p, slope = _axes(y, there)
    expected = middle_of(mean_y + slope * (there - mean_p), y)
    said = mean_y + slope * (now - mean_p)
    before = y - expected
    known = np.isfinite(before)
    if known.sum() < _LEAST_HOURS:
        return None
    usual = float(before[known].mean())
    spread = math.sqrt(float(before[known].var()))
    today = middle_of(said, own)
    weight = weights(today, expected[known], bool(fleet.logarithmic[k]))
    order = sorted(range(len(peers)), key=lambda i: (not np.isfinite(said[:, i]).any(), _mean(said[:, i]), i))
    heard = int(np.isfinite(said).any(axis=0).sum())
    middle = peers[order[max(heard - 1, 0) // 2]]
    residual = np.clip(own - today - usual, -_WINSOR * spread, _WINSOR * spread)
    return Beside(residual, weight, spread, middle, heard)


def weights(expected: Values, usual: Values, logarithmic: bool) -> Values:
    """Weigh hours by what is expected [n], on average 1 over the `usual` ones: near nothing, shares tell little.

    p^2 / (p^2 + c^2), c the median: an error that is the same amount at any level and one that is the same share.
    """
    if not logarithmic:
        return np.ones(len(expected))
    middle = float(np.median(usual))
    whole = float((1.0 / (1.0 + np.exp(-2.0 * (usual - middle)))).mean())
    return 1.0 / (1.0 + np.exp(-2.0 * (expected - middle))) / whole


def _axes(y: Values, there: Values) -> tuple[Values, Values, Values]:
    """Return means of y [n] and of each course there [n, m] in the hours both have, and the ratio of their spreads."""
    both = np.isfinite(there) & np.isfinite(y)[:, None]
    count = np.where(both.sum(axis=0) >= _LEAST_HOURS, both.sum(axis=0), np.nan)
    own, other = np.where(both, y[:, None], 0.0), np.where(both, there, 0.0)
    mean_y, mean_p = own.sum(axis=0) / count, other.sum(axis=0) / count
    spread_y = np.where(both, own - mean_y, 0.0).std(axis=0)
    spread_p = np.where(both, other - mean_p, 0.0).std(axis=0)
    slope = np.where(spread_p > 0, spread_y / np.where(spread_p > 0, spread_p, 1.0), np.nan)
    return mean_y, mean_p, slope


def middle_of(said: Values, own: Values) -> Values:
    """Return the median of what the neighbours say in each hour of [n, m], NaN where fewer than two say something.

    Between two the channel itself decides (own [n]): what lies between them is expected, beyond both the nearer one is, so
    that neither alone accuses, not by being forged and not by ceasing to be.
    """
    count = np.isfinite(said).sum(axis=1)
    ranked = np.sort(said, axis=1)  # what is missing comes last
    rows, last = np.arange(len(said)), said.shape[1] - 1
    low = ranked[rows, np.maximum(count - 1, 0) // 2]
    high = ranked[rows, np.minimum(count // 2, last)]
    middle = np.where(count == LEAST_PEERS, np.clip(own, low, high), (low + high) / 2)
    return np.where(count >= LEAST_PEERS, middle, np.nan)


def _mean(values: Values) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else 0.0
