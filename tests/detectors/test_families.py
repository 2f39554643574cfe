"""Each family finds what it is for, says it with numbers in both languages, and leaves an honest plant alone."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable

import numpy as np
import pytest

from stackwitness_detectors import Finding, Frame, Result, run
from stackwitness_detectors.catalogue import CAUSES, LOOK_AT
from stackwitness_detectors.forge import KINDS
from tests.detectors.plants import CONTEXT, DAY_MS, HOUR_MS, LIMIT, found, part, plant, with_values

DAYS = 70
CLEAN = plant(DAYS, seed=11)
START = 50 * 24  # row at which the forgeries begin


@functools.cache
def before() -> Result:
    """Judge what comes before row START, once for all forgeries."""
    return run(CONTEXT, None, part(CLEAN, 0, START))


def found_from_start(frame: Frame) -> list[Finding]:
    """Judge a frame that is CLEAN before row START: from the memory of what comes before."""
    later = run(CONTEXT, before().state, part(frame, START, len(frame.at_ms)))
    return [*before().findings, *later.findings]


def forged(kind: str) -> Frame:
    rng = np.random.default_rng(5)
    nox, so2 = CLEAN.values["nox"].copy(), CLEAN.values["so2"].copy()
    letters = {name: s.copy() for name, s in CLEAN.status.items()}
    week, fortnight = slice(START, START + 168), slice(START, START + 336)
    if kind == "freeze 12 h":
        nox[START : START + 12] = nox[START]
    elif kind == "near freeze 48 h":
        day = slice(START, START + 48)
        nox[day] = np.round(nox[START] + 0.1 * rng.integers(-2, 3, 48), 1)
    elif kind == "copy of 48 h":
        nox[START : START + 48] = nox[START - 240 : START - 192]
    elif kind == "scale 0.7, 7 d":
        nox[week] = np.round(nox[week] * 0.7, 1)
    elif kind == "generated, 7 d":
        nox[week] = np.round(80 + 8 * rng.standard_normal(168), 1)
    elif kind == "clip at limit, 14 d":
        over = nox[fortnight] > LIMIT
        nox[fortnight] = np.where(over, np.round(LIMIT * (1 - 0.02 * rng.random(336)), 1), nox[fortnight])
    elif kind == "missing when high, 14 d":
        nox[fortnight] = np.where(nox[fortnight] > LIMIT, np.nan, nox[fortnight])
    elif kind == "status abuse, 14 d":
        letters["nox"][fortnight][nox[fortnight] > LIMIT] = ord("M")
    elif kind == "typed digits, 7 d":
        typed = rng.choice([0, 0, 0, 5, 5, 3, 7], 168)
        so2[week] = np.round(np.floor(so2[week] * 10) / 10 + typed / 100, 2)
    elif kind == "rounded, 7 d":
        so2[week] = np.round(so2[week], 1)
    return Frame(CLEAN.at_ms, {**CLEAN.values, "nox": nox, "so2": so2}, letters)


# forgery, family that must find it, channel, forge's name that must be ranked first or second
CASES = [
    ("freeze 12 h", "freeze", "nox", "freeze"),
    ("near freeze 48 h", "freeze", "nox", "near_freeze"),
    ("copy of 48 h", "copy", "nox", "replay_exact"),
    ("scale 0.7, 7 d", "conditional", "nox", "scale"),
    ("generated, 7 d", "dynamics", "nox", "generated"),
    ("clip at limit, 14 d", "shape", "nox", "clip"),
    ("missing when high, 14 d", "availability", "nox", "missing_when_high"),
    ("status abuse, 14 d", "availability", "nox", "status_abuse"),
    ("typed digits, 7 d", "shape", "so2", "typed_digits"),
    ("rounded, 7 d", "shape", "so2", "rounded"),
]


def well_formed(finding: Finding) -> None:
    assert finding.verdict in ("cannot be", "very unlikely", "unusual")
    assert finding.e_value > 1
    assert finding.from_ms <= finding.to_ms
    assert any("\u4e00" <= letter <= "\u9fff" for letter in finding.text_zh)
    for text in (finding.text_en, finding.text_zh, finding.look_at_en, finding.look_at_zh):
        assert text
        assert "fraud" not in text.lower()
    assert set(finding.innocent) <= set(CAUSES)
    assert finding.innocent
    assert finding.kinds[0] in KINDS
    assert (finding.look_at_en, finding.look_at_zh) == LOOK_AT[finding.kind]
    assert finding.plot["kind"] in ("hold", "copy", "residual", "digits", "density", "missing", "features")
    assert all(
        len(series["t"]) <= 600 and len(series["t"]) == len(series["v"]) for series in finding.plot["series"]
    )
    json.dumps(finding.plot, allow_nan=False)
    json.dumps(finding.numbers, allow_nan=False)


@pytest.mark.parametrize("findings", [lambda: found_from_start(CLEAN), lambda: found(plant(DAYS, seed=12))])
def test_an_honest_plant_is_left_alone(findings: Callable[[], list[Finding]]) -> None:
    assert [f.text_en for f in findings()] == []


@pytest.mark.parametrize(("kind", "family", "channel", "name"), CASES)
def test_a_forgery_is_found(kind: str, family: str, channel: str, name: str) -> None:
    findings = found_from_start(forged(kind))
    hits = [f for f in findings if f.family == family and channel in f.channels]
    assert hits, [f.text_en for f in findings]
    assert all(f.to_ms >= CLEAN.at_ms[START] for f in hits)
    assert any(name in f.kinds[:2] for f in hits)
    for finding in findings:
        well_formed(finding)


def test_a_hold_is_told_at_the_crossing_at_doublings_and_at_the_end() -> None:
    nox = CLEAN.values["nox"].copy()
    nox[START : START + 102] = 60.3
    told = [f for f in found_from_start(with_values(CLEAN, nox=nox)) if f.detector == "hold"]
    assert [f.extends for f in told] == [False] + [True] * (len(told) - 1)
    assert len({f.episode for f in told}) == 1
    assert 3 <= len(told) <= 7
    last = told[-1]
    assert (last.from_ms, last.to_ms) == (CLEAN.at_ms[START], CLEAN.at_ms[START + 101])
    assert last.verdict == "cannot be"
    assert last.numbers["samples"] == 102
    assert float(last.numbers["load_high"]) > float(last.numbers["load_low"])
    assert "while load ran" in last.text_en
    lengths = [f.to_ms - f.from_ms for f in told[:-1]]
    assert all(b >= 2 * a for a, b in itertools.pairwise(lengths))


@functools.cache
def before_the_mark() -> Result:
    """Judge what comes before the marked hold, once for all letters."""
    return run(CONTEXT, None, part(plant(40, seed=6), 0, 700))


@pytest.mark.parametrize("letter", list("CMHFDBR"))
def test_a_marked_hold_is_no_finding(letter: str) -> None:
    frame = plant(40, seed=6)
    frame.values["nox"][700:760] = 60.3
    frame.status["nox"][700:760] = ord(letter)
    later = run(CONTEXT, before_the_mark().state, part(frame, 700, len(frame.at_ms)))
    assert [f for f in (*before_the_mark().findings, *later.findings) if f.detector == "hold"] == []


def test_a_unit_that_is_off_is_not_held() -> None:
    frame = plant(40, seed=6)
    for name in ("load", "nox", "so2"):
        frame.values[name][600:800] = 0.0
    assert [f for f in found(frame) if f.family in ("freeze", "copy")] == []


def test_repeated_whole_records_are_found() -> None:
    values = {name: v.copy() for name, v in CLEAN.values.items()}
    for v in values.values():
        v[START : START + 6] = v[START]
    kinds = {f.kind for f in found_from_start(Frame(CLEAN.at_ms, values, CLEAN.status))}
    assert kinds & {"record_repeat", "hold"}


def test_freeze_and_copy_at_five_minutes() -> None:
    frame = plant(12, HOUR_MS // 12, seed=8)
    nox, so2 = frame.values["nox"], frame.values["so2"]
    held, copied = 8 * 288, 10 * 288
    nox[held : held + 144] = nox[held]
    so2[copied : copied + 288] = so2[copied - 1000 : copied - 712]
    findings = found(frame)
    assert {"hold", "copy"} <= {f.kind for f in findings}
    assert all(f.from_ms >= frame.at_ms[held] - DAY_MS for f in findings)


def replayed_week() -> Frame:
    """Replay a week of both pollutants from row START on, past two hours of calibration every day."""
    changed = {name: CLEAN.values[name].copy() for name in ("nox", "so2")}
    letters = {name: letter.copy() for name, letter in CLEAN.status.items()}
    for name, v in changed.items():
        v[START : START + 168] = v[START - 168 : START]
        for hour in (9, 10 if name == "nox" else 9):  # not the same minutes every week
            letters[name][hour::24] = ord("C")
            v[hour::24] = np.nan
        letters[name][START + 60] = ord("M")
        v[START + 60] = np.nan
    return Frame(CLEAN.at_ms, {**CLEAN.values, **changed}, letters)


def test_a_replayed_week_is_one_episode_with_all_its_channels() -> None:
    told = [f for f in found(replayed_week()) if f.detector == "copy"]
    assert len({f.episode for f in told}) == 1
    assert [f.extends for f in told] == [False] + [True] * (len(told) - 1)
    assert len(told) <= 8
    last = told[-1]
    assert last.channels == ("nox", "so2")
    assert last.from_ms <= CLEAN.at_ms[START + 1]
    assert last.to_ms == CLEAN.at_ms[START + 167]
    assert last.verdict == "cannot be"
    assert last.kinds[0] == "replay_exact"
    assert 140 <= int(last.numbers["steps"]) <= 168
    assert last.text_en.startswith("nox and so2 repeat, one by one, ")
    assert "already sent 7 days before" in last.text_en


def test_a_series_of_holds_is_told_by_its_longest() -> None:
    nox = CLEAN.values["nox"].copy()
    for first, hours in ((START, 9), (START + 60, 40), (START + 120, 8), (START + 170, 7)):
        nox[first : first + hours] = nox[first]
    told = [f for f in found_from_start(with_values(CLEAN, nox=nox)) if f.detector == "hold"]
    assert len({f.episode for f in told}) == 1
    assert len(told) <= 9
    last = told[-1]
    assert (last.from_ms, last.to_ms) == (CLEAN.at_ms[START], CLEAN.at_ms[START + 176])
    assert (last.numbers["hold_from_ms"], last.numbers["hours"]) == (CLEAN.at_ms[START + 60], 40.0)
    assert last.numbers["holds"] == 4
    assert f"stayed at {nox[START + 60]:g} mg/m3 for 40 h" in last.text_en
    assert "3 other holds" in last.text_en
    assert "另有 3 次" in last.text_zh


def test_substitute_data_is_named_for_a_flow() -> None:
    context = CONTEXT
    frame = plant(40, seed=9)
    heat = np.round(frame.values["load"] * 9.7 + np.random.default_rng(1).normal(0, 20, len(frame.at_ms)), 1)
    heat[700:770] = 2910.4
    channels = tuple(
        c if c.name != "so2" else type(c)("so2", "heat input", "mmBtu/h", "flow") for c in context.channels
    )
    findings = found(with_values(frame, so2=heat), type(context)("t2", channels))
    holds = [f for f in findings if f.detector == "hold"]
    assert holds
    assert holds[-1].innocent[0] == "substitute_data"
