"""How many bits it takes to repeat an earlier sequence by chance, step by step, from the channel's own history.

For each lag the evidence of the match that is going on is kept. A step that equals the earlier one gives
-log2 p(difference), p from the channel's own differences (a zero after a zero: from its own persistence), at most
`step_bits`; a step that differs sets the lag back to zero. So coarse resolution and floors cost what they should.
Where the value before stood at other times as well, what followed it there counts: clean air moves by one or two units
and stands at its floor, whatever the steps of dirty air are, and an analyser that has a few values at one load keeps to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import Values
from stackwitness_detectors.tail import LEAST_RATE

_LEAST_TOP = 6
_PRIOR_TOP = 4.0
_PRIOR_FOLLOWED = 10.0  # times that a value was followed by another weigh as much as all steps of the channel


class StepOdds:
    """Give the bits of single steps of channels [n, C] out of their history (oldest first)."""

    def __init__(self, history: Values, cap_bits: float) -> None:
        self.history, self.cap = history, cap_bits
        self._moves: dict[int, NDArray[np.float32]] = {}
        self._known: dict[tuple[int, float, bool], float] = {}

    def moves(self, k: int) -> NDArray[np.float32]:
        """Give the steps of one channel; float32 rounds the noise of decimal differences away."""
        if k not in self._moves:
            self._moves[k] = np.diff(self.history[:, k]).astype(np.float32)
        return self._moves[k]

    def start_bits(self, equal: int) -> float:
        """Give the evidence of a value at the start of a match that came `equal` times in the history."""
        return self._bits(self._share(equal, len(self.history)))

    def move_bits(self, k: int, move: float, was_still: bool) -> float:
        """Give the evidence of one equal step further."""
        if (k, move, was_still) not in self._known:
            self._known[k, move, was_still] = self._move_bits(k, move, was_still)
        return self._known[k, move, was_still]

    def _move_bits(self, k: int, move: float, was_still: bool) -> float:
        moves = self.moves(k)
        if move == 0.0 and was_still:
            still = moves == 0.0
            usual = self._share(int(np.count_nonzero(still)), len(still))
            p = (float(np.count_nonzero(still[1:] & still[:-1])) + 2.0 * usual) / (
                float(np.count_nonzero(still[:-1])) + 2.0
            )
        else:
            p = self._share(int(np.count_nonzero(moves == np.float32(move))), len(moves))
        return self._bits(p)

    def _bits(self, p: float) -> float:
        return float(min(-np.log2(p), self.cap))

    @staticmethod
    def _share(equal: int, of: int) -> float:
        return min(1.0, (equal + 1.0) / (of + 1.0))


@dataclass(frozen=True)
class Going:
    """Hold the matches that are going on in one channel: lags (rows, ascending), bits so far, bits of the last step."""

    lags: NDArray[np.int64]
    bits: NDArray[np.float64]
    gain: NDArray[np.float64]

    @classmethod
    def none(cls) -> Going:
        """Begin without a match."""
        return _NONE

    def at(self, lags: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give bits and last gains at some lags, 0 where no match is going on."""
        if not self.lags.size:
            return np.zeros(len(lags)), np.zeros(len(lags))
        place = np.minimum(np.searchsorted(self.lags, lags), self.lags.size - 1)
        same = self.lags[place] == lags
        return np.where(same, self.bits[place], 0.0), np.where(same, self.gain[place], 0.0)

    def best(self) -> tuple[int, float]:
        """Give the lag with most bits, (0, 0) when there is none."""
        if not self.lags.size:
            return 0, 0.0
        top = int(self.bits.argmax())
        return int(self.lags[top]), float(self.bits[top])


def next_step(
    before: Going, lags: NDArray[np.int64], start_bits: float, move_bits: Callable[[], float] | None
) -> Going:
    """Lead the matches one step on: only `lags` are equal now.

    `move_bits` is asked only when a match goes on; None when the move is not known: the value counts again.
    """
    gain = np.empty(len(lags))
    gain.fill(start_bits)
    if not before.lags.size:
        return Going(lags, gain, gain)
    place = before.lags.searchsorted(lags)
    np.minimum(place, before.lags.size - 1, out=place)
    same = before.lags[place] == lags
    if not same.any():
        return Going(lags, gain, gain)
    had = np.where(same, before.bits[place], 0.0)
    going_on = had > 0
    if move_bits is not None and going_on.any():
        usual = move_bits()
        followed = _followed_bits(int(np.count_nonzero(same)), before.lags.size, usual)
        gain = np.where(going_on, min(usual, followed), start_bits)
    return Going(lags, had + gain, gain)


def _followed_bits(followed: int, stood: int, usual: float) -> float:
    """Give the bits of a step by how often this value followed the one before, the match itself left out."""
    p = (followed - 1 + _PRIOR_FOLLOWED * 2.0**-usual) / (stood - 1 + _PRIOR_FOLLOWED)
    return -math.log2(p)


def equal_lags(values: NDArray[Any], x: float | np.float32) -> NDArray[np.int64]:
    """Give how many rows ago a value stood that equals `x`, ascending; the row before is 1."""
    places = (values == x).nonzero()[0]
    lags: NDArray[np.int64] = len(values) - places[::-1]
    return lags


def counted(lags: NDArray[np.int64], rows: int, history: int) -> int:
    """Count those of the lags (ascending, from row `rows`) that lead into the first `history` rows."""
    return len(lags) - int(lags.searchsorted(rows - history, "right"))


_NONE = Going(np.empty(0, np.int64), np.empty(0), np.empty(0))


def rate_beyond(score: float, past: Sequence[float], months: float, least: float) -> float:
    """Expect so many scores >= `score` a month, where scores are evidence in bits or nats: exponential tails.

    Beyond the highest of the past the rate falls as the top eighth of the past does, shrunk to the scale `least`
    and never faster.
    """
    top = np.sort(np.array(past, np.float64))[::-1][: max(_LEAST_TOP, len(past) // 8)]
    above = int((top >= score).sum())
    if above:
        return (1 + above) / months
    scale = (float((top - top[-1]).sum()) + _PRIOR_TOP * least) / (len(top) - 1 + _PRIOR_TOP)
    return max(math.exp(-(score - float(top[0])) / max(scale, least)) / months, LEAST_RATE)
