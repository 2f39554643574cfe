"""The simulated plants: reproducible at any time, plausible, forged where they say so."""

import math
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emdi.pack import Record
from stackwitness_client.simulator import INDUSTRIES, PROVINCE, Cheat, ForgingPlant, Plant

DAY_MS = 86_400_000
START_MS = 1_767_225_600_000
WEEK = (START_MS, START_MS + 7 * DAY_MS)


def _normal(records: Iterable[Record], name: str) -> list[float]:
    return [float(r.value) for r in records if r.name == name and r.status == "N" and r.value is not None]


def _correlation(a: list[float], b: list[float]) -> float:
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    cross = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return cross / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))


@pytest.fixture(scope="module")
def coal_week() -> list[Record]:
    return list(Plant(5, "coal_power").records(*WEEK))


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(sorted(INDUSTRIES)), st.integers(0, 10**6), st.integers(0, 400 * 288), st.integers(1, 40)
)
def test_any_moment_can_be_asked_without_its_past(industry: str, seed: int, step: int, length: int) -> None:
    from_ms = START_MS + step * 300_000
    whole = list(Plant(seed, industry).records(from_ms, from_ms + length * 300_000))
    late = list(Plant(seed, industry).records(from_ms + (length - 1) * 300_000, from_ms + length * 300_000))
    assert whole[-len(late) :] == late
    assert len(whole) == length * len(INDUSTRIES[industry].channels())


def test_two_seeds_are_two_plants() -> None:
    one, two = (list(Plant(seed, "glass").records(START_MS, START_MS + DAY_MS)) for seed in (1, 2))
    assert len(one) == len(two)
    assert sum(a.value == b.value for a, b in zip(one, two, strict=True)) < len(one) / 10


def test_values_stand_on_the_resolution_and_last_digits_are_even(coal_week: list[Record]) -> None:
    for channel in Plant(5, "coal_power").channels:
        steps = [value / channel.resolution for value in _normal(coal_week, channel.name)]
        assert all(abs(s - round(s)) < 1e-6 for s in steps)
        digits = Counter(round(s) % 10 for s in steps)
        expected = len(steps) / 10
        chi_square = sum((digits[d] - expected) ** 2 / expected for d in range(10))
        assert chi_square < 40.0, channel.name


def test_a_series_remembers_and_follows_the_load(coal_week: list[Record]) -> None:
    so2 = _normal(coal_week, "so2")
    assert _correlation(so2[1:], so2[:-1]) > 0.9
    assert 0.2 < _correlation(so2[36:], so2[:-36]) < 0.97
    by_time: dict[int, dict[str, float]] = {}
    for record in coal_week:
        if record.status == "N" and record.value is not None:
            by_time.setdefault(record.at_ms, {})[record.name] = float(record.value)
    both = [row for row in by_time.values() if {"load", "o2", "fuel", "flow"} <= row.keys()]
    load = [row["load"] for row in both]
    assert _correlation(load, [row["o2"] for row in both]) < -0.6
    assert _correlation(load, [row["fuel"] for row in both]) > 0.9
    assert _correlation(load, [row["flow"] for row in both]) > 0.8


def test_limits_are_approached_and_rarely_exceeded() -> None:
    near = over = count = 0
    for station in PROVINCE:
        if station.stress:
            continue
        plant = station.plant()
        limits = {c.name: c.limit for c in plant.channels if c.limit}
        for record in plant.records(START_MS, START_MS + 21 * DAY_MS, 1800):
            limit = limits.get(record.name)
            if limit and record.status == "N" and record.value is not None:
                count += 1
                near += float(record.value) > 0.9 * limit
                over += float(record.value) > limit
    assert near > over > 0
    assert over / count < 0.01


