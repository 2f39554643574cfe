"""Curves of calibrations and the hours they are put on: forged ones are found, routine is left alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stackwitness_detectors import Finding, Frame
from stackwitness_detectors.calibration import Challenge, Convenient
from stackwitness_detectors.calibration.challenge import features_of
from stackwitness_detectors.calibration.convenient import ranks
from stackwitness_detectors.conditional import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.engine import Engine, Family
from stackwitness_detectors.memory import Memory
from tests.detectors.alone import alone
from tests.detectors.plants import CONTEXT, DAY_MS, START_MS, part, plant, with_values

STEP_MS = 5 * 60_000
SPAN, SAMPLES = 160.0, 9
Bend = Callable[[int, np.ndarray, np.ndarray], np.ndarray]


def curves(memory: Memory, config: Config) -> list[Family]:
    return [Challenge(memory, config)]


def challenged(days: int, bend: Bend | None = None, seed: int = 51) -> Frame:
    """Give five-minute readings; every day at 09:00 the analyser takes span gas for 45 minutes, marked C."""
    frame = plant(days, STEP_MS, seed)
    rng = np.random.default_rng(seed)
    nox, letters = frame.values["nox"].copy(), frame.status["nox"].copy()
    for day in range(days):
        at = day * 288 + 9 * 12 + int(rng.integers(0, 3))
        inside = slice(at, at + SAMPLES)
        minutes = 5.0 * np.arange(1, SAMPLES + 1)
        share = 1.0 - np.exp(-minutes / 4.0)
        gas = SPAN * (1.0 + 0.003 * rng.standard_normal())
        curve = nox[at - 1] + (gas - nox[at - 1]) * share + 0.3 * rng.standard_normal(SAMPLES)
        nox[inside] = np.round(curve if bend is None else bend(day, curve, nox[inside]), 1)
        letters[inside] = ord("C")
        tail = np.exp(-5.0 * np.arange(1, 4) / 4.0)  # the gas leaves the line behind the mark
        nox[at + SAMPLES : at + SAMPLES + 3] = np.round(
            nox[at + SAMPLES : at + SAMPLES + 3] * (1 - tail) + nox[at + SAMPLES - 1] * tail, 1
        )
        letters[at + SAMPLES] = ord("C")
    bent = with_values(frame, nox=nox)
    return Frame(bent.at_ms, bent.values, {**bent.status, "nox": letters})


def typed(day: int, curve: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.full(SAMPLES, SPAN) if day >= 40 else curve


def skipped(day: int, curve: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Mark the hours and take no gas."""
    return true if day >= 40 else curve


def weak(day: int, curve: np.ndarray, true: np.ndarray) -> np.ndarray:
    return 0.85 * curve if day >= 40 else curve


