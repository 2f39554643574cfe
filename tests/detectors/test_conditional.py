"""Level, exceedances, oxygen line and visits: found when forged, silent on the honest, notes where data are missing."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from stackwitness_detectors import Context, Finding, Frame, Note
from stackwitness_detectors.conditional import Exceedances, Level, Residuals
from stackwitness_detectors.conditional.courses import course_costs
from stackwitness_detectors.conditional.gathered import gather, least_gathered
from stackwitness_detectors.conditional.ledger import BANK, Ledger, rarity
from stackwitness_detectors.conditional.pooled import OF_DAYS, OF_WEEKS
from stackwitness_detectors.config import DEFAULT
from stackwitness_detectors.engine import Engine
from stackwitness_detectors.forge import Surroundings, forge
from stackwitness_detectors.inspections import Visits
from stackwitness_detectors.inspections.visits import risen_days, shifted_means
from stackwitness_detectors.memory import Memory
from stackwitness_detectors.physics import OxygenLine
from stackwitness_detectors.physics.gases import fuels_of, stoichiometric_factor
from tests.detectors.gasworks import CONTEXT, works
from tests.detectors.plants import DAY_MS, START_MS, part

DAYS = 110
FROM_MS, TO_MS = START_MS + 80 * DAY_MS, START_MS + 104 * DAY_MS
VISITS = tuple((START_MS + day * DAY_MS, START_MS + (day + 1) * DAY_MS) for day in (85, 92, 99))


def led(context: Context, frame: Frame) -> tuple[tuple[Finding, ...], tuple[Note, ...]]:
    """Lead these tests alone, at the budget of the whole, over a frame."""
    config = DEFAULT.spread()
    memory = Memory(context, config)
    residuals = Residuals(memory, config)
    level = Level(memory, config, residuals)
    others = [test(memory, config, residuals) for test in (Exceedances, OxygenLine)]
    tests = [level, *others, Visits(memory, config, residuals, level)]
    engine = Engine(context, config, [residuals, *tests], memory)
    with np.errstate(all="ignore"):
        engine.feed(frame)
    return tuple(engine.findings), tuple(note for test in tests for note in test.notes())


@cache
def honest() -> Frame:
    return works(DAYS, seed=21)


@cache
def judged(kind: str, strength: float, context: Context = CONTEXT) -> tuple[Finding, ...]:
    frame = honest()
    if kind:
        around = Surroundings(honest_ms=VISITS)
        frame = forge(kind, frame, CONTEXT, "nox", FROM_MS, TO_MS, strength, 4, around)
    return led(context, frame)[0]


def test_the_honest_plant_is_left_alone() -> None:
    assert [f.text_en for f in judged("", 0.0)] == []


# kind, strength, detector, names one of which must be among the first three
CASES = [
    ("scale", 0.2, "level", {"scale"}),
    ("drift", 0.4, "level", {"drift", "scale"}),
    ("altered_records", 0.5, "level", {"altered_records", "scale"}),
    ("dilution_forged_o2", 0.2, "oxygen_line", {"dilution_forged_o2"}),
    ("o2_low", 1.5, "oxygen_line", {"o2_low"}),
    ("dilution", 0.2, "level", {"dilution"}),
    ("limit_aware_scale", 0.3, "exceedances", {"limit_aware_scale"}),
]


@pytest.mark.parametrize(("kind", "strength", "detector", "names"), CASES)
def test_a_forgery_is_found_and_named(kind: str, strength: float, detector: str, names: set[str]) -> None:
    told = [f for f in judged(kind, strength) if f.detector == detector]
    assert told, [f.text_en for f in judged(kind, strength)]
    assert told[0].to_ms >= FROM_MS
    assert any(names & set(f.kinds[:3]) for f in told)


def test_honesty_at_visits_is_found_when_the_dates_are_known() -> None:
    told = [
        f for f in judged("inspection_honest", 0.2, replace(CONTEXT, visits=VISITS)) if f.detector == "visits"
    ]
    assert told
    assert told[0].kinds[0] == "inspection_honest"
    assert float(told[-1].numbers["rise_percent"]) == pytest.approx(25, abs=12)


def test_visits_to_an_honest_plant_are_no_finding() -> None:
    assert judged("", 0.0, replace(CONTEXT, visits=VISITS)) == ()


def test_what_is_missing_is_noted() -> None:
    bare = Context("bare", tuple(c for c in CONTEXT.channels if c.name not in ("co2",)))
    notes = {n.detector: n.reason for n in led(bare, honest())[1]}
    assert "carbon dioxide" in notes["oxygen_line"]
    assert "no dates" in notes["visits"]


def test_rarity_is_a_rank_inside_the_reference_and_a_tail_beyond() -> None:
    rng = np.random.default_rng(2)
    size = rng.normal(0, 0.01, 240)
    day, flagged = np.arange(240.0), np.zeros(240, np.bool_)

    def rate(x: float) -> float:
        found = rarity(np.append(size, x), np.append(day, 240.0), np.append(flagged, False), 1, DEFAULT, 0.01)
        assert found is not None
        return found

    rates = [rate(x) for x in (0.0, 0.01, 0.02, 0.03, 0.06, 0.2)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 1
    assert 1e-4 < rates[4] < 0.1
    assert rarity(size[:12], day[:12], flagged[:12], 7, DEFAULT, 0.01) is None


def test_what_could_not_have_been_seen_is_said() -> None:
    rng = np.random.default_rng(3)
    quiet, loud = Ledger(DEFAULT), Ledger(DEFAULT)
    for ledger, spread in ((quiet, 0.01), (loud, 0.05)):
        for day in range(300):
            ledger.add(day, rng.normal(0, spread, 24), 6)
    assert Ledger(DEFAULT).least(0.01, 0.01) is None
    told, rarer = quiet.least(0.01, 0.05), quiet.least(0.01, 0.005)
    wide = loud.least(0.05, 0.05)
    assert told is not None
    assert rarer is not None
    assert wide is not None
    assert told[0] < rarer[0] < wide[0]
    for day in range(300, 300 + int(told[1])):
        quiet.add(day, np.full(24, -1.1 * told[0]), 6)
    found = quiet.rarest(0.01)
    assert found is not None
    assert found.rate <= 0.05
    findings, notes = led(CONTEXT, honest())
    assert findings == ()
    said = [note.reason for note in notes if note.detector == "level" and note.channel == "nox"]
    assert len(said) == 1
    assert "not detectable here: shifts below" in said[0]
    scaled = next(f for f in judged("scale", 0.2) if f.detector == "level" and f.channels == ("nox",))
    assert -float(scaled.numbers["shift_percent"]) >= 0.8 * float(scaled.numbers["delta_min_pct"]) >= 2.0


def test_a_flagged_stretch_is_no_baseline() -> None:
    ledger = Ledger(DEFAULT)
    rng = np.random.default_rng(3)
    for day in range(60):
        ledger.add(day, rng.normal(0.0 if day < 50 else -0.3, 0.05, 24), 6)
    before = ledger.windows(1, 3, False)[0][-1]
    ledger.flag(50)
    assert np.isnan(ledger.windows(1, 3, False)[0][-1])
    assert before < 0.15 < 0.18 < ledger.windows(1, 14, False)[0][-1]
    assert {w for w, _ in BANK} >= {0.25, 1, 3, 7, 14, 30}


def test_courses_are_told_apart() -> None:
    rng = np.random.default_rng(5)
    hour = np.arange(336.0)
    expected = 80 + 25 * np.sin(2 * np.pi * hour / 24) + 8 * rng.standard_normal(336)
    noise = 0.03 * rng.standard_normal(336)

    def course(ratio: np.ndarray) -> str:
        costs = course_costs(ratio + noise, expected, hour, None)
        return min(costs, key=lambda name: costs[name])

    assert course(np.full(336, -0.2)) == "share"
    assert course(np.log(1 - 16 / expected)) == "amount"
    assert course(-0.3 * hour / 336) == "ramp"
    assert course(np.where(expected > np.quantile(expected, 0.8), -0.2, 0.0)) == "high"
    assert course(np.where((hour % 24) < 3, -1.4, 0.0)) in ("hours", "high")


def test_gases() -> None:
    factor = stoichiometric_factor(np.array([3.0, 20.9, 5.0]), np.array([10.3, 0.1, np.nan]))
    assert factor[0] == pytest.approx(1.738, abs=0.001)
    assert np.isnan(factor[1:]).all()
    assert "natural gas" in fuels_of(1.738)[0]
    assert fuels_of(3.0) == ("", "")


def test_randomisation_counts_every_shift() -> None:
    rise = np.zeros(50)
    at = np.zeros(50, np.bool_)
    at[[10, 30]] = True
    rise[at] = 1.0
    shifts = shifted_means(rise, at)
    assert len(shifts) == 49
    assert (shifts >= 1.0).sum() == 0
    assert risen_days(np.append(np.zeros(9), 1.0))[-1] == 1.0


def test_small_shortfalls_of_weeks_add_up() -> None:
    rng = np.random.default_rng(8)
    day = np.arange(240.0)
    honest_days = rng.normal(0, 0.02, 240)
    counts = np.ones(240, np.bool_)

    def rates(taken: np.ndarray) -> list[float]:
        """Give the rate of each of the last 30 days, infinite where the day itself does not lie low."""
        mean = honest_days - np.append(np.zeros(210), taken)
        found = [gather(day[:n], mean[:n], counts[:n], 0.02) for n in range(211, 241)]
        return [math.inf if one is None else one.rate for one in found]

    assert min(rates(np.zeros(30))) > 1
    assert min(rates(np.full(30, 0.06))) < 0.03
    assert min(rates(np.linspace(0, 0.12, 30))) < 0.03
    assert rates(np.append(np.full(20, 0.2), np.zeros(10)))[-1] == math.inf
    assert gather(day[:9], honest_days[:9], counts[:9], 0.02) is None
    told = least_gathered(day, honest_days, counts, 0.02, 0.03)
    assert told is not None
    assert min(rates(np.full(30, 1.1 * told))) < 0.03


def test_how_far_out_and_how_rare_are_inverse() -> None:
    for law in (OF_DAYS, OF_WEEKS):
        for rate in (0.3, 0.01, 1e-5):
            assert law.rate(law.distance(rate, 9.0), 9.0) == pytest.approx(rate)
    assert OF_WEEKS.rate(5.0, 4.0) > OF_WEEKS.rate(5.0, 40.0) > OF_WEEKS.rate(6.0, 40.0)


def test_the_budget_goes_where_much_is_explained() -> None:
    memory = Memory(CONTEXT, DEFAULT)
    residuals = Residuals(memory, DEFAULT)
    level = Level(memory, DEFAULT, residuals)
    assert sum(level.allowed(k) for k in level.tested) == pytest.approx(level.budget * len(level.tested))
    engine = Engine(CONTEXT, DEFAULT, [residuals], memory)
    with np.errstate(all="ignore"):
        engine.feed(part(honest(), 0, 24 * 60))
    assert sum(level.allowed(k) for k in level.tested) == pytest.approx(level.budget * len(level.tested))
    pollutants = [k for k in level.tested if CONTEXT.channels[k].role == "pollutant"]
    r2 = {k: residuals.models[k].r2 for k in pollutants}
    best = max(pollutants, key=lambda k: r2[k])
    assert level.allowed(best) == max(level.allowed(k) for k in level.tested)
    assert level.allowed(best) > level.budget


def test_a_limit_that_is_exceeded_parts_high_hours_from_the_others() -> None:
    memory = Memory(CONTEXT, DEFAULT)
    residuals = Residuals(memory, DEFAULT)
    engine = Engine(CONTEXT, DEFAULT, [residuals], memory)
    frame = honest()
    engine.feed(part(frame, 0, 24 * 60))
    k = memory.names.index("nox")
    day = int(frame.at_ms[24 * 60 - 1]) // DAY_MS
    past = frame.values["nox"][: 24 * 60]
    for exceeded in (0.1, 0.3, 0.001):
        limit = float(np.nanquantile(past, 1.0 - exceeded))
        channels = tuple(replace(c, limit=limit) if c.name == "nox" else c for c in CONTEXT.channels)
        memory.channels = channels
        level = Exceedances(memory, DEFAULT, residuals)._level(k, day)
        fifth = float(np.nanquantile(past, 0.8))
        assert level == (limit if exceeded >= 0.03 else pytest.approx(fifth, rel=0.05))
