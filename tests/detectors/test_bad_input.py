"""Odd readings give notes, never errors."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackwitness_detectors import ChannelInfo, Context, DetectorError, Frame, run
from stackwitness_detectors.codec import decode_state, encode_state
from tests.detectors.plants import CONTEXT, HOUR_MS, START_MS, part, plant, with_values

FULL = plant(30, seed=3)
ROWS = len(FULL.at_ms)


def ruined(kind: str) -> Frame:
    nox = FULL.values["nox"].copy()
    if kind == "constant":
        return with_values(FULL, nox=np.full(ROWS, 7.0))
    if kind == "all missing":
        return with_values(FULL, **{name: np.full(ROWS, np.nan) for name in FULL.values})
    if kind == "one missing":
        return with_values(FULL, nox=np.full(ROWS, np.nan))
    if kind == "infinite":
        nox[::7], nox[3::11] = np.inf, -np.inf
        return with_values(FULL, nox=nox)
    if kind == "huge":
        nox[100:200] = 1e300
        return with_values(FULL, nox=nox)
    if kind == "tiny":
        nox[100:200] = 1e-320
        return with_values(FULL, nox=nox, load=np.full(ROWS, 1e-200))
    if kind == "ages away":
        at_ms = FULL.at_ms.copy()
        at_ms[-3:] += 8000 * 365 * 24 * HOUR_MS
        return Frame(at_ms, FULL.values, FULL.status)
    if kind == "negative":
        return with_values(FULL, nox=-nox)
    if kind == "zero":
        return with_values(FULL, nox=np.zeros(ROWS), load=np.zeros(ROWS))
    if kind == "gap of years":
        at_ms = FULL.at_ms.copy()
        at_ms[400:] += 5 * 365 * 24 * HOUR_MS
        return Frame(at_ms, FULL.values, FULL.status)
    if kind == "clock jumps back":
        at_ms = FULL.at_ms.copy()
        at_ms[300:330] -= 200 * HOUR_MS
        return Frame(at_ms, FULL.values, FULL.status)
    if kind == "single":
        return part(FULL, 0, 1)
    if kind == "no status":
        return Frame(FULL.at_ms, FULL.values)
    return Frame(FULL.at_ms, {"nox": nox, "unknown": nox})


KINDS = (
    "constant", "all missing", "one missing", "infinite", "huge", "tiny", "ages away", "negative", "zero", "gap of years",
    "clock jumps back", "single", "no status", "other channels",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_odd_readings_give_notes(kind: str) -> None:
    result = run(CONTEXT, None, ruined(kind))
    assert result.notes
    json.dumps([f.plot for f in result.findings], allow_nan=False)
    again = run(CONTEXT, result.state, part(plant(60, seed=3), ROWS, ROWS + 48))
    assert again.state


def test_a_channel_that_vanishes_and_one_that_appears() -> None:
    state = run(CONTEXT, None, FULL).state
    fewer = Context("t1", (*CONTEXT.channels[:3], ChannelInfo("co", "CO", "mg/m3", "pollutant")))
    later = part(plant(50, seed=3), ROWS, 50 * 24)
    result = run(fewer, state, later)
    assert {note.channel for note in result.notes} >= {"co"}
    back = run(CONTEXT, result.state, Frame(later.at_ms + 50 * 24 * HOUR_MS, later.values))
    assert back.state


def test_a_station_without_channels() -> None:
    empty = Context("none", ())
    result = run(empty, None, Frame(START_MS + np.arange(50, dtype=np.int64) * HOUR_MS, {}))
    assert result.findings == ()
    assert run(empty, result.state, Frame(np.empty(0, np.int64), {})).state == result.state


def test_a_few_hours_say_why_they_cannot_be_judged() -> None:
    result = run(CONTEXT, None, part(FULL, 0, 5))
    assert result.findings == ()
    assert {note.detector for note in result.notes} >= {"hold", "copy", "conditional", "coarse_grid"}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**40),
            st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, 1.0])),
            st.integers(0, 255),
        ),
        max_size=60,
    )
)
def test_any_readings_at_all(rows: list[tuple[int, float, int]]) -> None:
    frame = Frame(
        np.array([r[0] for r in rows], np.int64),
        {"nox": np.array([r[1] for r in rows]), "load": np.array([r[1] for r in rows])},
        {"nox": np.array([r[2] for r in rows], np.uint8)},
    )
    first = run(CONTEXT, None, frame)
    assert run(CONTEXT, first.state, part(frame, 0, 0)).state == first.state


NO_FRAMES = {
    "short": (Frame(FULL.at_ms, {"nox": FULL.values["nox"][:-1]}), "frame.shape"),
    "a table": (Frame(FULL.at_ms, {"nox": np.zeros((ROWS, 2))}), "frame.shape"),
    "times in two columns": (Frame(np.zeros((3, 2), np.int64), {}), "frame.type"),
    "times as text": (Frame(np.array(["yesterday"]), {}), "frame.type"),  # type: ignore[arg-type]
    "times with halves": (Frame(np.array([0.5]), {}), "frame.type"),  # type: ignore[arg-type]
    "values as text": (Frame(FULL.at_ms[:1], {"nox": np.array(["much"])}), "frame.type"),  # type: ignore[dict-item]
    "short marks": (
        Frame(FULL.at_ms, {"nox": FULL.values["nox"]}, {"nox": np.full(3, 78, np.uint8)}),
        "frame.shape",
    ),
    "no letter": (
        Frame(FULL.at_ms[:1], {"nox": np.zeros(1)}, {"nox": np.array([999])}),  # type: ignore[dict-item]
        "frame.status",
    ),
}


@pytest.mark.parametrize("kind", NO_FRAMES)
def test_what_are_no_readings_is_refused_before_anything_is_judged(kind: str) -> None:
    frame, code = NO_FRAMES[kind]
    with pytest.raises(DetectorError) as refusal:
        run(CONTEXT, None, frame)
    assert refusal.value.code == code


@pytest.mark.parametrize("part_of", ["memory", "families", "last_ms", "pending"])
@pytest.mark.parametrize("instead", [None, 5, [], {}, {"holds": 3}])
def test_a_state_made_by_hand_is_refused_or_judged_with(part_of: str, instead: object) -> None:
    tree = decode_state(run(CONTEXT, None, part(FULL, 0, 200)).state)
    tree[part_of] = instead
    later = part(FULL, 200, 300)
    with suppress(DetectorError):  # and no other error
        assert run(CONTEXT, encode_state(tree), later).state
    del tree[part_of]
    with pytest.raises(DetectorError):
        run(CONTEXT, encode_state(tree), later)
