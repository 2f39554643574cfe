"""Digits, grids, combs, ceilings and equal means: the arithmetic, the power on forged plants, silence on clean ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackwitness_detectors.conditional import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import ChannelInfo, Context
from stackwitness_detectors.engine import Family
from stackwitness_detectors.forge import forge
from stackwitness_detectors.memory import Memory
from stackwitness_detectors.shape import Comb, DigitReader, EqualMeans, Grid, Heaps, LimitDensity, ceilings
from stackwitness_detectors.shape.comb import _gains, _transform, factor_of, pitch_of
from stackwitness_detectors.shape.density import Zone
from stackwitness_detectors.shape.grid import _higher, dispersion
from stackwitness_detectors.shape.means import _cluster
from stackwitness_detectors.shape.units import fresh_values, on_grid, units_of
from tests.detectors.alone import alone
from tests.detectors.plants import CONTEXT, DAY_MS, START_MS, Frame, plant, with_values

CLEAN = plant(90, seed=31)
FROM_MS = START_MS + 60 * DAY_MS


def five_digits(values: np.ndarray) -> np.ndarray:
    """Write as an instrument with five significant digits does."""
    return np.array([float(f"{v:.5g}") for v in values])


# The same plant seen by an instrument whose last place moves with the size of the value, and not declared.
FINE = np.random.default_rng(7).uniform(-0.05, 0.05, len(CLEAN.at_ms))
FLOATING = with_values(CLEAN, nox=five_digits(CLEAN.values["nox"] + FINE))
UNDECLARED = Context(
    "t1", tuple(ChannelInfo(c.name, c.quantity, c.unit, c.role, c.limit) for c in CONTEXT.channels)
)


def digits(memory: Memory, config: Config) -> list[Family]:
    reader = DigitReader(memory, config)
    return [Grid(memory, config, reader), Heaps(memory, config, reader), Comb(memory, config, reader)]


def limits(memory: Memory, config: Config) -> list[Family]:
    return [*ceilings(memory, config, Residuals(memory, config)), EqualMeans(memory, config)]


def test_the_last_place_is_found_where_it_moves_with_the_size() -> None:
    rng = np.random.default_rng(1)
    values = five_digits(np.exp(rng.uniform(np.log(2), np.log(900), 3000)))
    units = units_of(values, None)
    assert units is not None
    assert dict(zip(units.decades.tolist(), units.decimals.tolist(), strict=True)) == {0: 4, 1: 3, 2: 2}
    assert on_grid(units.whole(values)).all()
    assert not on_grid(units.whole(values * 0.8)).all()


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30))
def test_any_values_have_units_or_none(values: list[float]) -> None:
    kept = fresh_values(np.array(values, np.float64))
    assert np.isfinite(kept).all()
    assert (kept != 0).all()
    with np.errstate(all="ignore"):
        units_of(kept, 0.1) if len(kept) else None


@given(st.integers(0, 2**32 - 1))
def test_smooth_values_show_no_comb(seed: int) -> None:
    rng = np.random.default_rng(seed)
    now, past = (np.round(rng.normal(20_000, 900, n)) for n in (168, 2000))
    usual = np.maximum(_gains([past[-1000:]])[0] / 1000, 0.0)
    assert pitch_of(now, _transform([past])[0] / len(past), len(past), 0.01)[0] < 6
    assert factor_of(_gains([now])[0], len(now), usual)[0] < 6


def test_a_factor_after_rounding_and_a_coarser_converter_show() -> None:
    rng = np.random.default_rng(2)
    past = np.round(rng.normal(20_000, 900, 2000))
    waves, usual = _transform([past])[0] / len(past), np.maximum(_gains([past[-1000:]])[0] / 1000, 0.0)
    scaled = np.round(0.7 * np.round(rng.normal(20_000, 900, 900)))
    score, factor = factor_of(_gains([scaled])[0], len(scaled), usual)
    assert factor == pytest.approx(0.7)
    assert score > 6
    coarse = np.round(np.round(rng.normal(20_000, 900, 168) / 12.3) * 12.3)
    score, pitch = pitch_of(coarse, waves, len(past), 0.01)
    assert score > 6
    assert min(abs(12.3 / pitch - round(12.3 / pitch)), 1.0) < 0.01  # the pitch or one of its overtones


@pytest.mark.parametrize("frame", [CLEAN, FLOATING], ids=["declared", "floating"])
def test_honest_digits_are_left_alone(frame: Frame) -> None:
    context = CONTEXT if frame is CLEAN else UNDECLARED
    assert [f.text_en for f in alone(digits, frame, context)] == []


@pytest.mark.parametrize(
    ("kind", "days", "strength"),
    [("rounded", 7, 2), ("rounded", 7, 10), ("typed_digits", 14, 1.0)],
)
@pytest.mark.parametrize("frame", [CLEAN, FLOATING], ids=["declared", "floating"])
def test_bent_digits_are_found(kind: str, days: int, strength: float, frame: Frame) -> None:
    find_bent_digits(kind, days, strength, frame)


def test_another_range_is_found_where_its_comb_is_wider_than_a_step() -> None:
    """On the declared instrument the comb would be finer than its step: nothing there to be found."""
    find_bent_digits("span_change", 14, 0.1, FLOATING)


def fuel_fed(days: int) -> tuple[Context, Frame]:
    """Give a unit whose heat input is counted in coarse steps of gas times a heat content that wanders month by month.

    It stops for weeks of its own choice, and parts of an hour count as such (40 CFR 75 App. F 5): tenths become thousandths.
    """
    frame, rng = plant(days, seed=32), np.random.default_rng(33)
    n = len(frame.at_ms)
    day = np.arange(n) // 24
    held = rng.random(day[-1] + 1) < np.where(np.arange(day[-1] + 1) // 21 % 2 == 0, 0.5, 0.02)
    on = ~held[day] | (np.arange(n) % 24 < 9)
    content = 1.03 + 0.004 * np.round(3 * np.sin(day / 15.0))
    heat = np.round(np.round(frame.values["load"] * 10.0 / 2.1) * 2.1 * content, 1)
    parted = on & ~(np.roll(on, 1) & np.roll(on, -1))
    heat = np.where(parted, np.round(heat * rng.integers(1, 60, n) / 60.0, 3), heat)
    load = np.where(on, frame.values["load"], 0.0)
    context = Context(
        "unit",
        (
            ChannelInfo("load", "load", "MW", "load", None, 0.1),
            ChannelInfo("heat", "heat input", "mmBtu/h", "flow", None, 0.1),
        ),
    )
    return context, Frame(frame.at_ms, {"load": load, "heat": np.where(on, heat, 0.0)}, {})


def test_parts_of_an_hour_and_a_wandering_heat_content_are_no_forged_digits() -> None:
    context, frame = fuel_fed(300)
    assert [f.text_en for f in alone(digits, frame, context)] == []


def test_a_place_that_one_in_ten_readings_exceeds_is_still_the_last_one() -> None:
    values = np.round(np.random.default_rng(4).uniform(200, 900, 2000), 1)
    values[::10] += 0.037
    for declared in (0.1, None):
        units = units_of(values, declared)
        assert units is not None
        assert units.text == "0.1"


def find_bent_digits(kind: str, days: int, strength: float, frame: Frame) -> None:
    context = CONTEXT if frame is CLEAN else UNDECLARED
    bent = forge(kind, frame, context, "nox", FROM_MS, FROM_MS + days * DAY_MS, strength, seed=5)
    hits = [f for f in alone(digits, bent, context) if f.channels == ("nox",)]
    assert hits
    assert any(kind in f.kinds[:2] for f in hits), [(f.detector, f.kinds) for f in hits]
    if kind == "rounded":
        assert hits[0].to_ms < FROM_MS + 3 * DAY_MS


@pytest.mark.parametrize(("kind", "strength"), [("clip", 0.01), ("bunch", 0.3)])
def test_a_pile_below_the_limit_is_found(kind: str, strength: float) -> None:
    bent = forge(kind, CLEAN, CONTEXT, "nox", FROM_MS, FROM_MS + 28 * DAY_MS, strength, seed=5)
    hits = [f for f in alone(limits, bent) if f.channels == ("nox",)]
    assert any(kind in f.kinds[:2] for f in hits)


def test_honest_levels_are_left_alone() -> None:
    assert [f.text_en for f in alone(limits, CLEAN)] == []


def near_limit(memory: Memory, config: Config) -> list[Family]:
    return [LimitDensity(memory, config)]


def test_a_hole_above_the_limit_is_found_and_a_falling_density_is_none() -> None:
    bunched = forge("bunch", CLEAN, CONTEXT, "nox", FROM_MS, FROM_MS + 14 * DAY_MS, 0.15, seed=5)
    found = [f for f in alone(near_limit, bunched) if not f.extends]
    assert [f.channels for f in found] == [("nox",)]
    assert found[0].numbers["band_percent"] == 5
    assert alone(near_limit, CLEAN) == []


def test_a_smooth_density_goes_on_as_it_falls() -> None:
    around, ahead = Zone(0.03, 2, 1), Zone(0.05, 0, 3)
    assert around.smooth(1.0) == pytest.approx(1 / 4)
    assert ahead.smooth(1.0) == pytest.approx(1 / 4)
    assert ahead.smooth(0.5) == pytest.approx(1 / 1.875)


def test_days_with_one_mean_are_told_by_chance_and_number() -> None:
    rng = np.random.default_rng(3)
    means = rng.normal(80, 8, 100)
    assert _cluster(means[-30:], means, 0.02, 8.0, 80.0) is None
    bent = means.copy()
    bent[[71, 75, 80, 93]] = 91.08 + np.array([0.0, 0.003, 0.001, 0.002])
    found = _cluster(bent[-30:], bent, 0.02, 8.0, 80.0)
    assert found is not None
    score, level, equal, _ = found
    assert (equal, round(level, 1)) == (4, 91.1)
    assert score > 4


def test_days_that_stand_still_have_no_mean_to_compare() -> None:
    held = CLEAN.values["nox"].copy()
    held[(CLEAN.at_ms >= FROM_MS) & (CLEAN.at_ms // 3_600_000 % 24 < 20)] = 90.0
    held[(CLEAN.at_ms >= FROM_MS) & (CLEAN.at_ms // 3_600_000 % 24 >= 20)] = 91.0
    assert alone(lambda memory, config: [EqualMeans(memory, config)], with_values(CLEAN, nox=held)) == []
    bent = np.where((CLEAN.at_ms >= FROM_MS) & (CLEAN.at_ms // 3_600_000 % 2 == 0), 90.0, held)
    bent[(CLEAN.at_ms >= FROM_MS) & (CLEAN.at_ms // 3_600_000 % 2 == 1)] = 92.0
    found = alone(lambda memory, config: [EqualMeans(memory, config)], with_values(CLEAN, nox=bent))
    assert {f.channels for f in found} == {("nox",)}


def test_what_comes_in_bunches_in_the_past_counts_as_bunches() -> None:
    rng = np.random.default_rng(2)
    spread_out = rng.random(2400) < 0.02
    bunched = np.zeros(2400, np.bool_)
    bunched[240:264] = bunched[1200:1224] = True
    assert dispersion(spread_out) < 1.5
    assert dispersion(bunched) > 15.0
    assert dispersion(np.zeros(2400, np.bool_)) == dispersion(spread_out[:20]) == 1.0


def test_records_computed_anew_are_the_high_ones_or_any() -> None:
    rng = np.random.default_rng(3)
    read = rng.integers(100, 900, 200).astype(np.float64)
    only_high = np.where(read > 700, read * 0.9, read) + np.where(read > 700, 0.13, 0.0)
    any_one = np.where(rng.random(200) < 0.5, read * 0.8 + 0.13, read)
    assert _higher(only_high) > 90.0
    assert 20.0 < _higher(any_one) < 60.0
    assert _higher(read) == 50.0
