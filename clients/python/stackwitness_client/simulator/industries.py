"""Describe the kinds of plants: channels, limits, and the few numbers their physics needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Running = Literal["base", "cycling"]


@dataclass(frozen=True, slots=True)
class PlantChannel:
    """Describe one channel as a station registers it (`limit` in the channel's own unit)."""

    name: str
    quantity: str
    unit: str
    role: str
    limit: float | None
    resolution: float


@dataclass(frozen=True, slots=True)
class Pollutant:
    """Describe how one pollutant arises and is held: `target` is the share of the limit the operator aims at.

    load_exp, feed_exp: powers of load fraction and fuel quality; o2_gain: change of log concentration
    per % O2; fast_sd, slow_sd: standard deviation of log concentration; startup: extra while starting up.
    """

    name: str
    quantity: str
    limit_mg_m3: float
    resolution: float
    target: float
    load_exp: float
    feed_exp: float
    o2_gain: float
    fast_sd: float
    slow_sd: float
    startup: float


@dataclass(frozen=True, slots=True)
class Industry:
    """Describe one industry: load, air, gas, and what its stack emits."""

    title: str
    running: Running
    load_unit: str
    load_full: float
    load_low: float
    load_resolution: float
    swing: float
    fuel_unit: str | None
    fuel_full: float
    o2_full: float
    o2_slope: float
    flow_full_m3_h: float
    temp_full_c: float
    moisture_full: float
    raw_so2_mg_m3: float | None
    pollutants: tuple[Pollutant, ...]
    rich: bool = False

    def channels(self) -> tuple[PlantChannel, ...]:
        """List the plant's channels in the order they are recorded."""
        rows = [PlantChannel("load", "load", self.load_unit, "load", None, self.load_resolution)]
        if self.fuel_unit:
            rows.append(PlantChannel("fuel", "fuel", self.fuel_unit, "process", None, 0.01))
        if self.raw_so2_mg_m3:
            rows.append(PlantChannel("so2-in", "SO2", "mg/m3", "process", None, 0.1))
        rows += [
            PlantChannel(p.name, p.quantity, "mg/m3", "pollutant", p.limit_mg_m3, p.resolution)
            for p in self.pollutants
        ]
        rows.append(PlantChannel("o2", "O2", "%", "diluent", None, 0.01))
        if self.rich:
            rows.append(PlantChannel("co2", "CO2", "%", "diluent", None, 0.01))
        rows.append(PlantChannel("flow", "flow", "m3/h", "flow", None, 10.0))
        rows.append(PlantChannel("temp", "temperature", "Cel", "temperature", None, 0.1))
        if self.rich:
            rows.append(PlantChannel("moist", "moisture", "%", "moisture", None, 0.01))
        return tuple(rows)


INDUSTRIES: dict[str, Industry] = {
    "coal_power": Industry(
        "Coal power", "base", "MW",
        330.0, 0.45, 0.1, 1.1, "t/h", 142.0, 4.2, 5.0, 1_150_000.0, 51.0, 12.5, 2100.0,
        (
            Pollutant("so2", "SO2", 35.0, 0.01, 0.56, 0.75, 0.80, 0.04, 0.06, 0.03, 0.6),
            Pollutant("nox", "NOx", 50.0, 0.01, 0.62, 0.45, 0.10, 0.10, 0.06, 0.025, 0.9),
            Pollutant("pm", "PM", 10.0, 0.001, 0.40, 0.70, 0.30, 0.00, 0.09, 0.04, 0.8),
        ),
        rich=True,
    ),
    "gas_turbine": Industry(
        "Gas turbine", "cycling", "MW",
        172.0, 0.55, 0.1, 1.3, "t/h", 31.0, 13.6, 2.4, 1_420_000.0, 98.0, 7.5, None,
        (
            Pollutant("nox", "NOx", 50.0, 0.01, 0.55, 0.55, 0.00, -0.06, 0.05, 0.025, 1.1),
            Pollutant("co", "CO", 100.0, 0.01, 0.12, -1.60, 0.00, 0.10, 0.12, 0.04, 3.0),
        ),
    ),
    "cement_kiln": Industry(
        "Cement kiln", "base", "t/h",
        215.0, 0.80, 0.01, 0.5, "t/h", 19.5, 9.4, 3.0, 412_000.0, 108.0, 9.0, None,
        (
            Pollutant("nox", "NOx", 320.0, 0.1, 0.66, 0.90, 0.10, 0.10, 0.07, 0.035, 0.3),
            Pollutant("so2", "SO2", 100.0, 0.01, 0.32, 0.50, 0.90, -0.05, 0.12, 0.05, 0.5),
            Pollutant("pm", "PM", 20.0, 0.001, 0.36, 0.80, 0.10, 0.00, 0.09, 0.04, 0.7),
        ),
    ),
    "waste_incinerator": Industry(
        "Waste incinerator", "base", "t/h",
        46.0, 0.62, 0.01, 1.1, None, 15.8, 9.2, 2.6, 98_000.0, 146.0, 16.5, None,
        (
            Pollutant("so2", "SO2", 80.0, 0.01, 0.36, 0.50, 0.90, 0.05, 0.12, 0.05, 0.5),
            Pollutant("nox", "NOx", 250.0, 0.1, 0.58, 1.50, 0.20, 0.08, 0.035, 0.02, 0.2),
            Pollutant("hcl", "HCl", 50.0, 0.01, 0.34, 0.40, 0.90, 0.03, 0.12, 0.05, 0.6),
            Pollutant("co", "CO", 80.0, 0.01, 0.15, -0.80, 0.20, -0.15, 0.18, 0.05, 2.0),
        ),
    ),
    "steel_sinter": Industry(
        "Steel sinter", "base", "t/h",
        410.0, 0.70, 0.1, 0.5, None, 0.0, 15.4, 1.8, 1_060_000.0, 126.0, 9.5, 740.0,
        (
            Pollutant("so2", "SO2", 35.0, 0.01, 0.55, 0.80, 0.85, 0.08, 0.07, 0.03, 0.6),
            Pollutant("nox", "NOx", 50.0, 0.01, 0.62, 0.60, 0.30, 0.08, 0.06, 0.03, 0.4),
            Pollutant("pm", "PM", 10.0, 0.001, 0.46, 0.80, 0.20, 0.00, 0.09, 0.04, 0.5),
        ),
    ),
    "glass": Industry(
        "Glass furnace", "base", "t/h",
        24.5, 0.88, 0.001, 0.3, "t/h", 3.9, 8.1, 2.0, 64_000.0, 192.0, 11.0, None,
        (
            Pollutant("nox", "NOx", 500.0, 0.1, 0.60, 0.90, 0.10, 0.12, 0.055, 0.03, 0.2),
            Pollutant("so2", "SO2", 200.0, 0.01, 0.45, 0.50, 0.80, -0.03, 0.08, 0.04, 0.3),
            Pollutant("pm", "PM", 20.0, 0.001, 0.42, 0.70, 0.20, 0.00, 0.09, 0.04, 0.4),
        ),
    ),
}  # fmt: skip
