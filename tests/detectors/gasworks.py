"""A station with all that forgeries need: pollutants, load, O2, CO2, flow, gaps, marks, a limit, a neighbour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stackwitness_detectors import ChannelInfo, Context, Frame
from stackwitness_detectors.forge import Surroundings
from tests.detectors.plants import DAY_MS, HOUR_MS, START_MS, plant

DAYS = 80
CONTEXT = Context(
    "works",
    (
        ChannelInfo("load", "gross load", "MW", "load", None, 0.1),
        ChannelInfo("o2", "O2", "%vol", "diluent", None, 0.01),
        ChannelInfo("co2", "CO2", "%vol", "diluent", None, 0.01),
        ChannelInfo("nox", "NOx", "mg/m3", "pollutant", 80.0, 0.1),
        ChannelInfo("so2", "SO2", "mg/m3", "pollutant", None, 0.01),
        ChannelInfo("flow", "dry flow", "Nm3/h", "flow", None, 100.0),
        ChannelInfo("temp", "air temperature", "Cel", "ambient", None, 0.1),
    ),
)


def works(days: float = DAYS, seed: int = 3, step_ms: int = HOUR_MS) -> Frame:
    """Simulate the station: daily calibrations at 09:00, an outage of five hours, a day of maintenance."""
    base = plant(days, step_ms, seed)
    o2 = base.values["o2"]
    values = {
        **base.values,
        "co2": np.round((20.9 - o2) / 1.15, 2),
        "flow": np.round(3000.0 * base.values["load"] / 100.0) * 100.0,
    }
    hour = (base.at_ms - START_MS) // HOUR_MS
    status = {name: np.full(base.at_ms.size, ord("N"), np.uint8) for name in values}
    for name in ("nox", "so2"):
        values[name] = values[name].copy()
        values[name][hour % 24 == 9] = 150.0
        status[name][hour % 24 == 9] = ord("C")
    lost = (hour >= 55 * 24 + 30) & (hour < 55 * 24 + 35)
    for name in values:
        values[name] = np.where(lost, np.nan, values[name])
    status["nox"][(hour >= 20 * 24) & (hour < 21 * 24)] = ord("M")
    return Frame(base.at_ms, values, status)


FRAME = works()
FROM_MS, TO_MS = START_MS + 52 * DAY_MS, START_MS + 62 * DAY_MS
AROUND = Surroundings(
    neighbours=((replace(CONTEXT, stn="other"), works(seed=8)),),
    honest_ms=((FROM_MS + 3 * DAY_MS, FROM_MS + 4 * DAY_MS),),
)
