"""Describe the demo province: eight made-up stations, five of which forge, each in its own way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stackwitness_client.simulator.cheats import Cheat, CheatKind, ForgingPlant
from stackwitness_client.simulator.noise import DAY_MS
from stackwitness_client.simulator.plant import Plant

UTC_OFFSET_MIN = 480
# Where a limit gets hard to keep, forging begins: the same day, so that no honest exceedance is ever seen.
STRESS_DAYS = 12.0


@dataclass(frozen=True, slots=True)
class PlannedCheat:
    """Plan a cheat relative to the start of the demo: it begins `days_before` it and goes on."""

    kind: CheatKind
    channels: tuple[str, ...]
    days_before: float
    strength: float


@dataclass(frozen=True, slots=True)
class ProvinceStation:
    """Describe one station of the demo province. Names, agencies and places are made up."""

    stn: str
    name: str
    agency: str
    industry: str
    lat: float
    lon: float
    seed: int
    stress: Mapping[str, float] = field(default_factory=dict)
    cheats: tuple[PlannedCheat, ...] = field(default=())

    def plant(self, start_ms: int = 0) -> Plant:
        """Make the simulated plant; its treatment begins to fail (`stress`) some days before `start_ms`."""
        return Plant(
            self.seed,
            self.industry,
            stn=self.stn,
            utc_offset_min=UTC_OFFSET_MIN,
            stress=self.stress,
            stress_from_ms=start_ms - int(STRESS_DAYS * DAY_MS),
        )

    def reporting(self, start_ms: int, *, honest: bool) -> ForgingPlant:
        """Make the plant as it reports, given when the demo was first started; honest = nobody forges."""
        planned = () if honest else self.cheats
        cheats = tuple(
            Cheat(c.kind, c.channels, start_ms - int(c.days_before * DAY_MS), c.strength) for c in planned
        )
        return ForgingPlant(self.plant(start_ms), cheats, UTC_OFFSET_MIN)


PROVINCE: tuple[ProvinceStation, ...] = (
    ProvinceStation("coal-1", "Coal power 1", "North bureau", "coal_power", 35.62, 105.31, 101),
    ProvinceStation(
        "coal-2", "Coal power 2", "North bureau", "coal_power", 35.48, 105.77, 102,
        cheats=(PlannedCheat("scale", ("so2",), 10.0, 0.7),),
    ),
    ProvinceStation("turbine-1", "Gas turbine 1", "City bureau", "gas_turbine", 35.21, 105.58, 103),
    ProvinceStation(
        "cement-1", "Cement kiln 1", "South bureau", "cement_kiln", 34.93, 105.24, 104,
        cheats=(PlannedCheat("replay", ("nox", "so2", "pm"), 6.0, 1.0),),
    ),
    ProvinceStation(
        "waste-1", "Waste incinerator 1", "City bureau", "waste_incinerator", 35.12, 105.66, 105,
        stress={"nox": 1.2},
        cheats=(PlannedCheat("excuse", ("nox",), 12.0, 0.90),),
    ),
    ProvinceStation(
        "sinter-1", "Steel sinter 1", "East bureau", "steel_sinter", 35.34, 106.12, 106, stress={"so2": 2.0},
        cheats=(PlannedCheat("clip", ("so2",), 12.0, 1.0),),
    ),
    ProvinceStation(
        "glass-1", "Glass furnace 1", "South bureau", "glass", 34.88, 105.81, 107,
        cheats=(PlannedCheat("hold", ("nox", "so2"), 8.0, 9.0),),
    ),
    ProvinceStation("cement-2", "Cement kiln 2", "East bureau", "cement_kiln", 35.05, 106.03, 108),
)  # fmt: skip
