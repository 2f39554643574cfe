"""Simulate one plant: physics first, then the analyser that measures it.

Everything is a function of (seed, time): `Plant.records(a, b)` twice gives the same bytes, and a station
restarted after a week goes on as if it had never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal

from emdi.pack import Record
from stackwitness_client.simulator.industries import INDUSTRIES, PlantChannel, Pollutant
from stackwitness_client.simulator.instrument import Analyser, Reading
from stackwitness_client.simulator.noise import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    Drift,
    bell,
    fast_drift,
    key_of,
    slow_drift,
    uniform,
)
from stackwitness_client.simulator.schedule import Schedule
from stackwitness_client.simulator.state import State

AIR_O2 = 20.95


class Plant:
    """Be one simulated plant with its monitoring system.

    `stress` multiplies pollutants by name from `stress_from_ms` on: treatment that fails, limits hard to keep.
    """

    def __init__(
        self,
        seed: int,
        industry: str,
        *,
        stn: str = "plant",
        utc_offset_min: int = 0,
        stress: Mapping[str, float] | None = None,
        stress_from_ms: int = 0,
    ) -> None:
        self.industry = INDUSTRIES[industry]
        self.channels: tuple[PlantChannel, ...] = self.industry.channels()
        self.stn = stn
        self._stress, self._stress_from_ms = dict(stress or {}), stress_from_ms
        self._offset_ms = utc_offset_min * MINUTE_MS
        key = key_of(seed, industry)
        self._schedule = Schedule(key_of(key, "schedule"), self.industry.running)
        self._demand_fast = fast_drift(key_of(key, "demand", "fast"))
        self._demand_slow = slow_drift(key_of(key, "demand", "slow"))
        self._feed = slow_drift(key_of(key, "feed"))
        self._air = fast_drift(key_of(key, "air"))
        self._weather = slow_drift(key_of(key, "weather"))
        self._removal: dict[str, tuple[Drift, Drift]] = {
            p.name: (fast_drift(key_of(key, p.name, "fast")), slow_drift(key_of(key, p.name, "slow")))
            for p in self.industry.pollutants
        }
        self._upsets = {p.name: key_of(key, p.name, "upset") for p in self.industry.pollutants}
        self._analyser = Analyser(key_of(key, "analyser"), self.channels, self._offset_ms)

    def state(self, at_ms: int) -> State:
        """Compute the true state of the plant: load, air, flue gas, pollutants."""
        kind = self.industry
        local_ms = at_ms + self._offset_ms
        running = self._schedule.running(local_ms)
        share = kind.load_low + (1.0 - kind.load_low) * _squash(self._demand(local_ms))
        load = kind.load_full * share * running
        fuel = (0.06 + 0.94 * share) * running
        o2_hot = kind.o2_full + kind.o2_slope * (1.0 - share) + 0.22 * self._air.at(at_ms)
        burning = min(1.0, 1.6 * running)
        o2 = min(AIR_O2, o2_hot * burning + AIR_O2 * (1.0 - burning))
        # Mass balance: what is burnt fixes the gas made, excess air dilutes it (EPA Method 19, dry O2 form).
        dilution = (AIR_O2 - kind.o2_full) / max(AIR_O2 - o2, 2.0)
        feed = math.exp(0.12 * self._feed.at(at_ms))
        flow = kind.flow_full_m3_h * max(fuel * dilution, 0.035)
        ambient = (
            14.0 + 5.0 * math.sin(2 * math.pi * (local_ms / DAY_MS - 0.4)) + 4.0 * self._weather.at(at_ms)
        )
        temp = ambient + (kind.temp_full_c - 9.0 * (1.0 - share) - ambient) * running**0.5
        values = {
            "load": load,
            "fuel": kind.fuel_full * fuel / feed**0.4,
            "o2": o2,
            "co2": 0.905 * (AIR_O2 - o2),
            "flow": flow,
            "temp": temp + 0.8 * self._weather.at(at_ms),
            "moist": 1.2 + kind.moisture_full * (AIR_O2 - o2) / (AIR_O2 - kind.o2_full),
        }
        if kind.raw_so2_mg_m3:
            values["so2-in"] = kind.raw_so2_mg_m3 * feed * burning / dilution * (0.9 + 0.1 * share)
        for pollutant in kind.pollutants:
            values[pollutant.name] = self._emit(pollutant, at_ms, share, running, feed, o2_hot - kind.o2_full)
        return State(at_ms, running, values)

    def _demand(self, local_ms: int) -> float:
        hour = local_ms % DAY_MS / HOUR_MS
        weekday = (local_ms // DAY_MS + 3) % 7
        day = math.sin(2 * math.pi * (hour - 8.5) / 24) + 0.45 * math.sin(4 * math.pi * (hour - 6.0) / 24)
        weekend = 0.55 if weekday >= 5 else 0.0
        swing = self.industry.swing
        noise = 0.5 * self._demand_fast.at(local_ms) + 0.7 * self._demand_slow.at(local_ms)
        return 0.35 + swing * (day - weekend) + noise

    def _emit(
        self, p: Pollutant, at_ms: int, share: float, running: float, feed: float, o2_excess: float
    ) -> float:
        fast, slow = self._removal[p.name]
        log_c = (
            p.load_exp * math.log(share / 0.8)
            + p.feed_exp * math.log(feed)
            + p.o2_gain * o2_excess
            + p.fast_sd * fast.at(at_ms)
            + p.slow_sd * slow.at(at_ms)
            + self._upset(p, at_ms)
        )
        starting = 1.0 + p.startup * 4.0 * running * (1.0 - running)
        return (
            p.limit_mg_m3
            * p.target
            * (self._stress.get(p.name, 1.0) if at_ms >= self._stress_from_ms else 1.0)
            * math.exp(log_c)
            * starting
            * min(1.0, 2.0 * running)
        )

    def _upset(self, p: Pollutant, at_ms: int) -> float:
        """Add one upset a week of one to three hours: a pump trips, a slurry line clogs."""
        key = self._upsets[p.name]
        week, rest = divmod(at_ms, 7 * DAY_MS)
        start = uniform(key, 2 * week) * 6.5 * DAY_MS
        length = (1.0 + 2.0 * uniform(key, 2 * week + 1)) * HOUR_MS
        if not start <= rest < start + length:
            return 0.0
        height = 0.12 + 0.09 * abs(bell(key, 2 * week))
        return height * math.sin(math.pi * (rest - start) / length)

    def measure(self, at_ms: int) -> dict[str, Reading]:
        """Measure every channel at a time: value (None = no value) and status letter, not yet rounded."""
        return self._analyser.measure(self.state, at_ms)

    def digitise(self, at_ms: int, readings: dict[str, Reading]) -> tuple[Record, ...]:
        """Round to each instrument's resolution and make the records of one moment."""
        return tuple(
            Record(
                c.name, at_ms, c.unit, _round(readings[c.name].value, c.resolution), readings[c.name].status
            )
            for c in self.channels
        )

    def readings(self, at_ms: int) -> tuple[Record, ...]:
        """Return the records of one moment."""
        return self.digitise(at_ms, self.measure(at_ms))

    def records(self, from_ms: int, to_ms: int, step_s: int = 300) -> Iterator[Record]:
        """Yield the records of [from_ms, to_ms), at multiples of the step, ordered by time."""
        step_ms = step_s * 1000
        for at_ms in range(-(-from_ms // step_ms) * step_ms, to_ms, step_ms):
            yield from self.readings(at_ms)


def _squash(x: float) -> float:
    # A smooth ceiling: a load clamped at full would be a constant run, which no real turbine shows.
    return 1.0 / (1.0 + math.exp(-1.6 * x))


def _round(value: float | None, resolution: float) -> Decimal | None:
    if value is None:
        return None
    steps = round(value / resolution)
    if resolution >= 1.0:
        return Decimal(steps * int(resolution))
    return Decimal(steps).scaleb(round(math.log10(resolution)))
