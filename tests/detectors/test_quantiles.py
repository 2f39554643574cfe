"""Quantiles and medians are numpy's, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackwitness_detectors.quantiles import median, quantile, quartile_range

numbers = st.lists(st.floats(-1e9, 1e9, allow_nan=False), min_size=1, max_size=40).map(np.array)


@given(numbers, st.floats(0.0, 1.0))
def test_they_are_those_of_numpy(values: np.ndarray, q: float) -> None:
    assert quantile(values, q) == np.quantile(values, q)
    assert median(values) == np.median(values)
    assert quartile_range(values) == np.subtract(*np.quantile(values, [0.75, 0.25]))


@pytest.mark.parametrize("values", [[], [np.nan], [1.0, np.nan, 2.0]])
def test_nothing_or_a_gap_gives_nan(values: list[float]) -> None:
    assert np.isnan(quantile(values, 0.5))
    assert np.isnan(median(np.array(values)))
