"""ECOD here gives the numbers of PyOD's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackwitness_detectors.second_opinion.ecod import ecod_scores


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # PyOD's, of columns that are constant
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(5, 60))
def test_scores_are_those_of_pyod(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.column_stack(
        [rng.normal(size=count), rng.exponential(size=count), rng.integers(0, 3, count), np.ones(count)]
    )
    ecod = pytest.importorskip("pyod.models.ecod")
    theirs = ecod.ECOD(contamination=0.01).fit(x).decision_scores_
    before, last = ecod_scores(x[:-1], x[-1:])
    assert np.append(before, last) == pytest.approx(theirs, rel=1e-12)
