"""The same readings in any chunking give the same findings and the same final state, byte for byte."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackwitness_detectors import DetectorError, Finding, Frame, Result, config_hash, run, state_hash
from stackwitness_detectors.codec import decode_state, encode_state
from tests.detectors.plants import CONTEXT, HOUR_MS, part, plant, with_values


def odd_frame() -> Frame:
    """Give 40 days with a freeze, a copy, gaps, marks and a low week, so that every family speaks or keeps state."""
    frame = plant(40)
    nox, so2, load = (frame.values[n].copy() for n in ("nox", "so2", "load"))
    nox[500:540] = nox[500]
    so2[700:748] = so2[400:448]
    nox[800:] = np.round(nox[800:] * 0.6, 1)
    so2[600:605] = np.nan
    load[300:310] = 0.0
    frame.status["so2"][100:104] = ord("C")
    return with_values(frame, nox=nox, so2=so2, load=load)


def streamed(frame: Frame, cuts: list[int]) -> tuple[list[Finding], bytes]:
    findings: list[Finding] = []
    state = None
    for first, last in zip([0, *cuts], [*cuts, len(frame.at_ms)], strict=True):
        result = run(CONTEXT, state, part(frame, first, last))
        findings += result.findings
        state = result.state
    assert state is not None
    return findings, state


ODD = odd_frame()


@functools.cache
def whole() -> Result:
    """Judge the odd frame in one batch."""
    return run(CONTEXT, None, ODD)


def test_the_odd_frame_is_a_fair_trial() -> None:
    assert {f.family for f in whole().findings} >= {"freeze", "copy", "conditional"}


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, len(ODD.at_ms)), min_size=2, max_size=8).map(sorted))
def test_any_chunking_gives_the_same(cuts: list[int]) -> None:
    findings, state = streamed(ODD, cuts)
    assert findings == list(whole().findings)
    assert state == whole().state
    assert state_hash(state) == state_hash(whole().state)


def test_hour_by_hour_gives_the_same() -> None:
    start, last = 880, len(ODD.at_ms)
    head = run(CONTEXT, None, part(ODD, 0, start))
    rest = [run(CONTEXT, head.state, part(ODD, start, start))]
    for i in range(start, last):
        rest.append(run(CONTEXT, rest[-1].state, part(ODD, i, i + 1)))
    told = [f for r in rest for f in r.findings]
    assert rest[-1].state == whole().state
    assert told
    assert [*head.findings, *told] == list(whole().findings)


@functools.cache
def fine() -> tuple[Frame, Result]:
    """Judge six days of five-minute data with a hold in one batch."""
    frame = plant(6, HOUR_MS // 12, seed=4)
    frame.values["nox"][900:1300] = frame.values["nox"][900]
    return frame, run(CONTEXT, None, frame)


@settings(max_examples=4, deadline=None)
@given(st.lists(st.integers(0, 288 * 6), min_size=2, max_size=5).map(sorted))
def test_five_minute_data_in_any_chunking(cuts: list[int]) -> None:
    frame, batch = fine()
    findings, state = streamed(frame, cuts)
    assert findings == list(batch.findings)
    assert state == batch.state


def test_an_empty_batch_changes_nothing() -> None:
    again = run(CONTEXT, whole().state, Frame(np.empty(0, np.int64), {}))
    assert again.state == whole().state
    assert again.findings == ()


def test_readings_that_are_not_later_are_noted_and_left_out() -> None:
    again = run(CONTEXT, whole().state, part(ODD, 900, 960))
    assert again.state == whole().state
    assert any("not later" in note.reason for note in again.notes)


def test_state_survives_its_encoding() -> None:
    tree = decode_state(whole().state)
    assert encode_state(tree) == whole().state


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (lambda: b"", "state.version"),
        (lambda: b"nonsense that is no state", "state.version"),
        (lambda: b"SWDS\x63" + whole().state[5:], "state.version"),
        (lambda: whole().state[:-20], "state.damaged"),
        (lambda: whole().state[:400] + bytes(50) + whole().state[450:], "state.damaged"),
    ],
)
def test_a_state_that_is_not_ours_is_refused(state: Callable[[], bytes], code: str) -> None:
    with pytest.raises(DetectorError) as wrong:
        run(CONTEXT, state(), part(ODD, 0, 0))
    assert wrong.value.code == code


def test_the_configuration_has_a_stable_hash() -> None:
    assert config_hash() == config_hash()
    assert len(config_hash()) == 64
