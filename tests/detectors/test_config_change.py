"""Parameters that pairs of channels imply: a change is found, named and sized; honest pairs are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from stackwitness_detectors import Frame
from stackwitness_detectors.config import Config
from stackwitness_detectors.config_change import Implied, Ranges
from stackwitness_detectors.engine import Family
from stackwitness_detectors.forge import forge
from stackwitness_detectors.memory import Memory
from stackwitness_detectors.shape import DigitReader
from tests.detectors.alone import alone
from tests.detectors.pairs import CONTEXT, computed, pairs
from tests.detectors.plants import CONTEXT as PLAIN
from tests.detectors.plants import DAY_MS, HOUR_MS, START_MS, plant, with_values

CLEAN = pairs(60, seed=21)
AT = 45 * 24
FROM_MS = START_MS + 45 * DAY_MS


def families(memory: Memory, config: Config) -> list[Family]:
    return [Implied(memory, config)]


def after(frame: Frame, changed: dict[str, np.ndarray], rows: slice = slice(AT, None)) -> Frame:
    """Give the frame with some channels replaced in some rows."""
    values = {name: frame.values[name].copy() for name in changed}
    for name, new in changed.items():
        values[name][rows] = new[rows]
    return with_values(frame, **values)


def test_an_honest_plant_is_left_alone() -> None:
    assert [f.text_en for f in alone(families, CLEAN, CONTEXT)] == []


def test_ten_minute_pairs_are_left_alone_and_a_new_area_is_found() -> None:
    frame = pairs(40, seed=22, step_ms=HOUR_MS // 6)
    assert alone(families, frame, CONTEXT) == []
    bent = after(frame, computed(frame.values, area_m2=36.0), slice(36 * 144, None))
    assert {f.channels[0] for f in alone(families, bent, CONTEXT)} == {
        "flow"
    }  # the mass rate follows the flow


def test_a_reference_oxygen_is_solved_for() -> None:
    bent = after(CLEAN, {"nox_zs": computed(CLEAN.values, o2_ref=8.0)["nox_zs"]})
    first = alone(families, bent, CONTEXT)[0]
    assert first.channels == ("nox_zs", "nox", "o2")
    assert float(first.numbers["reference_oxygen_before"]) == pytest.approx(6.0, abs=0.05)
    assert float(first.numbers["reference_oxygen_now"]) == pytest.approx(8.0, abs=0.05)
    assert first.verdict == "very unlikely"
    assert first.from_ms == FROM_MS


@pytest.mark.parametrize(
    ("kind", "channel", "strength", "verdict"),
    [
        ("scale", "nox_zs", 0.05, "very unlikely"),
        ("offset", "nox_zs", 0.05, "very unlikely"),
        ("o2_low", "nox_zs", 0.7, "very unlikely"),
        ("limit_aware_scale", "nox_zs", 0.1, "cannot be"),
        ("altered_records", "nox_zs", 0.1, "cannot be"),
        ("replay_exact", "nox_zs", 1.0, "very unlikely"),
    ],
)
def test_it_is_found_and_named(kind: str, channel: str, strength: float, verdict: str) -> None:
    bent = forge(kind, CLEAN, CONTEXT, channel, FROM_MS, FROM_MS + 5 * DAY_MS, strength, seed=5)
    hits = [f for f in alone(families, bent, CONTEXT) if channel in f.channels]
    assert hits
    assert hits[0].kinds[0] == kind, hits[0].numbers
    assert hits[0].verdict == verdict
    assert FROM_MS <= hits[0].from_ms < FROM_MS + 5 * DAY_MS
    assert hits[0].plot["band"]["mid"]


def test_channels_without_arithmetic_are_noted_not_judged() -> None:
    plain = plant(30, seed=3)
    context = type(PLAIN)(
        "twins",
        tuple(
            c if c.name != "so2" else type(c)("so2", "NOx at the duct", "mg/m3", "pollutant")
            for c in PLAIN.channels
        ),
    )
    memory = Memory(context, Config())
    assert alone(families, plain, context) == []
    assert Implied(memory, Config()).tested == [3]
    assert "no arithmetic" in Implied(memory, Config()).notes()[0].reason


def combs(memory: Memory, config: Config) -> list[Family]:
    return [Ranges(memory, config, DigitReader(memory, config))]


@pytest.mark.parametrize(("pitch", "scale"), [(1.37, 0.8), (0.83, 1.25)])
def test_another_range_of_the_converter_is_found(pitch: float, scale: float) -> None:
    clean = plant(75, seed=24)
    fine = clean.values["nox"]
    steps = np.round(fine / pitch) * pitch
    honest = with_values(clean, nox=np.round(steps, 1))
    assert alone(combs, honest, PLAIN) == []
    bent = steps.copy()
    bent[60 * 24 :] *= scale
    findings = alone(combs, with_values(clean, nox=np.round(bent, 1)), PLAIN)
    assert [f.channels for f in findings[:1]] == [("nox",)]
    # The window of the first day may still hold both ranges.
    sized = [f for f in findings if "range_ratio" in f.numbers]
    assert float(sized[-1].numbers["range_ratio"]) == pytest.approx(scale, abs=0.02)
    assert sized[-1].kinds[0] == "span_change"
    assert findings[0].to_ms >= START_MS + 60 * DAY_MS
    assert sum(findings[0].plot["histogram"]["reference"]) > 0


def test_values_that_did_not_come_through_the_converter_are_found() -> None:
    clean = plant(75, seed=25)
    nox = np.round(np.round(clean.values["nox"] / 1.37) * 1.37, 1)
    nox[60 * 24 :] = clean.values["nox"][60 * 24 :]
    findings = alone(combs, with_values(clean, nox=nox), PLAIN)
    assert findings
    assert "range_ratio" not in findings[0].numbers
    assert findings[0].kinds[0] == "generated"


def test_without_a_comb_of_its_own_nothing_is_judged() -> None:
    assert alone(combs, plant(60, seed=26), PLAIN) == []