def test_the_day_of_an_analyser(coal_week: list[Record]) -> None:
    calibrations = Counter(r.at_ms // DAY_MS for r in coal_week if r.name == "so2" and r.status == "C")
    assert set(calibrations.values()) == {4}
    assert len(calibrations) >= 6
    last: dict[str, Record] = {}
    held = 0
    for record in coal_week:
        if record.status == "H" and last.get(record.name) is not None and last[record.name].status in "NH":
            held += 1
            assert record.value == last[record.name].value
        last[record.name] = record
    assert held > 50
    statuses = Counter(
        r.status for r in Plant(5, "coal_power").records(START_MS, START_MS + 60 * DAY_MS, 900)
    )
    assert {"N", "C", "H", "M", "B", "F"} <= statuses.keys()
    assert statuses["N"] > 0.8 * statuses.total()
    missing = [r for r in coal_week if r.value is None]
    assert all(r.status in "MB" for r in missing)


def _forged(kind: str, strength: float, stress: float = 1.0) -> tuple[list[Record], list[Record], float]:
    plant = Plant(9, "steel_sinter", stress={"so2": stress})
    from_ms = START_MS + 2 * DAY_MS
    forging = ForgingPlant(plant, (Cheat(kind, ("so2",), from_ms, strength),))  # type: ignore[arg-type]
    honest, reported = list(plant.records(*WEEK)), list(forging.records(*WEEK))
    for a, b in zip(honest, reported, strict=True):
        assert a == b or (b.at_ms >= from_ms and b.name == "so2" and a.at_ms == b.at_ms)
    changed = [(a, b) for a, b in zip(honest, reported, strict=True) if a != b]
    assert changed
    return [a for a, _ in changed], [b for _, b in changed], 35.0


def test_scaling_lowers_by_the_factor() -> None:
    honest, reported, _ = _forged("scale", 0.7)
    assert all(float(b.value or 0) == pytest.approx(0.7 * float(a.value or 0), abs=0.02)
               for a, b in zip(honest, reported, strict=True))  # fmt: skip


def test_clipping_keeps_everything_under_the_limit() -> None:
    honest, reported, limit = _forged("clip", 1.0, stress=1.4)
    assert all(float(a.value or 0) > 0.98 * limit for a in honest)
    assert all(0.96 * limit < float(b.value or 0) <= 0.99 * limit for b in reported)


def test_excuses_withhold_what_is_high() -> None:
    honest, reported, limit = _forged("excuse", 0.9, stress=1.4)
    assert all(float(a.value or 0) >= 0.9 * limit - 0.01 for a in honest)
    assert {(b.value, b.status) for b in reported} == {(None, "M")}


def test_holding_repeats_one_value_all_night() -> None:
    _, reported, _ = _forged("hold", 9.0)
    nights = {}
    for record in reported:
        nights.setdefault((record.at_ms - 21 * 3_600_000) // DAY_MS, set()).add(record.value)
    assert all(len(values) == 1 for values in nights.values())
    assert len(nights) >= 3


def test_a_replay_repeats_the_last_honest_week() -> None:
    plant = Plant(9, "glass")
    from_ms = START_MS + 7 * DAY_MS
    forging = ForgingPlant(plant, (Cheat("replay", ("nox",), from_ms, 1.0),))
    honest = {r.at_ms: r for r in plant.records(START_MS, from_ms, 1800) if r.name == "nox"}
    same = total = 0
    for record in forging.records(from_ms, from_ms + 14 * DAY_MS, 1800):
        source = honest[START_MS + (record.at_ms - START_MS) % (7 * DAY_MS)]
        if record.name == "nox" and record.status == "N" and source.status == "N":
            total += 1
            same += record.value == source.value
    assert same == total > 500


def test_the_province_is_ready_to_demo() -> None:
    assert len({s.stn for s in PROVINCE}) == len(PROVINCE) == 8
    assert len({s.seed for s in PROVINCE}) == 8
    kinds = {cheat.kind for station in PROVINCE for cheat in station.cheats}
    assert kinds == {"hold", "replay", "scale", "clip", "excuse"}
    for station in PROVINCE:
        names = {c.name for c in station.plant().channels}
        assert all(set(cheat.channels) <= names for cheat in station.cheats)
        assert 1 < max(cheat.days_before for cheat in station.cheats) <= 12 if station.cheats else True
        honest = station.reporting(START_MS, honest=True)
        assert honest.readings(START_MS) == station.plant(START_MS).readings(START_MS)
