"""The measures of the bench against their definitions, written out the slow way."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackwitness_detectors import ChannelInfo, Context, DetectorError, Frame
from stackwitness_detectors.bench.budgets import count_events, hours_spoken_of, threshold_for
from stackwitness_detectors.bench.judging import heard_alarms, was_stated
from stackwitness_detectors.bench.metrics import (
    Outcome,
    Quiet,
    cluster_interval,
    poisson_interval,
    rate_uniformity,
    rates,
    recalls,
    wilson_interval,
)
from stackwitness_detectors.bench.replay import Alarm, listening
from stackwitness_detectors.bench.splits import months_between, operating_hours, split_frame
from stackwitness_detectors.bench.trials import Place, Trial, make
from stackwitness_detectors.bench.vus import area_pr, vus_pr
from stackwitness_detectors.config import DEFAULT, Config
from stackwitness_detectors.contract import Note
from stackwitness_detectors.engine import Spending, open_engine
from stackwitness_detectors.forge import Injection
from tests.detectors.plants import CONTEXT, DAY_MS, HOUR_MS, START_MS, plant

INTERVALS = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 30)).map(lambda p: (p[0], p[0] + p[1])), max_size=12
)


def events_slowly(intervals: list[tuple[int, int]], gap: int) -> int:
    """Count the connected groups of intervals that lie at most `gap` apart."""
    group = list(range(len(intervals)))
    for i, (a, b) in enumerate(intervals):
        for j, (c, d) in enumerate(intervals):
            if max(a, c) - min(b, d) <= gap:
                old, new = group[i], group[j]
                group = [new if g == old else g for g in group]
    return len(set(group))


@given(INTERVALS, st.integers(0, 60))
def test_events_are_the_groups_of_near_intervals(intervals: list[tuple[int, int]], gap: int) -> None:
    assert count_events(intervals, gap) == events_slowly(intervals, gap)


@given(INTERVALS, st.sets(st.integers(0, 60)))
def test_an_hour_is_spoken_of_once_whoever_speaks(intervals: list[tuple[int, int]], hours: set[int]) -> None:
    spans = [(a * HOUR_MS // 7, b * HOUR_MS // 7) for a, b in intervals]
    spoken = {h for h in hours if any(a // HOUR_MS <= h <= b // HOUR_MS for a, b in spans)}
    assert hours_spoken_of(np.array(sorted(hours), np.int64), spans) == len(spoken)


def test_who_always_speaks_has_one_event_and_all_the_time() -> None:
    always = [(day * DAY_MS, (day + 1) * DAY_MS - 1) for day in range(30)]
    assert count_events(always) == 1
    assert hours_spoken_of(np.arange(720), always) == 720


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 40)), max_size=20), st.floats(0, 8))
def test_a_threshold_keeps_its_allowance(points: list[tuple[int, int]], allowed: float) -> None:
    station = [(float(score), day * DAY_MS, day * DAY_MS) for score, day in points]
    level = threshold_for([station, []], allowed)

    def events(at: float) -> int:
        return count_events((a, b) for score, a, b in station if score >= at)

    assert events(level) <= allowed
    lower = [score for score, _, _ in station if score < level]
    assert not lower or events(max(lower)) > allowed


def test_exact_intervals_of_textbooks() -> None:
    assert poisson_interval(0, 1.0) == pytest.approx((0.0, 3.6889), abs=1e-4)
    assert poisson_interval(10, 2.0) == pytest.approx((2.3977, 9.1952), abs=1e-4)
    assert poisson_interval(3, 0.0) == (0.0, math.inf)
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def vus_slowly(labels: list[bool], scores: list[float], tolerance: int) -> float:
    """Follow the definition: every threshold, every point, every anomaly."""
    n = len(labels)
    starts = [i for i in range(n) if labels[i] and (i == 0 or not labels[i - 1])]
    ends = [i for i in range(n) if labels[i] and (i == n - 1 or not labels[i + 1])]
    soft = [float(x) for x in labels]
    for s, e in zip(starts, ends, strict=True):
        for i in range(n):
            distance = s - i if i < s else i - e
            if 0 < distance <= tolerance // 2:
                soft[i] = max(soft[i], math.sqrt(1 - distance / tolerance))
    groups: list[list[int]] = []
    for i in range(n):
        if soft[i] > 0:
            if i and soft[i - 1] > 0:
                groups[-1].append(i)
            else:
                groups.append([i])
    area, before = 0.0, 0.0
    for level in sorted(set(scores), reverse=True):
        flagged = [i for i in range(n) if scores[i] >= level]
        true = sum(soft[i] for i in flagged)
        exists = sum(any(scores[i] >= level for i in g) for g in groups) / len(groups)
        recall = min(1.0, true / ((sum(labels) + sum(soft)) / 2)) * exists
        area += (recall - before) * true / len(flagged)
        before = recall
    return area


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=3, max_size=25).filter(
        lambda rows: any(label for label, _ in rows)
    ),
    st.integers(0, 8),
)
def test_the_volume_is_that_of_its_definition(rows: list[tuple[bool, int]], tolerance: int) -> None:
    labels, scores = [label for label, _ in rows], [float(score) for _, score in rows]
    ours = area_pr(np.array(labels), np.array(scores), tolerance)
    assert ours == pytest.approx(vus_slowly(labels, scores, tolerance))


def test_a_perfect_score_fills_the_volume_and_none_is_the_base_rate() -> None:
    labels = np.zeros(200, np.bool_)
    labels[50:60] = True
    assert vus_pr(labels, labels.astype(float), (0,)) == pytest.approx(1.0)
    assert vus_pr(labels, np.zeros(200), (0,)) == pytest.approx(0.05)


def test_rates_name_the_worst_station_and_leave_short_ones_out() -> None:
    told = rates([Quiet("a", 1, 4.0, 0.2), Quiet("b", 3, 6.0, 0.3), Quiet("short", 1, 0.1, 0.1)], 0.5)
    assert (told["false_alarms"], told["worst_station"], told["worst_station_rate"]) == (5, "b", 0.5)
    assert told["realised_rate"] == pytest.approx(5 / 10.1, rel=1e-5)
    assert told["alarmed_share"] == pytest.approx(0.6 / 10.1, rel=1e-5)


def test_recalls_average_over_kinds_not_over_trials() -> None:
    outcomes = [
        *(Outcome("a", "freeze", 2.0, 0.0, ("freeze", "scale")) for _ in range(3)),
        Outcome("b", "freeze", 6.0, 0.0, ("generated", "offset", "freeze")),
        Outcome("b", "scale", None, 0.2),
    ]
    told = recalls(outcomes)
    assert told["mean_recall"] == 0.5
    assert told["median_delay_h_by_kind"] == {"freeze": 2.0, "scale": None}
    assert (told["attribution_top1"], told["attribution_top3"]) == (0.75, 1.0)
    low, high = cluster_interval(outcomes)
    assert 0.0 <= low <= 0.5 <= high <= 1.0


def test_honest_p_values_are_uniform_and_boastful_ones_are_not() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0, 0.01, 400)
    assert (rate_uniformity({"a": (0.5 * p**-0.5).tolist()}, 0.5)["ks_p"] or 0) > 0.01
    assert (rate_uniformity({"a": (0.5 * (p**3) ** -0.5).tolist()}, 0.5)["ks_p"] or 0) < 1e-6
    assert rate_uniformity({}, 0.5)["ks_p"] is None


def test_a_detector_that_speaks_there_anyway_has_found_nothing() -> None:
    trial = Trial("t", "s", Injection("scale", "nox", "gross", 0.3, "short", 10 * DAY_MS, 12 * DAY_MS, 1))
    chance = Alarm("level", "conditional", (), 10 * DAY_MS, 11 * DAY_MS, 11 * DAY_MS, 5.0)
    other = Alarm("hold", "freeze", (), 11 * DAY_MS, 12 * DAY_MS, 12 * DAY_MS, 3.0)
    assert heard_alarms(trial, [chance, other], [chance]) == [other]
    assert heard_alarms(trial, [chance], [chance]) == []
    assert heard_alarms(trial, [chance, other], []) == [chance, other]


def test_the_parts_of_the_tests_add_up_to_what_is_heard_as_the_budget() -> None:
    def parts(config: Config) -> dict[str, float]:
        return {name: part for name, part in asdict(config).items() if name.endswith("_budget")}

    spread = listening(1.5).spread()
    assert sum(parts(spread).values()) == pytest.approx(listening(1.5).parts)
    assert parts(spread.spread()) == pytest.approx(parts(spread))
    assert parts(replace(DEFAULT, copy_budget=0.0).spread())["copy_budget"] == 0.0
    assert not any(parts(listening(1.0, [name[:-7] for name in parts(DEFAULT)]).spread()).values())
    assert listening(0.5, plain=True).plain_thresholds
    off = listening(0.5, ("copy", "level")).spread()
    assert off.copy_budget == off.level_budget == 0.0
    assert sum(parts(off).values()) == pytest.approx(off.parts)
    assert DEFAULT.parts == pytest.approx(DEFAULT.budget)
    assert listening(1.0).parts > 1.0
    assert listening(0.083).parts < 0.083
    with pytest.raises(DetectorError, match="bribery"):
        listening(0.5, ("bribery",))


def test_what_a_test_cannot_spend_here_goes_to_the_others() -> None:
    engine = open_engine(
        Context("x", (ChannelInfo("so2", "SO2", "mg/m3", "pollutant"),)), None, listening(0.5)
    )
    tests = [family for family in engine.families if isinstance(family, Spending)]
    assert any(not test.tested for test in tests)
    assert sum(test.budget * len(test.tested) for test in tests) == pytest.approx(listening(0.5).parts)
    silent = [name[:-7] for name in asdict(DEFAULT) if name.endswith("_budget")]
    assert not any(
        f.budget
        for f in open_engine(CONTEXT, None, listening(1.0, silent)).families
        if isinstance(f, Spending)
    )


def test_splits_by_share_and_by_year_and_refuses_an_empty_part() -> None:
    frame = plant(400)
    shares = split_frame(frame, 0.5, 0.75)
    assert shares.calibration_ms == START_MS + 200 * DAY_MS - HOUR_MS  # half of 400 days less the last hour
    assert shares.tests(shares.end_ms - 1)
    years = np.arange(0, 3 * 365) * DAY_MS + START_MS
    by_year = split_frame(Frame(years, {}), 2025, 2026)
    assert by_year.test_ms == int(np.datetime64("2026", "ms").astype(int))
    with pytest.raises(DetectorError, match="empty"):
        split_frame(frame, 2019, 2020)


def test_only_running_hours_count() -> None:
    frame = plant(30)
    frame.values["load"][:240] = 0.0
    frame.values["nox"][240:300] = np.nan
    assert len(operating_hours(CONTEXT, frame)) == 480
    alone = Context("x", (ChannelInfo("nox", "NOx", "mg/m3", "pollutant"),))
    hours = operating_hours(alone, Frame(frame.at_ms, {"nox": frame.values["nox"]}))
    assert months_between(hours, START_MS, START_MS + 720 * HOUR_MS) == pytest.approx(660 / 720)


@pytest.mark.parametrize(
    ("kind", "percent", "days", "stated"),
    [("scale", 15.0, 5.0, True), ("scale", 25.0, 5.0, False), ("scale", 15.0, 9.0, False), ("freeze", 1.0, 1.0, None)],
)  # fmt: skip
def test_a_lowering_was_stated_when_the_notes_named_a_smaller_and_shorter_one(
    kind: str, percent: float, days: float, stated: bool | None
) -> None:
    frame = plant(40)
    place = Place(CONTEXT, frame, split_frame(frame, 0.5, 0.6), operating_hours(CONTEXT, frame))
    made = Injection(
        kind, "nox", "strong", 0.2, "short", START_MS + 30 * DAY_MS, START_MS + 37 * DAY_MS, 1, ()
    )
    trial = Trial("t", CONTEXT.stn, made)
    note = Note("level", "nox", "below", "", (("days", days), ("percent", percent)))
    other = Note("level", "so2", "below", "", (("days", 1.0), ("percent", 1.0)))
    assert was_stated(place, trial, make(place, trial), (other, note)) is stated
    assert was_stated(place, trial, make(place, trial), (other,)) is (None if stated is None else False)


def test_found_forgeries_are_counted_apart_by_what_the_notes_had_said() -> None:
    one = Outcome("a", "scale", 5.0, 0.0, ("scale",), stated=True)
    told = recalls([one, replace(one, delay_h=None), replace(one, stated=False), replace(one, stated=None)])
    assert (told["recall_of_stated"]["found"], told["recall_of_stated"]["trials"]) == (1, 2)
    assert told["recall_of_not_stated"]["trials"] == 1
    assert recalls([replace(one, stated=None)])["recall_of_stated"] is None