def zero_only(day: int, curve: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Lose the span gas of a calibration on some days: what is left is zero gas, and never twice the same."""
    return np.abs(0.004 * (curve - SPAN)) if day >= 40 and day % 3 == 0 else curve


@pytest.mark.parametrize(
    ("bend", "feature"), [(typed, {"noise", "edge"}), (skipped, {"plateau"}), (weak, {"plateau"})]
)
def test_a_forged_calibration_is_found(bend: Bend, feature: set[str]) -> None:
    findings = alone(curves, challenged(46, bend), CONTEXT)
    assert findings
    first = findings[0]
    assert first.channels == ("nox",)
    assert START_MS + 40 * DAY_MS <= first.from_ms <= START_MS + 43 * DAY_MS
    assert first.numbers["feature"] in feature
    assert "unlike the" in first.text_en
    assert first.plot["series"][0]["v"]


def test_ordinary_calibrations_are_left_alone() -> None:
    assert [f.text_en for f in alone(curves, challenged(60), CONTEXT)] == []


def test_zero_gas_alone_is_left_alone() -> None:
    assert [f.text_en for f in alone(curves, challenged(60, zero_only), CONTEXT)] == []


def test_calibrations_without_values_are_noted() -> None:
    memory = Memory(CONTEXT, Config())
    assert {n.channel for n in Challenge(memory, Config()).notes()} == {"nox", "so2", "o2"}


def test_a_curve_has_an_edge_a_time_and_a_plateau() -> None:
    value = np.array([60.0, 90.0, 99.0, 100.0, 100.0, 101.0, 40.0, 12.0, 10.0])
    samples = np.column_stack([np.arange(9) * 60_000.0, value, [1, 1, 1, 1, 1, 1, 0, 0, 0]])
    found = features_of(samples, 6, 10.0)
    assert found is not None
    assert found["plateau"] == 100.0
    assert found["edge"] == pytest.approx(5 / 9)
    assert np.exp(found["minutes"]) == pytest.approx(2.5)
    assert found["fall"] == pytest.approx(1 / 3)
    flat = features_of(np.column_stack([samples[:, 0], np.full(9, 10.0), samples[:, 2]]), 6, 10.0)
    assert flat is not None
    assert set(flat) == {"at_ms", "plateau"}
    assert features_of(samples, 3, 10.0) is not None  # too few samples for a curve: its plateau only
    assert features_of(np.column_stack([samples[:, 0], np.arange(9) * 50.0, samples[:, 2]]), 6, 0.0) is None


def hours(memory: Memory, config: Config) -> list[Family]:
    residuals = Residuals(memory, config)
    return [residuals, Convenient(memory, config, residuals)]


def calibrated(choose: Callable[[np.ndarray, np.random.Generator], list[int]], seed: int = 52) -> Frame:
    """Give 90 hourly days; `choose` names the hours of nox that carry the mark C and no value."""
    frame = plant(90, seed=seed)
    nox, letters = frame.values["nox"].copy(), frame.status["nox"].copy()
    at = choose(nox, np.random.default_rng(seed))
    nox[at], letters[at] = np.nan, ord("C")
    bent = with_values(frame, nox=nox)
    return Frame(bent.at_ms, bent.values, {**bent.status, "nox": letters})


def when_high(nox: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Calibrate on every third day, at its highest hour between 8 and 18; from day 30 on when the day is a high one."""
    days = nox.reshape(-1, 24)
    high = [d for d in range(30, 90) if days[d].mean() > np.quantile(days[30:].mean(axis=1), 0.75)]
    return [d * 24 + 8 + int(np.argmax(days[d, 8:18])) for d in [*range(0, 30, 3), *high]]


def any_day(nox: np.ndarray, rng: np.random.Generator) -> list[int]:
    return [int(d) * 24 + int(rng.integers(8, 17)) for d in np.sort(rng.choice(90, 30, replace=False))]


def every_morning(nox: np.ndarray, rng: np.random.Generator) -> list[int]:
    return [d * 24 + 9 for d in range(90)]


def test_calibrations_on_high_days_are_found() -> None:
    findings = alone(hours, calibrated(when_high), CONTEXT)
    assert findings
    assert findings[0].kinds[0] == "status_abuse"
    assert float(findings[0].numbers["mean_rank"]) > 0.65


@pytest.mark.parametrize("choose", [any_day, every_morning])
def test_calibrations_on_any_day_are_left_alone(
    choose: Callable[[np.ndarray, np.random.Generator], list[int]],
) -> None:
    assert [f.text_en for f in alone(hours, calibrated(choose), CONTEXT)] == []


def test_where_every_day_is_marked_nothing_was_chosen() -> None:
    grid = np.random.default_rng(1).normal(size=(56, 24))
    rank, free = ranks(grid, np.arange(56) * 24 + 9)
    assert rank.mean() == pytest.approx(0.5)
    assert free.tolist() == [0.0] * 56


def test_streamed_in_pieces_they_say_the_same() -> None:
    frame = challenged(44, typed)
    whole = alone(curves, frame, CONTEXT)
    state: bytes | None = None
    told: list[Finding] = []
    for first in range(0, len(frame.at_ms), 3001):
        memory = Memory(CONTEXT, Config())
        engine = Engine(CONTEXT, Config(), curves(memory, Config()), memory)
        if state is not None:
            engine.load(state)
        engine.feed(part(frame, first, min(first + 3001, len(frame.at_ms))))
        state = engine.dump()
        told += engine.findings
    assert told == whole
