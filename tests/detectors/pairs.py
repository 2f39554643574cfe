"""A plant that reports the same thing twice: raw and corrected, mass rate, velocity and dry flow, moisture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stackwitness_detectors import ChannelInfo, Context, Frame
from tests.detectors.plants import HOUR_MS, LIMIT, plant, wander

AREA_M2, REFERENCE_O2 = 38.5, 6.0
CONTEXT = Context(
    "pairs",
    (
        ChannelInfo("load", "load", "MW", "load", None, 0.1),
        ChannelInfo("o2", "oxygen", "%", "diluent", None, 0.01),
        ChannelInfo("nox", "NOx", "mg/m3", "pollutant", None, 0.1),
        ChannelInfo("nox_zs", "NOx corrected to 6 % O2", "mg/m3", "pollutant", LIMIT, 0.1),
        ChannelInfo("nox_kg_h", "NOx mass rate", "kg/h", "pollutant", None, 0.01),
        ChannelInfo("velocity", "stack gas velocity", "m/s", "flow", None, 0.01),
        ChannelInfo("flow", "dry standard flow", "Nm3/h", "flow", None, 100.0),
        ChannelInfo("t_stack", "stack gas temperature", "Cel", "temperature", None, 0.1),
        ChannelInfo("water", "moisture", "%vol", "moisture", None, 0.1),
    ),
)


def computed(
    values: Mapping[str, np.ndarray], area_m2: float = AREA_M2, o2_ref: float = REFERENCE_O2
) -> dict[str, np.ndarray]:
    """Compute what the logger computes from the readings."""
    flow = (
        3600
        * area_m2
        * values["velocity"]
        * 273.15
        / (273.15 + values["t_stack"])
        * (1 - values["water"] / 100)
    )
    return {
        "nox_zs": np.round(values["nox"] * (21 - o2_ref) / (21 - values["o2"]), 1),
        "flow": np.round(flow / 100) * 100,
        "nox_kg_h": np.round(values["nox"] * flow * 1e-6, 2),
    }


def pairs(days: float, seed: int = 1, step_ms: int = HOUR_MS) -> Frame:
    """Simulate an honest plant."""
    base = plant(days, step_ms, seed)
    rng = np.random.default_rng(seed + 100)
    n, load = len(base.at_ms), base.values["load"]
    values = {name: base.values[name] for name in ("load", "o2", "nox")}
    values["t_stack"] = np.round(52 + 0.02 * (load - 300) + 0.6 * wander(rng, n, 0.9), 1)
    values["water"] = np.round(11.5 + 0.25 * (values["t_stack"] - 52) + 0.2 * wander(rng, n, 0.9), 1)
    values["velocity"] = np.round(12 * (load / 300) ** 0.8 * np.exp(0.02 * wander(rng, n, 0.8)), 2)
    values |= computed(values)
    letters = {name: np.full(n, ord("N"), np.uint8) for name in values}
    return Frame(base.at_ms, values, letters)
