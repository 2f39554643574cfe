"""What cannot be judged: a typed reason for each test and channel, a function of station and memory alone."""

from __future__ import annotations

from typing import get_args

import pytest

from stackwitness_detectors import Context, Frame, Note, run
from stackwitness_detectors.contract import Cannot
from stackwitness_detectors.engine import notes_of
from tests.detectors.plants import CONTEXT, part, plant
from tests.detectors.test_bad_input import FULL, KINDS, ROWS, ruined

LONG = plant(60, seed=3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_note_has_a_reason_of_the_list_and_numbers_that_can_be_kept(kind: str) -> None:
    for note in run(CONTEXT, None, ruined(kind)).notes:
        assert note.code in get_args(Cannot)
        assert note.channel in {"", *(channel.name for channel in CONTEXT.channels)}
        assert all(isinstance(name, str) and abs(value) < 2**53 for name, value in note.numbers)


def test_notes_are_those_of_the_memory_whatever_the_chunks_were() -> None:
    whole = run(CONTEXT, None, FULL)
    head = run(CONTEXT, None, part(FULL, 0, 500))
    tail = run(CONTEXT, head.state, part(FULL, 500, ROWS))
    last = run(CONTEXT, tail.state, part(FULL, ROWS, ROWS))
    assert tail.state == whole.state
    assert whole.notes == tail.notes == last.notes == notes_of(CONTEXT, whole.state)
    assert {"history", "digits", "no_limit", "no_visits"} <= {note.code for note in whole.notes}


def test_the_smallest_bias_seen_is_told_for_every_channel_that_is_judged() -> None:
    seen = {
        note.channel: dict(note.numbers) for note in run(CONTEXT, None, LONG).notes if note.code == "below"
    }
    assert set(seen) == {"nox", "so2", "o2", "load"}
    for numbers in seen.values():
        assert 2.5 <= numbers["percent"] < 100
        assert 0 < numbers["days"] <= 30
        assert LONG.at_ms[0] < numbers["since_ms"] < LONG.at_ms[-1]


def test_a_channel_that_falls_silent_is_said_to_be_unjudged() -> None:
    values = {name: series.copy() for name, series in FULL.values.items()}
    values["nox"][-30:] = float("nan")
    # The hour that is still open is not counted.
    silent = [n for n in run(CONTEXT, None, Frame(FULL.at_ms, values)).notes if n.code == "silent"]
    assert silent == [Note("engine", "nox", "silent", "no measured reading for 29 hours", (("have", 29),))]


def test_a_station_that_reports_nothing_to_judge_is_told_so() -> None:
    load = Context("load-only", tuple(c for c in CONTEXT.channels if c.role == "load"))
    notes = run(load, None, Frame(FULL.at_ms, {"load": FULL.values["load"]})).notes
    assert [n.channel for n in notes if n.code == "nothing"] == [""]
