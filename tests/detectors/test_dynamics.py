"""Stillness, smoothness, roughness and lost response: found with the right name, and honest plants left alone."""

from __future__ import annotations

import numpy as np
import pytest

from stackwitness_detectors.bench.replay import rows_of
from stackwitness_detectors.conditional import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.dynamics import Course, Loose, movements, responses
from stackwitness_detectors.engine import Engine, Family
from stackwitness_detectors.forge import forge
from stackwitness_detectors.memory import Memory
from tests.detectors.alone import alone
from tests.detectors.plants import CONTEXT, DAY_MS, HOUR_MS, START_MS, Frame, plant

CLEAN = plant(75, seed=21)
FROM_MS = START_MS + 55 * DAY_MS + 7 * HOUR_MS


def dynamics(memory: Memory, config: Config) -> list[Family]:
    course, residuals = Course(memory), Residuals(memory, config)
    moving = [*movements(memory, config, course), *responses(memory, config, residuals)]
    return [course, residuals, *moving, Loose(memory, config, residuals)]


def forged(kind: str, hours: int, strength: float) -> Frame:
    return forge(kind, CLEAN, CONTEXT, "nox", FROM_MS, FROM_MS + hours * HOUR_MS, strength, seed=3)


def test_an_honest_plant_is_left_alone() -> None:
    assert [f.text_en for f in alone(dynamics, CLEAN)] == []


@pytest.mark.parametrize(
    ("kind", "hours", "strength"),
    [
        ("near_freeze", 24, 0.003),
        ("near_freeze", 48, 0.01),
        ("manual_jitter", 24, 0.1),
        ("smoothed", 168, 12),
        ("generated", 48, 1.0),
        ("invented_records", 48, 0.1),
        ("altered_records", 168, 0.2),
    ],
)
def test_a_bent_course_is_found(kind: str, hours: int, strength: float) -> None:
    found = alone(dynamics, forged(kind, hours, strength))
    hits = [f for f in found if f.channels == ("nox",) and f.to_ms >= FROM_MS]
    assert hits, [f.text_en for f in found]
    assert any(kind in f.kinds[:3] for f in hits), [(f.detector, f.kinds) for f in hits]
    assert all(f.family in ("freeze", "dynamics") for f in hits)


def test_a_still_signal_is_told_within_the_day() -> None:
    hits = [f for f in alone(dynamics, forged("near_freeze", 48, 0.001)) if f.detector == "still_12h"]
    assert hits
    assert hits[0].to_ms - FROM_MS <= 15 * HOUR_MS


def test_stillness_at_a_load_that_never_stood_before_is_not_judged_and_said_to_be() -> None:
    frame = forged("near_freeze", 48, 0.001)
    stood = (frame.at_ms >= FROM_MS) & (frame.at_ms < FROM_MS + 48 * HOUR_MS)
    frame.values["load"][stood] = frame.values["load"][stood][0]
    until = rows_of(frame, 0, int(np.flatnonzero(stood)[-1]) + 1)
    memory = Memory(CONTEXT, Config())
    engine = Engine(CONTEXT, Config(), dynamics(memory, Config()), memory)
    engine.feed(until)
    assert ("still_24h", ("nox",)) not in [(f.detector, f.channels) for f in engine.findings]
    said = [n for family in engine.families for n in family.notes() if "nor does the load" in n.reason]
    assert {(n.detector, n.channel, n.code) for n in said} >= {("still_24h", "nox", "history")}
