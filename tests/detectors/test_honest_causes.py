"""What honest plants do that looks like a forgery: each cause has its rule, and the forgery beside it is still found."""

from __future__ import annotations

import numpy as np

from stackwitness_detectors import Config, Frame
from stackwitness_detectors.calibration.pulses import LENGTHS, depths
from stackwitness_detectors.conditional import Residuals
from stackwitness_detectors.copy import Courses, Likeness
from stackwitness_detectors.copy.evidence import Going, next_step
from stackwitness_detectors.dynamics import Course, movements
from stackwitness_detectors.dynamics.response import cold_start, unheard_of
from stackwitness_detectors.engine import Family
from stackwitness_detectors.memory import HOUR_MS, Block, Memory
from tests.detectors.alone import alone
from tests.detectors.plants import CONTEXT, plant, with_values

DAYS = 75
LAST = DAYS * 24
HONEST = plant(DAYS, seed=21)
RNG = np.random.default_rng(6)


def follows(load: np.ndarray, nox: np.ndarray) -> Frame:
    """Give the honest plant with this load, and a channel that follows it but for a thousandth."""
    return with_values(HONEST, load=np.round(load, 1), nox=np.round(nox, 2))


def movement(memory: Memory, config: Config) -> list[Family]:
    course = Course(memory)
    return [course, *movements(memory, config, course)]


def test_a_value_that_follows_a_floor_value_as_it_always_does_is_little_evidence() -> None:
    stood = Going(np.arange(1, 101), np.full(100, 6.0), np.full(100, 6.0))
    at_floor = next_step(stood, np.arange(1, 81), 6.0, lambda: 12.0)
    assert float(at_floor.gain[0]) < 1.0
    rare = Going(np.array([40]), np.full(1, 12.0), np.full(1, 12.0))
    assert float(next_step(rare, np.array([40]), 12.0, lambda: 12.0).gain[0]) == 12.0


def test_a_block_that_the_load_steps_into_is_no_pulse() -> None:
    level = np.zeros(24)
    level[10:14] = -1.0
    steps = np.zeros(24)
    four = LENGTHS.index(4)
    assert depths(level, steps)[four, 14] == 1.0
    steps[10] = -0.5
    assert depths(level, steps)[four, 14] == 0.0
    steps[10], steps[14] = 0.0, 0.5
    assert depths(level, steps)[four, 14] == 0.0


def test_hours_after_a_long_stop_are_cold_where_such_stops_are_rare() -> None:
    def cold(stops: list[int]) -> list[int]:
        memory = Memory(CONTEXT, Config())
        for hour in range(40 * 24):
            row = np.full((1, len(CONTEXT.channels)), 50.0)
            row[0, 0] = 0.0 if any(0 <= hour - stop < 20 for stop in stops) else 300.0
            memory.remember(
                Block(hour, np.array([hour * HOUR_MS]), row, np.full(row.shape, ord("N"), np.uint8))
            )
        return np.flatnonzero(cold_start(memory)).tolist()

    assert cold([600]) == list(range(620, 628))
    assert cold([]) == []
    assert cold([200, 300, 400, 500]) == []


def test_a_load_that_hardly_ever_was_teaches_nothing() -> None:
    load = np.concatenate([np.linspace(100, 150, 400), [160.0, 150.2, 80.0, np.nan]])
    known = np.arange(404) < 400
    assert unheard_of(load, known)[-4:].tolist() == [True, False, True, False]


def test_a_day_at_full_load_is_still_and_a_held_one_is_found() -> None:
    load, nox = HONEST.values["load"].copy(), HONEST.values["nox"].copy()
    load[-40:] = 420 + np.round(0.3 * RNG.standard_normal(40), 1)
    nox[-40:] = 105 * (1 + 0.001 * RNG.standard_normal(40))
    assert alone(movement, follows(load, nox)) == []
    held = alone(movement, follows(HONEST.values["load"], nox))
    assert {f.channels for f in held} == {("nox",)}


def test_days_that_the_load_explains_are_no_copy_of_days_that_were_alike() -> None:
    def likeness(memory: Memory, config: Config) -> list[Family]:
        residuals = Residuals(memory, config)
        return [residuals, Likeness(memory, config, 2, Courses(memory, config), residuals)]

    def unaware(memory: Memory, config: Config) -> list[Family]:
        return [Likeness(memory, config, 2)]

    load, noise = HONEST.values["load"].copy(), 1 + 0.01 * RNG.standard_normal(LAST)
    there = slice(LAST - 84, LAST - 36)
    source = slice(there.start - 24 * 20, there.stop - 24 * 20)
    forged = 80 * (load / 300) ** 0.8 * noise
    forged[there] = 0.9 * forged[source] * (1 + 0.003 * RNG.standard_normal(48))
    assert alone(likeness, follows(load, forged))
    load[there] = load[source]
    honest = follows(load, 80 * (load / 300) ** 0.8 * noise)
    assert alone(unaware, honest)
    assert alone(likeness, honest) == []
