"""How many bits it takes to repeat an earlier sequence by chance, step by step, from the channel's own history.

For each lag the evidence of the match that is going on is kept. A step that equals the earlier one gives
-log2 p(difference), p from the channel's own differences (a zero after a zero: from its own persistence), at most
`step_bits`; a step that differs sets the lag back to zero. So coarse resolution and floors cost what they should.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import Values

Bits: TypeAlias = NDArray[np.float32]


class StepOdds:
    """Give the bits of single steps of channels [n, C] out of their history (oldest first)."""

    def __init__(self, history: Values, cap_bits: float) -> None:
        self.history, self.cap = history, cap_bits
        self.moves = np.diff(history, axis=0).astype(np.float32)

    def bits(self, k: int, value: float, move: float, was_still: bool) -> float:
        """Give the evidence of one equal step: of the value at the start (`move` NaN), then of the move."""
        if np.isnan(move):
            p = self._share(self.history[:, k] == value)
        elif move == 0.0 and was_still:
            still = self.moves[:, k] == 0.0
            p = (float((still[1:] & still[:-1]).sum()) + 1.0) / (float(still[:-1].sum()) + 2.0)
        else:
            p = self._share(self.moves[:, k] == np.float32(move))
        return float(min(-np.log2(p), self.cap))

    @staticmethod
    def _share(equal: NDArray[np.bool_]) -> float:
        return min(1.0, (float(equal.sum()) + 1.0) / (len(equal) + 1.0))


def advance(bits: Bits, equal: NDArray[np.bool_], gain: NDArray[np.float32]) -> Bits:
    """Lead the evidence [lags, C] one step on."""
    return np.where(equal, bits + gain, np.float32(0.0))
