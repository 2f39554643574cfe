"""The last place of readings, by their size: an analyser with five digits writes 2.2343 and 54.741.

Found from all recent readings, apart from how the tests of digits find theirs (`shape.units`, what most readings keep to):
a forgery must not be as wrong as the test that looks for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import Values

_COARSEST, _FINEST = 3, -6  # powers of ten
_LEAST_IN_DECADE = 10


@dataclass(frozen=True)
class Places:
    """Hold the step of the last place per decade (floor of log10 of the size), and one for sizes never seen."""

    decades: NDArray[np.int64]
    steps: Values
    usual: float

    def of(self, values: Values) -> Values:
        """Give the step of each value [n], in its unit; of a size never seen that of the nearest seen."""
        steps = np.full(values.shape, self.usual)
        if len(self.decades):
            nearest = np.abs(decade_of(values)[:, None] - self.decades).argmin(axis=1)
            steps = self.steps[nearest]
        return steps


def places_of(sample: Values) -> Places:
    """Find the last places of a sample of readings [n]: the largest powers of ten that hold them."""
    decade = decade_of(sample)
    seen, counts = np.unique(decade, return_counts=True)
    seen = seen[counts >= _LEAST_IN_DECADE]
    steps = [step_of(sample[decade == d]) for d in seen]
    return Places(seen, np.array(steps, np.float64), step_of(sample))


def step_of(sample: Values) -> float:
    """Give the largest power of ten, from a millionth to a thousand, of which all of a sample are multiples."""
    for exponent in range(_COARSEST, _FINEST - 1, -1):
        step = 10.0**exponent
        if sample.size and np.allclose(sample / step, np.round(sample / step), atol=1e-6, rtol=0.0):
            return step
    return 10.0**_FINEST


def decade_of(values: Values) -> NDArray[np.int64]:
    """Give floor(log10 |value|) [n]; that of nought and of nothing is very small."""
    size = np.abs(np.where(np.isfinite(values), values, 0.0))
    decades: NDArray[np.int64] = np.floor(np.log10(np.maximum(size, 1e-12))).astype(np.int64)
    return decades


def to_step(values: Values, step: Values | float) -> Values:
    """Round to multiples of a step, one or [n], free of binary dust (0.1 + 0.2 shall read 0.3)."""
    multiples = np.round(values / step) * step
    if np.ndim(step) == 0:
        return np.round(multiples, _digits(float(step)))
    found = multiples.copy()
    for one in np.unique(step).tolist():
        found[step == one] = np.round(multiples[step == one], _digits(one))
    return found


def _digits(step: float) -> int:
    return max(0, int(np.ceil(-np.log10(step))) + 1)
