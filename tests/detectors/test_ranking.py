"""The fleet list keeps its promise on stations that hang together, and finds the forged ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from stackwitness_detectors.config import DEFAULT
from stackwitness_detectors.families import families_of
from stackwitness_detectors.fleet.judge import make_tests
from stackwitness_detectors.fleet.table import FleetMemory
from stackwitness_detectors.memory import Memory
from stackwitness_detectors.ranking import (
    MONTH_MS,
    TESTS,
    Spoken,
    choose_stations,
    evidence_of,
    station_e_value,
)
from tests.detectors.gasworks import CONTEXT

FLEET = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.floats(0, 1e6), max_size=12)


@given(FLEET, st.sampled_from([0.05, 0.1, 0.5]))
def test_the_list_is_that_of_its_definition(e_values: dict[str, float], fdr: float) -> None:
    chosen = choose_stations(e_values, fdr)
    ordered = sorted(e_values.values(), reverse=True)
    most = max((k for k in range(1, len(ordered) + 1) if k * ordered[k - 1] >= len(ordered) / fdr), default=0)
    assert [e_values[stn] for stn in chosen] == ordered[:most]


def test_one_e_value_is_held_to_the_size_of_the_fleet() -> None:
    quiet = {f"s{i}": 0.0 for i in range(9)}
    assert choose_stations(quiet | {"odd": 99.0}) == ()
    assert choose_stations(quiet | {"odd": 100.0}) == ("odd",)
    assert choose_stations({}) == ()


def test_realised_share_of_innocents_stays_below_the_promise_under_a_common_shock() -> None:
    rng = np.random.default_rng(3)
    shares, found = [], []
    for _ in range(400):
        # Innocents share weather: their p-values are correlated through one common normal.
        normal = np.sqrt(0.5) * rng.standard_normal() + np.sqrt(0.5) * rng.standard_normal(95)
        p = norm.sf(normal)
        fleet = {f"i{n}": 0.5 * x**-0.5 for n, x in enumerate(p.tolist())} | {
            f"f{n}": float(e) for n, e in enumerate(rng.lognormal(np.log(2e4), 1.0, 5))
        }
        chosen = choose_stations(fleet, 0.1)
        innocents = sum(stn.startswith("i") for stn in chosen)
        shares.append(innocents / max(len(chosen), 1))
        found.append((len(chosen) - innocents) / 5)
    assert np.mean(shares) <= 0.1
    assert np.mean(found) >= 0.9


def test_a_station_s_evidence_is_a_mean_over_all_tests_of_the_last_month() -> None:
    now_ms = 100 * 86_400_000
    told = [
        Spoken("hold", ("nox",), now_ms, TESTS * 30.0),
        Spoken("hold", ("nox",), now_ms - 5, TESTS * 10.0),
        Spoken("copy", ("nox", "so2"), now_ms, TESTS * 12.0),
        Spoken("comb", ("so2",), now_ms - MONTH_MS, TESTS * 1e6),
    ]
    assert evidence_of(told, 3, now_ms) == pytest.approx(14.0)
    assert evidence_of([], 3, now_ms) == 0.0


def test_every_test_of_a_station_is_counted() -> None:
    alone = families_of(Memory(CONTEXT, DEFAULT), DEFAULT)
    beside = make_tests(FleetMemory([CONTEXT], DEFAULT), DEFAULT)
    assert len(alone) + len(beside) <= TESTS


def test_a_station_counts_its_silent_families() -> None:
    assert station_e_value([80.0, 20.0], 10) == pytest.approx(10.0)
    assert station_e_value([], 0) == 0.0
