"""Without pooled laws every window of the level is judged by the channel's own past, and nothing is added up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stackwitness_detectors.bench.replay import POOLING, listening
from stackwitness_detectors.conditional.ledger import Reference, is_pooled, pooled_law
from stackwitness_detectors.config import DEFAULT

OWN = listening(0.25, (POOLING,))
OF_A_YEAR = Reference(np.array([0.1, 0.08, 0.05]), 12.0, 0.0, 0.03, 52.0)


def test_pooling_is_a_switch_of_its_own() -> None:
    assert replace(DEFAULT, pooled_laws=False) == OWN
    assert is_pooled(7, DEFAULT)
    assert not is_pooled(7, OWN)
    assert not is_pooled(1, DEFAULT)


def test_each_way_asks_for_the_shift_that_it_would_tell() -> None:
    for config in (DEFAULT, OWN):
        for days in (1, 7, 30):
            shift = OF_A_YEAR.shift_at(0.01, days, config)
            assert np.isclose(OF_A_YEAR.rate(shift, days, config), 0.01, rtol=0.05)


def test_a_week_is_rarer_or_more_ordinary_by_its_own_past() -> None:
    z = 0.3 / 0.03
    assert OF_A_YEAR.rate(0.3, 7, DEFAULT) == pooled_law(7).rate(z, 52.0)
    assert OF_A_YEAR.rate(0.3, 7, OWN) != pooled_law(7).rate(z, 52.0)
