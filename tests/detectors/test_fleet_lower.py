"""Lower than the neighbours: most of them must say so, so that one forged neighbour accuses nobody and clears nobody."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

from stackwitness_detectors import Context, Frame
from stackwitness_detectors.fleet import FleetResult, run_fleet
from stackwitness_detectors.fleet.beside import middle_of
from tests.detectors.plants import DAY_MS, HOUR_MS, START_MS, wander
from tests.detectors.test_fleet import CHANNELS

DAYS, FROM_DAY = 130, 112
STATIONS = ("a", "b", "c", "d", "e")
NAN = float("nan")


@functools.cache
def posts() -> dict[str, np.ndarray]:
    """Simulate five posts of one region: a common course and a local one each."""
    rng, n = np.random.default_rng(8), DAYS * 24
    common = 0.5 * wander(rng, n, 0.97)
    return {stn: np.round(60 * np.exp(common + 0.12 * wander(rng, n, 0.7)), 1) for stn in STATIONS}


def frames(values: dict[str, np.ndarray], first: int, last: int) -> dict[str, Frame]:
    at_ms = START_MS + np.arange(DAYS * 24, dtype=np.int64) * HOUR_MS
    return {
        stn: Frame(at_ms[first * 24 : last * 24], {"pm": v[first * 24 : last * 24]})
        for stn, v in values.items()
    }


@functools.cache
def before(stations: tuple[str, ...]) -> FleetResult:
    """Judge the honest days, once for all forgeries."""
    honest = {stn: posts()[stn] for stn in stations}
    return run_fleet(contexts(stations), None, frames(honest, 0, FROM_DAY), START_MS + FROM_DAY * DAY_MS)


def contexts(stations: tuple[str, ...]) -> list[Context]:
    return [Context(stn, CHANNELS) for stn in stations]


def forged(
    shares: dict[str, float], stations: tuple[str, ...] = STATIONS, days: int = 14
) -> dict[str, np.ndarray]:
    values = {stn: posts()[stn].copy() for stn in stations}
    for stn, share in shares.items():
        values[stn][FROM_DAY * 24 : (FROM_DAY + days) * 24] *= share
    return values


def told(values: dict[str, np.ndarray]) -> set[str]:
    """Name the stations told to be lower, in the days of the forgery and those after it."""
    stations = tuple(values)
    assert before(stations).findings == {}
    end_ms = START_MS + DAYS * DAY_MS
    result = run_fleet(contexts(stations), before(stations).state, frames(values, FROM_DAY, DAYS), end_ms)
    return {
        stn
        for stn, all_of in result.findings.items()
        if any(f.detector == "lower_than_neighbours" for f in all_of)
    }


@pytest.mark.parametrize("share", [0.5, 2.0])
@pytest.mark.parametrize("stations", [STATIONS, STATIONS[:3]])
def test_one_forged_neighbour_accuses_nobody(share: float, stations: tuple[str, ...]) -> None:
    assert told(forged({"b": share}, stations)) <= {"b"}


def test_one_forged_neighbour_clears_nobody() -> None:
    assert told(forged({"a": 0.7, "b": 0.5})) == {"a", "b"}


def test_a_fifth_less_for_a_fortnight_is_told_with_its_numbers() -> None:
    assert told(forged({"a": 0.8})) == {"a"}


def test_any_cut_between_days_gives_the_same() -> None:
    values, state, findings = forged({"a": 0.7}), before(STATIONS).state, []
    for first, last in itertools.pairwise((FROM_DAY, FROM_DAY + 1, FROM_DAY + 6, FROM_DAY + 15, DAYS)):
        result = run_fleet(contexts(STATIONS), state, frames(values, first, last), START_MS + last * DAY_MS)
        state, findings = result.state, [*findings, *result.findings.get("a", ())]
    whole = run_fleet(
        contexts(STATIONS), before(STATIONS).state, frames(values, FROM_DAY, DAYS), START_MS + DAYS * DAY_MS
    )
    assert (state, tuple(findings)) == (whole.state, whole.findings["a"])
    lower = next(f for f in findings if f.detector == "lower_than_neighbours")
    assert lower.numbers["neighbours"] == 4
    assert -40 < float(lower.numbers["shift_percent"]) < -20


def test_the_middle_is_the_median_and_between_two_the_channel_decides() -> None:
    said = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, NAN], [NAN, NAN]])
    assert np.array_equal(
        middle_of(said, np.array([0.5, 1.7, 3.0, 1.0, 1.0])), [1.0, 1.7, 2.0, NAN, NAN], equal_nan=True
    )
    said = np.array([[4.0, 1.0, 2.0, 9.0], [1.0, NAN, 2.0, 9.0], [1.0, NAN, 2.0, NAN]])
    assert np.array_equal(middle_of(said, np.zeros(3)), [3.0, 2.0, 1.0])
