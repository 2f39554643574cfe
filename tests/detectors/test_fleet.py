"""Several stations: who copies whom, who moved against the others, and nobody is accused of a neighbour's forgery."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

from stackwitness_detectors import ChannelInfo, Context, DetectorError, Frame
from stackwitness_detectors.fleet import FleetResult, run_fleet
from tests.detectors.plants import DAY_MS, HOUR_MS, START_MS, wander
from tests.support.pictures import check_picture

DAYS = 100
STATIONS = ("a", "b", "c", "d")
CHANNELS = (ChannelInfo("pm", "PM10", "ug/m3", "pollutant", None, 0.1),)
CONTEXTS = [Context(stn, CHANNELS) for stn in STATIONS]
UNTIL_MS = START_MS + DAYS * DAY_MS
FROM = (DAYS - 8) * 24


def region(seed: int = 1) -> dict[str, np.ndarray]:
    """Simulate four posts in one region: a common course and a local one each."""
    rng = np.random.default_rng(seed)
    n = DAYS * 24
    common = 0.5 * wander(rng, n, 0.97)
    return {stn: np.round(60 * np.exp(common + 0.12 * wander(rng, n, 0.7)), 1) for stn in STATIONS}


def frames(values: dict[str, np.ndarray], first: int = 0, last: int = DAYS * 24) -> dict[str, Frame]:
    at_ms = START_MS + np.arange(DAYS * 24, dtype=np.int64) * HOUR_MS
    return {
        stn: Frame(
            at_ms[first:last], {"pm": v[first:last]}, {"pm": np.full(last - first, ord("N"), np.uint8)}
        )
        for stn, v in values.items()
    }


HONEST = region()


@functools.cache
def before() -> FleetResult:
    """Judge the honest days before row FROM, once for all that begins there."""
    return run_fleet(CONTEXTS, None, frames(HONEST, 0, FROM), START_MS + FROM * HOUR_MS)


def judged(values: dict[str, np.ndarray]) -> FleetResult:
    """Judge what is HONEST before row FROM: from the memory of what comes before."""
    assert before().findings == {}
    return run_fleet(CONTEXTS, before().state, frames(values, FROM), UNTIL_MS)


def changed(how: str) -> dict[str, np.ndarray]:
    values = {stn: v.copy() for stn, v in HONEST.items()}
    inside, rng = slice(FROM, FROM + 96), np.random.default_rng(2)
    if how == "now":
        values["a"][inside] = np.round(1.1 * values["b"][inside], 1)
    elif how == "then":
        values["a"][inside] = np.round(0.9 * values["b"][FROM - 96 : FROM], 1)
    elif how == "low":
        values["a"][FROM:] = np.round(0.6 * values["a"][FROM:], 1)
    else:
        values["a"][FROM:] = np.round(60 * np.exp(0.5 * wander(rng, len(values["a"]) - FROM, 0.97)), 1)
    return values


@functools.cache
def in_one_go() -> FleetResult:
    """Judge a borrowed stack without any memory, in one call."""
    return run_fleet(CONTEXTS, None, frames(changed("then")), UNTIL_MS)


def test_honest_neighbours_are_left_alone() -> None:
    assert judged(HONEST).findings == {}


@pytest.mark.parametrize(
    ("how", "detector", "kind"),
    [
        ("now", "foreign", "neighbour_copied"),
        ("then", "foreign", "borrowed_stack"),
        ("low", "lower_than_neighbours", "scale"),
        ("invented", "apart_from_neighbours", "generated"),
    ],
)
def test_the_forger_is_found_and_nobody_else(how: str, detector: str, kind: str) -> None:
    findings = judged(changed(how)).findings
    # Without a load and with neighbours all alike, two stations that report the same are told both.
    assert set(findings) == ({"a", "b"} if how == "now" else {"a"})
    told = [f for f in findings["a"] if f.detector == detector]
    assert told
    assert told[0].kinds[0] == kind
    assert told[0].channels == ("pm",)
    assert told[0].plot["match" if detector == "foreign" else "band"]["t"]
    check_picture(told[0])


def test_the_one_that_left_its_own_plant_is_the_one_named() -> None:
    rng = np.random.default_rng(4)
    n = DAYS * 24
    contexts = [Context(s, (*CHANNELS, ChannelInfo("load", "load", "MW", "load"))) for s in STATIONS[:2]]
    at_ms = START_MS + np.arange(n, dtype=np.int64) * HOUR_MS
    series = {}
    for stn in STATIONS[:2]:
        load = 300 + 60 * wander(rng, n, 0.9)
        series[stn] = {"load": load, "pm": np.round(load / 5 * np.exp(0.05 * wander(rng, n, 0.6)), 1)}
    series["a"]["pm"][FROM : FROM + 96] = np.round(0.9 * series["b"]["pm"][FROM : FROM + 96], 1)
    result = run_fleet(contexts, None, {stn: Frame(at_ms, v) for stn, v in series.items()}, UNTIL_MS)
    assert set(result.findings) == {"a"}
    assert result.findings["a"][0].numbers["station"] == "b"


def test_judging_one_station_says_of_it_what_judging_all_says() -> None:
    values = changed("then")
    alone = run_fleet(CONTEXTS, before().state, frames(values, FROM), UNTIL_MS, only=["a"])
    assert alone.findings == judged(values).findings == in_one_go().findings


def test_any_chunking_gives_the_same() -> None:
    values, whole = changed("then"), in_one_go()
    state, told = None, []
    for first, last in itertools.pairwise((0, 10, 50, 92, 93, 95, 99, DAYS)):
        # Readings may come hours before their day is closed.
        ahead = min(last * 24 + 7, DAYS * 24)
        begun = min(first * 24 + 7, DAYS * 24) if first else 0
        until = START_MS + last * DAY_MS
        result = run_fleet(CONTEXTS, state, frames(values, begun, ahead), until)
        state = result.state
        told += list(result.findings.get("a", ()))
    assert state == whole.state
    assert tuple(told) == whole.findings["a"]
    assert judged(values).state == whole.state  # in two pieces, cut at a day's end


def test_a_station_alone_or_of_another_kind_has_nobody_to_compare_with() -> None:
    other = Context("b", (ChannelInfo("so2", "SO2", "mg/m3", "pollutant"),))
    result = run_fleet([CONTEXTS[0], other], None, frames({"a": HONEST["a"]}), UNTIL_MS)
    assert result.findings == {}
    assert any("fewer than two" in note.reason for note in result.notes)


def test_late_readings_are_noted_and_change_nothing() -> None:
    first = judged(HONEST)
    again = run_fleet(CONTEXTS, first.state, frames(HONEST, 0, 48), UNTIL_MS)
    assert again.state == first.state
    assert any("after their day" in note.reason for note in again.notes)


def test_stations_come_and_go() -> None:
    first = run_fleet(CONTEXTS[:3], None, frames(HONEST), UNTIL_MS - 5 * DAY_MS)
    second = run_fleet(CONTEXTS[1:], first.state, frames({"d": HONEST["d"]}), UNTIL_MS)
    assert second.findings == {}


def test_a_foreign_state_is_refused() -> None:
    with pytest.raises(DetectorError):
        run_fleet(CONTEXTS, b"nothing of ours", {}, UNTIL_MS)
