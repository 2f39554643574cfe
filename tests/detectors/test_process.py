"""A station that reports neither pollutants nor flows is judged by its process: odd is said, and what cannot be judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from stackwitness_detectors import ChannelInfo, Context, Finding, Frame, Note, run
from stackwitness_detectors.catalogue import LOOK_AT_PROCESS
from stackwitness_detectors.config import DEFAULT
from stackwitness_detectors.engine import open_engine
from stackwitness_detectors.memory import Memory
from stackwitness_detectors.second_opinion import SecondOpinion
from tests.detectors.plants import CONTEXT, DAY_MS, HOUR_MS, START_MS, part
from tests.detectors.test_bad_input import KINDS, ruined
from tests.support.pictures import check_picture

DAYS = 70
SHIFTED = slice(24 * 58, 24 * 65)
MACHINE = Context(
    "machine",
    (
        ChannelInfo("bearing", "temperature", "Cel", "temperature"),
        ChannelInfo("current", "motor current", "A", "process"),
    ),
)
LONE = Context("room", (ChannelInfo("air", "temperature", "Cel", "process"),))
TESTBED = Context("testbed", tuple(ChannelInfo(f"c{i}", "vibration", "g", "process") for i in range(8)))
COPIES = ("replays", "pieces", "repeats", "likeness")
# An odd process is no accusation, in either language.
FORBIDDEN = ("forg", "fraud", "fake", "manipulat", "伪造", "造假", "作弊", "篡改")


def wander(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Give slow noise of spread 1 that forgets itself within some ten hours."""
    noise = rng.normal(size=n)
    for i in range(1, n):
        noise[i] = 0.9 * noise[i - 1] + 0.436 * noise[i]
    return noise


def machine(shift: float = 1.0) -> Frame:
    rng = np.random.default_rng(5)
    n = 24 * DAYS
    current = 40.0 + 5.0 * wander(rng, n)
    bearing = 30.0 + current + 0.6 * wander(rng, n)
    bearing[SHIFTED] *= shift
    at_ms = START_MS + np.arange(n, dtype=np.int64) * HOUR_MS
    return Frame(at_ms, {"bearing": np.round(bearing, 2), "current": np.round(current, 2)})


def room(shift: float = 1.0) -> Frame:
    rng = np.random.default_rng(6)
    hours = np.arange(24 * DAYS, dtype=np.int64)
    air = 70.0 + 2.0 * np.sin(2 * np.pi * hours / 24) + 1.2 * wander(rng, len(hours))
    air[SHIFTED] *= shift
    return Frame(START_MS + hours * HOUR_MS, {"air": np.round(air, 2)})


@cache
def judged(stn: str, shift: float) -> tuple[tuple[Finding, ...], tuple[Note, ...]]:
    """Lead all families but those of copies, which take most of the time."""
    context, frame = (MACHINE, machine(shift)) if stn == "machine" else (LONE, room(shift))
    engine = open_engine(context, None)
    engine.families = [f for f in engine.families if not type(f).__module__.endswith(COPIES)]
    with np.errstate(all="ignore"):
        engine.feed(frame)
    for finding in engine.findings:
        check_picture(finding)
    return tuple(engine.findings), engine.standing_notes()


@pytest.mark.parametrize("stn", ["machine", "room"])
def test_a_process_that_goes_as_ever_is_left_alone(stn: str) -> None:
    assert [f.text_en for f in judged(stn, 1.0)[0]] == []


@pytest.mark.parametrize(("stn", "channel"), [("machine", "bearing"), ("room", "air")])
@pytest.mark.parametrize("shift", [0.85, 1.15])
def test_a_level_that_moves_is_found_in_both_directions(stn: str, channel: str, shift: float) -> None:
    told = [f for f in judged(stn, shift)[0] if f.detector == "level"]
    told = [f for f in told if f.channels == (channel,)]
    assert told
    assert told[0].to_ms >= START_MS + 58 * DAY_MS
    assert told[0].numbers["direction"] == ("below" if shift < 1 else "above")
    assert told[0].look_at_en == LOOK_AT_PROCESS[0]


