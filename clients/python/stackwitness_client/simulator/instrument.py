"""Measure a plant as its analysers do: noise, calibration, blow-back, maintenance, lost data lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stackwitness_client.simulator.industries import PlantChannel
from stackwitness_client.simulator.noise import DAY_MS, HOUR_MS, MINUTE_MS, Wave, bell, key_of, uniform
from stackwitness_client.simulator.state import State

GAS = frozenset({"SO2", "NOx", "CO", "HCl", "O2", "CO2"})
_CALIBRATION_MS = 20 * MINUTE_MS
_BLOWBACK_MS = 10 * MINUTE_MS
_NOISE = {"load": 0.004, "fuel": 0.008, "flow": 0.012, "temperature": 0.003, "moisture": 0.012, "O2": 0.006}
_SPAN_GAS = {"O2": 20.9, "CO2": 15.0}


@dataclass(frozen=True, slots=True)
class Reading:
    """Hold one measured value before rounding (None = no value) and its status letter."""

    value: float | None
    status: str


class Analyser:
    """Be the monitoring system of one stack: a gas analyser on a heated line, a dust meter, the rest."""

    def __init__(self, key: int, channels: tuple[PlantChannel, ...], offset_ms: int) -> None:
        self._key, self._offset_ms = key, offset_ms
        self._channels = channels
        self._noise = {c.name: key_of(key, c.name, "noise") for c in channels}
        self._span = {c.name: Wave(key_of(key, c.name, "span"), 3 * DAY_MS) for c in channels}
        self._calibration_ms = int((9 + 2 * uniform(key, 1)) * 12) * 5 * MINUTE_MS
        self._blowback_every_ms = (4 + 2 * int(3 * uniform(key, 2))) * HOUR_MS
        self._blowback_ms = int(12 * uniform(key, 3)) * 5 * MINUTE_MS

    def measure(self, state_at: Callable[[int], State], at_ms: int) -> dict[str, Reading]:
        """Measure every channel; first of these that holds: lost, maintained, calibrated, held, stopped."""
        state = state_at(at_ms)
        if self._lost(at_ms):
            return {c.name: Reading(None, "B") for c in self._channels}
        local_ms = at_ms + self._offset_ms
        held_ms = self._held_since(local_ms)
        held_state = state_at(at_ms - held_ms) if held_ms else None
        usual = "N" if state.running >= 0.2 else "F"
        found: dict[str, Reading] = {}
        for channel in self._channels:
            gas, dust = channel.quantity in GAS, channel.quantity == "PM"
            if (gas or dust) and self._maintained(local_ms, dust):
                found[channel.name] = Reading(None, "M")
            elif (gas or dust) and (gone := self._calibrating(local_ms, dust)) is not None:
                found[channel.name] = Reading(self._calibrate(channel, at_ms, gone), "C")
            elif gas and held_state is not None:
                found[channel.name] = Reading(self._value(channel, held_state), "H")
            else:
                found[channel.name] = Reading(self._value(channel, state), usual)
        return found

    def _value(self, channel: PlantChannel, state: State) -> float:
        true = state.values[channel.name]
        minute = state.at_ms // 1000
        white = bell(self._noise[channel.name], minute)
        drift = 1.0 + 0.004 * self._span[channel.name].at(state.at_ms)
        scale = _NOISE.get(channel.quantity, 0.011)
        # The floor keeps a stopped plant's readings alive: a detector near zero still shows its own noise.
        floor = 3.0 * channel.resolution
        return max(0.0, true * drift + white * max(scale * abs(true), floor))

    def _calibrating(self, local_ms: int, dust: bool) -> float | None:
        """Return how far the daily calibration has come (0..1), or None outside it."""
        start = self._calibration_ms + (40 * MINUTE_MS if dust else 0)
        gone = (local_ms % DAY_MS) - start
        return gone / _CALIBRATION_MS if 0 <= gone < _CALIBRATION_MS else None

    def _calibrate(self, channel: PlantChannel, at_ms: int, gone: float) -> float:
        span = _SPAN_GAS.get(channel.quantity, 1.6 * (channel.limit or 1500.0))
        gas = 0.0 if gone < 0.5 else span
        white = bell(self._noise[channel.name], at_ms // 1000)
        return max(0.0, gas * (1.0 + 0.004 * self._span[channel.name].at(at_ms)) + 0.003 * span * white)

    def _held_since(self, local_ms: int) -> int:
        """Return for how long the sampling line has been blown back (the analyser holds its value), or 0."""
        gone = (local_ms - self._blowback_ms) % self._blowback_every_ms
        return gone if 0 < gone <= _BLOWBACK_MS else 0

    def _maintained(self, local_ms: int, dust: bool) -> bool:
        """Take the gas analyser and the dust meter out for 1.5 to 4 h, once in 20 days each."""
        key = key_of(self._key, "dust") if dust else self._key
        window, rest = divmod(local_ms, 20 * DAY_MS)
        start = (
            int(19 * uniform(key, 8 * window)) * DAY_MS + (13 + 2 * uniform(key, 8 * window + 1)) * HOUR_MS
        )
        return start <= rest < start + (1.5 + 2.5 * uniform(key, 8 * window + 2)) * HOUR_MS

    def _lost(self, at_ms: int) -> bool:
        """Lose the data line for 10 to 50 minutes once in nine days."""
        window, rest = divmod(at_ms, 9 * DAY_MS)
        start = 8.9 * DAY_MS * uniform(self._key, 8 * window + 4)
        return start <= rest < start + (10 + 40 * uniform(self._key, 8 * window + 5)) * MINUTE_MS
