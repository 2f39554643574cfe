"""Let a simulated plant forge: each cheat sits between the analyser and the signed record.

The forged values are signed by the station's own key: a signature proves who said it, not that it is true.
That is why there are detectors. Cheats are functions of time as the plant is, so a restarted station goes on
forging the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from emdi.pack import Record
from stackwitness_client.simulator.instrument import Reading
from stackwitness_client.simulator.noise import DAY_MS, HOUR_MS, bell, key_of
from stackwitness_client.simulator.plant import Plant

CheatKind = Literal["hold", "replay", "scale", "clip", "excuse"]
WEEK_MS = 7 * DAY_MS


@dataclass(frozen=True, slots=True)
class Cheat:
    """Describe one way of forging, from `from_ms` on (until `to_ms`, or for good).

    hold    the value of the evening is reported all night (Debao: constants through an industrial PC);
            `strength` = hours
    replay  last week's readings are reported again (mean week of the software found in several Chinese cases)
    scale   the analyser's slope is lowered; `strength` = factor, e.g. 0.7 (Yeosu: 33.6 % lower)
    clip    what exceeds is reported just under the limit; `strength` = how many % under
    excuse  high readings are called maintenance and withheld (Formosa No. 6: 25,000 readings relabelled);
            `strength` = share of the limit above which that happens
    """

    kind: CheatKind
    channels: tuple[str, ...]
    from_ms: int
    strength: float
    to_ms: int | None = None

    def active(self, at_ms: int) -> bool:
        """Tell whether the cheat is on at a time."""
        return self.from_ms <= at_ms and (self.to_ms is None or at_ms < self.to_ms)


class ForgingPlant:
    """Be a plant whose operators forge; without cheats it reports exactly what `Plant` does."""

    def __init__(self, plant: Plant, cheats: tuple[Cheat, ...], utc_offset_min: int = 0) -> None:
        self.plant, self.cheats = plant, cheats
        self._offset_ms = utc_offset_min * 60_000
        self._limits = {c.name: c.limit for c in plant.channels}
        self._keys = {c.name: key_of("clip", plant.stn, c.name) for c in plant.channels}

    def readings(self, at_ms: int) -> tuple[Record, ...]:
        """Return the records of one moment, as reported."""
        honest = self.plant.measure(at_ms)
        reported = dict(honest)
        for cheat in self.cheats:
            if cheat.active(at_ms):
                self._apply(cheat, at_ms, honest, reported)
        return self.plant.digitise(at_ms, reported)

    def records(self, from_ms: int, to_ms: int, step_s: int = 300) -> Iterator[Record]:
        """Yield the reported records of [from_ms, to_ms), ordered by time."""
        step_ms = step_s * 1000
        for at_ms in range(-(-from_ms // step_ms) * step_ms, to_ms, step_ms):
            yield from self.readings(at_ms)

    def _apply(
        self, cheat: Cheat, at_ms: int, honest: Mapping[str, Reading], reported: dict[str, Reading]
    ) -> None:
        source: Mapping[str, Reading] | None = None
        if cheat.kind == "hold":
            since = self._evening(cheat, at_ms)
            source = self.plant.measure(since) if since is not None else None
        elif cheat.kind == "replay":
            source = self.plant.measure(_honest_week(cheat.from_ms, at_ms))
        for name in cheat.channels:
            now = honest[name]
            if source is not None:
                # What the plant is doing cannot be hidden: its own status letters stay, only values change.
                if now.status in "NH" and source[name].status in "NH":
                    reported[name] = Reading(source[name].value, "N" if cheat.kind == "hold" else now.status)
            elif now.status == "N" and now.value is not None:
                reported[name] = self._change(cheat, name, at_ms, now.value)

    def _change(self, cheat: Cheat, name: str, at_ms: int, value: float) -> Reading:
        limit = self._limits[name]
        if cheat.kind == "scale":
            return Reading(value * cheat.strength, "N")
        if cheat.kind == "clip" and limit is not None:
            ceiling = limit * (1.0 - cheat.strength / 100.0)
            if value > ceiling:
                return Reading(ceiling - abs(bell(self._keys[name], at_ms // 1000)) * 0.004 * limit, "N")
        if cheat.kind == "excuse" and limit is not None and value > cheat.strength * limit:
            return Reading(None, "M")
        return Reading(value, "N")

    def _evening(self, cheat: Cheat, at_ms: int) -> int | None:
        """Return the moment whose value is held now: 21:00 local time, for `strength` hours."""
        gone = (at_ms + self._offset_ms - 21 * HOUR_MS) % DAY_MS
        since = at_ms - gone
        return since if gone < cheat.strength * HOUR_MS and since >= cheat.from_ms else None


def _honest_week(from_ms: int, at_ms: int) -> int:
    """Return the same moment in the last week that was reported honestly."""
    return at_ms - math.floor((at_ms - from_ms) / WEEK_MS + 1) * WEEK_MS