@pytest.mark.parametrize(
    ("stn", "shift"), [("machine", 0.85), ("machine", 1.15), ("room", 0.85), ("room", 1.15)]
)
def test_an_odd_process_is_worded_as_odd_and_may_be_a_fault(stn: str, shift: float) -> None:
    for finding in judged(stn, shift)[0]:
        said = f"{finding.verdict} {finding.text_en} {finding.text_zh}".lower()
        assert not [word for word in FORBIDDEN if word in said]
        assert finding.verdict != "cannot be"
        assert finding.innocent[0] == "process_fault"


def test_what_a_lone_channel_is_compared_with_is_said() -> None:
    notes = [n for n in judged("room", 1.0)[1] if n.detector == "conditional"]
    assert [(n.channel, n.code) for n in notes] == [("air", "unexplained")]
    assert "hour of the day" in notes[0].reason
    text = next(f.text_en for f in judged("room", 0.85)[0] if f.detector == "level")
    assert "the hour of the day" in text
    assert "other channels" not in text


def test_tests_of_what_forgers_do_leave_their_part_of_the_budget_to_the_others() -> None:
    tests = {family.name: family for family in open_engine(MACHINE, None).families}
    for name in ("exceedances", "dependence", "response_1d", "loose_1d", "availability", "visits"):
        assert tests[name].tested == []  # type: ignore[attr-defined]
    for name in ("level", "still_24h", "rough_24h", "second_opinion"):
        assert tests[name].tested == [0, 1]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("context", "make"), [(MACHINE, machine), (LONE, room)])
def test_any_chunking_gives_the_same(context: Context, make: Callable[[float], Frame]) -> None:
    frame = part(make(0.85), 24 * 30, 24 * 62)
    whole = run(context, None, frame)
    state: bytes | None = None
    findings: list[Finding] = []
    for first, last in pairwise([0, 7, 24 * 18 + 5, 24 * 29 + 11, len(frame.at_ms)]):
        result = run(context, state, part(frame, first, last))
        state, findings = result.state, [*findings, *result.findings]
    assert tuple(findings) == whole.findings
    assert state == whole.state
    assert any(note.detector == "level" for note in whole.notes)


def test_twenty_minutes_without_a_past_are_said_to_be_unjudged_for_every_channel() -> None:
    rng = np.random.default_rng(8)
    at_ms = START_MS + np.arange(1200, dtype=np.int64) * 1000
    values = {c.name: 1.0 + 0.1 * rng.normal(size=1200) for c in TESTBED.channels}
    for column in values.values():
        column[800:] *= 3.0
    result = run(TESTBED, None, Frame(at_ms, values))
    assert result.findings == ()
    for detector in ("conditional", "level", "still_12h", "rough_24h"):
        told = {n.channel for n in result.notes if n.detector == detector and n.code == "history"}
        assert told == set(values)


def test_beside_pollutants_the_process_explains_and_is_not_judged() -> None:
    memory = Memory(CONTEXT, DEFAULT)
    assert memory.principal() == memory.indices("pollutant", "flow")
    second = next(f for f in open_engine(CONTEXT, None).families if isinstance(f, SecondOpinion))
    assert second.innocent[0] != "process_fault"


@pytest.mark.parametrize("kind", KINDS)
def test_odd_readings_of_a_process_give_notes(kind: str) -> None:
    roles = {"pollutant": "process", "flow": "temperature", "load": "ambient", "diluent": "pressure"}
    channels = tuple(
        replace(channel, role=roles.get(channel.role, channel.role)) for channel in CONTEXT.channels
    )
    lone = tuple(replace(c, role="process") for c in CONTEXT.channels if c.name == "nox")
    for context in (Context("process", channels), Context("lone", lone)):
        result = run(context, None, part(ruined(kind), 0, 24 * 20))
        assert result.notes
        json.dumps([f.plot for f in result.findings], allow_nan=False)


def test_a_lone_channel_may_get_company() -> None:
    frame = room()
    state = run(LONE, None, part(frame, 0, 24 * 30)).state
    for role in ("process", "pollutant"):
        company = replace(LONE, channels=(*LONE.channels, ChannelInfo("other", role, "mg/m3", role)))
        values = {**frame.values, "other": np.full(len(frame.at_ms), 3.0)}
        result = run(company, state, part(Frame(frame.at_ms, values), 24 * 30, 24 * 40))
        assert ("other", "history") in {
            (n.channel, n.code) for n in result.notes if n.detector == "conditional"
        }
        assert run(LONE, result.state, part(frame, 24 * 40, 24 * 50)).state
