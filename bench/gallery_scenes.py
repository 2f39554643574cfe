"""Scenes for the gallery of pictures: plants with pairs, moisture, calibrations, visits and neighbours, each forged once.

Each scene leads the one test it is for, alone, over a plant of the tests: the finding and its picture are that test's own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stackwitness_detectors import Finding
from stackwitness_detectors.conditional import Dependence, Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.engine import Family
from stackwitness_detectors.forge import forge
from stackwitness_detectors.memory import Memory
from tests.detectors import gasworks, pairs, plants
from tests.detectors import test_calibrations as calibrations
from tests.detectors import test_conditional as conditional
from tests.detectors import test_config_change as config_change
from tests.detectors import test_copy_pieces as copy_pieces
from tests.detectors import test_fleet as fleet
from tests.detectors import test_physics as physics
from tests.detectors import test_shape as shape
from tests.detectors.alone import alone

DAY_MS, START_MS = plants.DAY_MS, plants.START_MS


def pair_arithmetic() -> Iterable[Finding]:
    """Scale the corrected value of five days: it no longer follows from the raw one and the oxygen."""
    clean, from_ms = config_change.CLEAN, config_change.FROM_MS
    bent = forge("scale", clean, pairs.CONTEXT, "nox_zs", from_ms, from_ms + 5 * DAY_MS, 0.05, seed=5)
    return alone(config_change.families, bent, pairs.CONTEXT)


def converter_range() -> Iterable[Finding]:
    """Set another range of the analogue output for the last fortnight."""
    clean = plants.plant(75, seed=24)
    steps = np.round(clean.values["nox"] / 1.37) * 1.37
    steps[60 * 24 :] *= 0.8
    return alone(config_change.combs, plants.with_values(clean, nox=np.round(steps, 1)), plants.CONTEXT)


def moisture() -> Iterable[Finding]:
    """Set the moisture by hand, above what the gas can hold."""
    water = physics.WET.values["water"].copy()
    water[45 * 24 : 50 * 24] = np.round(water[45 * 24 : 50 * 24] * 1.7, 1)
    return alone(physics.vapour, plants.with_values(physics.WET, water=water), pairs.CONTEXT)


def flow_off_load() -> Iterable[Finding]:
    """Report a fifth less flow at the same load."""
    flow = physics.WORKS.values["flow"].copy()
    flow[85 * 24 :] = np.round(flow[85 * 24 :] * 0.8, -2)
    return alone(physics.flows, plants.with_values(physics.WORKS, flow=flow), gasworks.CONTEXT)


def typed_calibration() -> Iterable[Finding]:
    """Write the span value over the curve of each calibration."""
    return alone(calibrations.curves, calibrations.challenged(60, calibrations.typed), plants.CONTEXT)


def weak_gas() -> Iterable[Finding]:
    """Calibrate with gas that is 15 % weaker than its certificate."""
    return alone(calibrations.curves, calibrations.challenged(60, calibrations.weak), plants.CONTEXT)


def calibrated_when_high() -> Iterable[Finding]:
    """Put the mark of calibration on the highest hours."""
    return alone(calibrations.hours, calibrations.calibrated(calibrations.when_high), plants.CONTEXT)


def honest_at_visits() -> Iterable[Finding]:
    """Report a fifth less but on the days of inspection."""
    found = conditional.judged("inspection_honest", 0.2, replace(gasworks.CONTEXT, visits=conditional.VISITS))
    return [finding for finding in found if finding.detector == "visits"]


def own_course() -> Iterable[Finding]:
    """Report levels of other days: the course no longer answers to the load."""

    def families(memory: Memory, config: Config) -> list[Family]:
        residuals = Residuals(memory, config)
        return [residuals, Dependence(memory, config, residuals)]

    bent = forge("generated", physics.WORKS, gasworks.CONTEXT, "nox", physics.FROM_MS, physics.TO_MS, None, 4)
    return alone(families, bent, gasworks.CONTEXT)


def equal_days() -> Iterable[Finding]:
    """Let the mean of each day of a fortnight come out just below the limit."""
    clean = plants.plant(75, seed=27)
    nox = clean.values["nox"].copy()
    days = nox[60 * 24 :].reshape(-1, 24)
    days *= 0.95 * plants.LIMIT / days.mean(axis=1, keepdims=True)
    return [
        finding
        for finding in alone(shape.limits, plants.with_values(clean, nox=np.round(nox, 1)), plants.CONTEXT)
        if finding.detector == "equal_means"
    ]


def repeated_pieces() -> Iterable[Finding]:
    """Put pieces of six hours of the past together."""
    return copy_pieces.of_six_hours()[0]


def neighbour(how: str) -> Callable[[], Iterable[Finding]]:
    """Compare four stations of which one copies, borrows, reads low or goes its own way."""
    return lambda: fleet.judged(fleet.changed(how)).findings["a"]


SCENES: dict[str, Callable[[], Iterable[Finding]]] = {
    "pair_arithmetic": pair_arithmetic,
    "converter_range": converter_range,
    "moisture": moisture,
    "flow_off_load": flow_off_load,
    "typed_calibration": typed_calibration,
    "weak_gas": weak_gas,
    "calibrated_when_high": calibrated_when_high,
    "honest_at_visits": honest_at_visits,
    "own_course": own_course,
    "equal_days": equal_days,
    "repeated_pieces": repeated_pieces,
    "neighbour_copied": neighbour("now"),
    "neighbour_earlier": neighbour("then"),
    "lower_than_neighbours": neighbour("low"),
    "apart_from_neighbours": neighbour("invented"),
}
