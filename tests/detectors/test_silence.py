"""Silence cannot be bought: whoever takes hours out of judgement is found all the same, or it is said that he did."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
import pytest

from stackwitness_detectors import ChannelInfo, Context, Frame, Result, run
from stackwitness_detectors.running import least_running, steady_hours, usual_top
from tests.detectors.plants import CONTEXT, HOUR_MS, part, plant, with_values

STACK = Context("works", (*CONTEXT.channels, ChannelInfo("flow", "dry flow", "m3/h", "flow", None, 10.0)))
LEARNED, DAYS = 50, 68
GASES = {"nox": 1, "so2": 2}  # digits
Trick = Callable[[Frame], Frame]


@cache
def honest() -> Frame:
    base = plant(DAYS, seed=7)
    flow = 3000.0 * base.values["load"]
    marks = {**base.status, "flow": base.status["load"].copy()}
    return Frame(base.at_ms, {**base.values, "flow": flow}, marks)


@cache
def learned() -> bytes:
    return run(STACK, None, part(honest(), 0, LEARNED * 24)).state


@cache
def later(factor: float) -> Frame:
    """Give what follows, the gases times a factor."""
    rest = part(honest(), LEARNED * 24, DAYS * 24)
    return with_values(
        rest, **{gas: np.round(factor * rest.values[gas], digits) for gas, digits in GASES.items()}
    )


def judged(factor: float, trick: Trick) -> Result:
    return run(STACK, learned(), trick(later(factor)))


def said(name: str, value: float, every: int = 1) -> Trick:
    """Send a value of one channel in each so-many-th hour."""

    def trick(frame: Frame) -> Frame:
        series = frame.values[name].copy()
        series[::every] = value
        return with_values(frame, **{name: series})

    return trick


def once(name: str, value: float) -> Trick:
    return said(name, value, every=10_000)


def marked(names: Iterable[str], letter: str, every: int = 1) -> Trick:
    def trick(frame: Frame) -> Frame:
        marks = {name: letters.copy() for name, letters in frame.status.items()}
        for name in names:
            marks[name][::every] = ord(letter)
        return Frame(frame.at_ms, frame.values, marks)

    return trick


def thinned(keep: Callable[[np.ndarray], np.ndarray]) -> Trick:
    def trick(frame: Frame) -> Frame:
        kept = keep(np.arange(len(frame.at_ms)))
        return Frame(
            frame.at_ms[kept],
            {name: values[kept] for name, values in frame.values.items()},
            {name: letters[kept] for name, letters in frame.status.items()},
        )

    return trick


def beside(records: int) -> Trick:
    """Send every record so many times within its hour; the last one without values and its gases marked C."""

    def trick(frame: Frame) -> Frame:
        at_ms = np.sort(np.concatenate([frame.at_ms + i * HOUR_MS // records for i in range(records)]))
        values = {name: np.repeat(series, records) for name, series in frame.values.items()}
        marks = {name: np.repeat(letters, records) for name, letters in frame.status.items()}
        for name in frame.values:
            values[name][records - 1 :: records] = np.nan
            if name in GASES:
                marks[name][records - 1 :: records] = ord("C")
        return Frame(at_ms, values, marks)

    return trick


FOUND_ALL_THE_SAME: dict[str, Trick] = {
    "nothing": lambda frame: frame,
    "one load of 9000": once("load", 9000.0),
    "one load of 1e14": once("load", 1e14),
    "one oxygen of 1e14": once("o2", 1e14),
    "no load each third hour": said("load", float("nan"), 3),
    "load marked each third hour": marked(["load"], "B", 3),
    "gases marked each second hour": marked(GASES, "M", 2),
    "each third record not sent": thinned(lambda i: i % 3 > 0),
    "two of three records not sent": thinned(lambda i: i % 3 == 0),
    "each second day not sent": thinned(lambda i: i // 24 % 2 == 0),
    "four records an hour, one of them marked": beside(4),
}
TAKEN_OUT: dict[str, tuple[Trick, str]] = {
    "load 0 always": (said("load", 0.0), "idle_load"),
    "load 0 each third hour": (said("load", 0.0, 3), "idle_load"),
    "load 0 each sixth hour": (said("load", 0.0, 6), "idle_load"),
    "load never sent": (said("load", float("nan")), "load_withheld"),
    "load always marked": (marked(["load"], "B"), "load_withheld"),
}
BLAMELESS = {name: FOUND_ALL_THE_SAME[name] for name in FOUND_ALL_THE_SAME if "four" not in name}


@pytest.mark.parametrize("name", FOUND_ALL_THE_SAME)
def test_the_lowering_is_found_all_the_same(name: str) -> None:
    findings = judged(0.6, FOUND_ALL_THE_SAME[name]).findings
    assert set(GASES) <= {c for f in findings if f.detector == "level" for c in f.channels}


@pytest.mark.parametrize("name", BLAMELESS)
def test_what_only_looks_like_a_trick_is_no_finding(name: str) -> None:
    assert [f.text_en for f in judged(1.0, BLAMELESS[name]).findings] == []


@pytest.mark.parametrize("name", TAKEN_OUT)
def test_hours_taken_out_of_judgement_are_a_finding(name: str) -> None:
    trick, detector = TAKEN_OUT[name]
    [finding] = [f for f in judged(0.6, trick).findings if f.detector == detector and not f.extends]
    assert finding.channels == ("load",)
    assert "flow" in finding.text_en


@pytest.mark.parametrize("trick", [beside(2), marked(GASES, "M"), said("load", float("nan"))])
def test_a_channel_that_hardly_counts_any_more_is_said_to_be_unjudged(trick: Trick) -> None:
    few = [n for n in judged(0.6, trick).notes if n.code == "few_hours"]
    assert set(GASES) <= {n.channel for n in few}
    for note in few:
        numbers = dict(note.numbers)
        assert 2 * numbers["have"] < numbers["of"] == 14 * 24


def test_a_unit_that_really_stands_is_neither_found_nor_noted() -> None:
    def stop(frame: Frame) -> Frame:
        off = slice(240, 480)
        stood = {"load": 0.0, "flow": 0.0, "o2": 20.9, "nox": 0.0, "so2": 0.0}
        series = {name: frame.values[name].copy() for name in stood}
        for name, value in stood.items():
            series[name][off] = value
        return with_values(frame, **series)

    result = judged(1.0, stop)
    assert [f.text_en for f in result.findings if f.detector in ("idle_load", "load_withheld")] == []
    assert "few_hours" not in {n.code for n in result.notes}


def test_what_is_told_stays_told_while_it_goes_on() -> None:
    """Six weeks of it must not teach that the stack goes on when the unit stands."""
    base, days = plant(80, seed=7), 15
    values = {**base.values, "flow": 3000.0 * base.values["load"]}
    start, rest = (part(Frame(base.at_ms, values), *rows) for rows in ((0, days * 24), (days * 24, 80 * 24)))
    state = run(STACK, None, start).state
    findings = [f for f in run(STACK, state, said("load", 0.0)(rest)).findings if f.detector == "idle_load"]
    assert len({f.episode for f in findings}) == 1
    assert rest.at_ms[-1] - max(f.to_ms for f in findings) < 35 * 24 * HOUR_MS


def test_one_reading_does_not_move_the_border_of_running() -> None:
    load = np.full(400, 300.0)
    load[7] = 1e14
    assert usual_top(load) == 300.0
    assert least_running(load) == pytest.approx(15.0)
    assert least_running(np.array([np.nan, 0.0, -1.0])) == 0.0


def test_only_hours_known_to_be_off_make_the_next_ones_a_start() -> None:
    nan, hour = float("nan"), np.arange(12)
    load = np.array([9.0, 9.0, 9.0, nan, 9.0, 0.0, 9.0, 9.0, 9.0, nan, 9.0, 9.0])
    assert np.flatnonzero(steady_hours(hour, load)).tolist() == [2, 4, 8, 10, 11]
    assert not steady_hours(np.array([0, 1, 2, 20]), np.full(4, 9.0))[3]  # it may have stood meanwhile
    assert steady_hours(np.array([0, 1, 2, 7]), np.full(4, 9.0))[3]
