"""Filled lines, marks on high readings, gas from a bottle at night: found, and what is routine left alone."""

from __future__ import annotations

import numpy as np
import pytest

from stackwitness_detectors.availability import Lines, MarkedHigh
from stackwitness_detectors.availability.lines import bridged_by_itself, straight
from stackwitness_detectors.availability.missing import p_of_edges
from stackwitness_detectors.calibration import pulses
from stackwitness_detectors.calibration.pulses import depths
from stackwitness_detectors.conditional import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.engine import Family
from stackwitness_detectors.forge import forge
from stackwitness_detectors.memory import Memory
from stackwitness_detectors.shape import DigitReader
from tests.detectors.alone import alone
from tests.detectors.plants import CONTEXT, DAY_MS, HOUR_MS, LIMIT, START_MS, Frame, plant, with_values

CLEAN = plant(75, seed=41)
FROM_MS = START_MS + 55 * DAY_MS


def families(memory: Memory, config: Config) -> list[Family]:
    residuals = Residuals(memory, config)
    return [
        residuals,
        Lines(memory, config, DigitReader(memory, config)),
        MarkedHigh(memory, config),
        *pulses(memory, config, residuals),
    ]


def calibrated_daily() -> Frame:
    """Give a plant whose analysers take span gas, far above the limit, every morning at 6, marked C."""
    frame = with_values(CLEAN, **{name: CLEAN.values[name].copy() for name in ("nox", "so2")})
    at = (frame.at_ms // HOUR_MS) % 24 == 6
    for name in ("nox", "so2"):
        frame.values[name][at] = 2 * LIMIT
        letters = frame.status[name].copy()
        letters[at] = ord("C")
        frame.status[name] = letters  # type: ignore[index]
    return frame


def test_an_honest_plant_is_left_alone() -> None:
    assert [f.text_en for f in alone(families, CLEAN)] == []


def test_span_gas_every_morning_is_routine() -> None:
    assert [f.text_en for f in alone(families, calibrated_daily())] == []


@pytest.mark.parametrize(
    ("kind", "days", "strength", "detector"),
    [
        ("backfill", 14, 6, "filled_line"),
        ("status_abuse", 14, 1.0, "marked_high"),
        ("calibration_gas", 2, 6, "pulse_1d"),
        ("zero_air", 1, 3, "pulse_1d"),
    ],
)
def test_it_is_found_and_named(kind: str, days: int, strength: float, detector: str) -> None:
    bent = forge(kind, CLEAN, CONTEXT, "nox", FROM_MS, FROM_MS + min(days, 19) * DAY_MS, strength, seed=5)
    hits = [f for f in alone(families, bent) if f.detector == detector and f.channels == ("nox",)]
    assert hits
    assert hits[0].kinds[0] == kind
    assert hits[0].to_ms >= FROM_MS


def test_a_straight_line_is_told_from_chance() -> None:
    at_ms = np.arange(8, dtype=np.int64) * HOUR_MS
    line = np.array([100.0, 110.0, 121.0, 130.0, 140.0, 155.0, 133.0, 190.0])
    assert straight(at_ms, line)[1:-1].tolist() == [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    assert np.isnan(straight(at_ms, np.full(8, 7.0))).all()  # a hold is no line
    assert np.isnan(straight(at_ms, np.array([1.0, np.nan] * 4))).all()


def test_the_depth_of_a_block_needs_both_edges() -> None:
    series = np.array([5.0, 5.0, 1.0, 2.0, 4.0, 5.0])
    assert depths(series)[1, 4] == pytest.approx(2.0)
    falling = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])
    assert np.nanmax(depths(falling)[1]) < 0


def test_gaps_between_high_readings_are_told_from_gaps_anywhere() -> None:
    rng = np.random.default_rng(6)
    y = 50 + np.cumsum(rng.normal(0, 1, 400))
    lost = np.where(y > np.quantile(y, 0.8), np.nan, y)
    anywhere = y.copy()
    anywhere[rng.choice(400, 40, replace=False)] = np.nan
    assert p_of_edges(lost) < 0.02
    assert p_of_edges(anywhere) > 0.02
    assert p_of_edges(np.full(10, np.nan)) == 1.0


def test_one_short_gap_may_be_bridged_by_the_logger_itself() -> None:
    alone_once = bridged_by_itself({"days": 1, "stretches": 1, "longest": 3})
    assert alone_once == pytest.approx(0.05, rel=0.05)
    assert bridged_by_itself({"days": 1, "stretches": 1, "longest": 12}) < 0.01 * alone_once
    assert bridged_by_itself({"days": 7, "stretches": 7, "longest": 1}) < 1e-9
