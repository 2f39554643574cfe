"""Copies that no long match at one lag shows: strung together from pieces, or disguised by a factor and noise."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from stackwitness_detectors import Config, Finding, Frame
from stackwitness_detectors.copy import Copies, Likeness, Pieces, Repeats
from stackwitness_detectors.copy.evidence import rate_beyond
from stackwitness_detectors.copy.motif import best_match, own_course
from stackwitness_detectors.engine import Engine
from stackwitness_detectors.memory import Memory
from tests.detectors.plants import CONTEXT, DAY_MS, START_MS, part, plant, with_values

CONFIG = Config().spread()
DAYS = 75
HONEST = plant(DAYS, seed=5)


def engine() -> Engine:
    memory = Memory(CONTEXT, CONFIG)
    pieces = Pieces(memory, CONFIG)
    repeats = [Repeats(memory, CONFIG, pieces, days) for days in (1, 7)]
    likeness = [Likeness(memory, CONFIG, days) for days in (1, 2, 7)]
    return Engine(CONTEXT, CONFIG, [Copies(memory, CONFIG), pieces, *repeats, *likeness], memory)


def judged(frame: Frame, *cuts: int) -> tuple[list[Finding], bytes]:
    findings: list[Finding] = []
    state = None
    for first, last in zip([0, *cuts], [*cuts, len(frame.at_ms)], strict=True):
        led = engine()
        if state is not None:
            led.load(state)
        with np.errstate(all="ignore"):
            led.feed(part(frame, first, last))
        findings += led.findings
        state = led.dump()
    assert state is not None
    return findings, state


def forged(hours: int, of: str) -> Frame:
    nox, rng = HONEST.values["nox"].copy(), np.random.default_rng(3)
    first = (DAYS - 6) * 24
    if of == "noise":
        source = nox[first - 72 : first - 24]
        nox[first : first + 48] = np.round(0.85 * source * (1 + 0.01 * rng.standard_normal(48)), 1)
    else:
        for at in range(first, first + 48, hours):
            source_at = int(rng.integers(0, first - 24 * 20))
            nox[at : at + hours] = nox[source_at : source_at + hours]
    return with_values(HONEST, nox=nox)


@functools.cache
def of_six_hours() -> tuple[list[Finding], bytes]:
    """Judge pieces of six hours in one go, once for all that ask."""
    return judged(forged(6, "pieces"))


def test_an_honest_plant_is_left_alone() -> None:
    assert judged(HONEST)[0] == []


@pytest.mark.parametrize(("hours", "kind"), [(6, "bootstrap"), (3, "resampled")])
def test_pieces_of_the_past_are_found(hours: int, kind: str) -> None:
    findings, _ = of_six_hours() if hours == 6 else judged(forged(hours, "pieces"))
    told = [f for f in findings if f.detector == "pieces"]
    assert told
    assert kind in told[0].kinds[:3]
    assert told[0].channels == ("nox",)
    assert told[0].from_ms >= START_MS + (DAYS - 7) * DAY_MS


def test_a_copy_with_a_factor_and_noise_is_found() -> None:
    findings, _ = judged(forged(0, "noise"))
    told = [f for f in findings if f.detector == "likeness"]
    assert told
    assert told[0].kinds[0] == "replay_disguised"
    assert told[0].numbers["lag_hours"] == 72


@pytest.mark.parametrize("cuts", [(1000,), (1690, 1691), (5, 1700)])
def test_any_chunking_gives_the_same(cuts: tuple[int, ...]) -> None:
    assert judged(forged(6, "pieces"), *cuts) == of_six_hours()


def test_constant_missing_and_empty_readings_say_nothing() -> None:
    frame = plant(40, seed=2)
    flat, none = np.full(len(frame.at_ms), 7.0), np.full(len(frame.at_ms), np.nan)
    findings, _ = judged(with_values(frame, nox=flat, so2=none))
    assert {f.detector for f in findings} <= {"copy"}
    assert judged(part(frame, 0, 0))[0] == []


def test_the_best_match_is_where_it_was_taken_from() -> None:
    rng = np.random.default_rng(8)
    past = np.cumsum(rng.standard_normal(600))
    y = 3.0 + 0.8 * past[200:248] + 0.01 * rng.standard_normal(48)
    match = best_match(y, past, 0.0, own_course(y, 0.0))
    assert match is not None
    assert match.place == 200
    assert match.slope == pytest.approx(0.8, abs=0.01)
    assert match.score > 100


def test_evidence_beyond_the_past_is_rarer_and_never_rarer_than_its_scale() -> None:
    past = [float(x) for x in range(80)]
    inside, beyond, far = (rate_beyond(x, past, 3.0, 2.0) for x in (75.0, 85.0, 200.0))
    assert inside > beyond > far > 0
    assert beyond >= np.exp(-(85.0 - 79.0) / 2.0) / 3.0
