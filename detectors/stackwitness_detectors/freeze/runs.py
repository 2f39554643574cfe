"""Runs of equal values per channel, and the reference of their lengths."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stackwitness_detectors.config import Config
from stackwitness_detectors.memory import HOUR_MS
from stackwitness_detectors.tail import HOURS_PER_MONTH, monthly_rate

LONGEST_GAP_MS = 24 * HOUR_MS  # a value that is the same after a day without readings is another run
_STICKY = 0.2  # distinct values a sample, at most, for the lowest tenth to be a floor
_FLOOR_SAMPLES = 512  # how many past values tell what the floor of the channel is


@dataclass
class Run:
    """Follow the present run: its value, first and last time, and number of samples."""

    value: float = float("nan")
    from_ms: int = 0
    to_ms: int = 0
    count: int = 0


@dataclass(frozen=True)
class Held:
    """Keep a run that was found, as far as it has come, and its number in a series of holds."""

    value: float
    from_ms: int
    to_ms: int
    count: int
    number: int


@dataclass
class Reference:
    """Remember the longest ordinary runs (samples), at the floor [0] and above it [1]."""

    longest: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    samples: int = 0
    hours: float = 0.0
    last_hour: int = -1
    floor: float = float("-inf")
    recent: list[float] = field(default_factory=list)

    def see(self, value: float, at_ms: int) -> None:
        """Count one measured sample; now and then renew what counts as the floor (lowest tenth)."""
        self.samples += 1
        hour = at_ms // HOUR_MS
        if hour != self.last_hour:
            self.hours += 1
            self.last_hour = hour
            self.recent.append(value)
            if len(self.recent) >= _FLOOR_SAMPLES:
                self.renew_floor()

    def renew_floor(self) -> None:
        """Take the lowest tenth of the latest hours as the floor, if the same few values fill it."""
        values = np.array(self.recent)
        edge = float(np.quantile(values, 0.1))
        low = values[values <= edge]
        sticky = len(np.unique(low)) <= _STICKY * len(low)
        self.floor = edge if sticky else float("-inf")
        del self.recent[: _FLOOR_SAMPLES // 2]

    def at_floor(self, value: float) -> bool:
        """Tell whether a value lies in the lowest tenth of the channel."""
        return value <= self.floor

    def learn(self, run: Run, config: Config) -> None:
        """Take a finished run into the reference."""
        longest = self.longest[0 if self.at_floor(run.value) else 1]
        if len(longest) < config.tail_keep or run.count > longest[-1]:
            longest.append(run.count)
            longest.sort(reverse=True)
            del longest[config.tail_keep :]

    def rate(self, run: Run, config: Config) -> float:
        """Expect so many runs as long as this one in a month."""
        months = self.hours / HOURS_PER_MONTH
        longest = self.longest[0 if self.at_floor(run.value) else 1]
        return monthly_rate(float(run.count), np.array(longest, np.float64), months, config)

    def longest_hours(self, value: float) -> float:
        """Give the longest ordinary run at this kind of value, in hours of readings."""
        longest = self.longest[0 if self.at_floor(value) else 1]
        return (longest[0] if longest else 0) * self.step_hours()

    def step_hours(self) -> float:
        """Give the mean distance of samples within hours that have readings."""
        return self.hours / max(self.samples, 1)

    def ready(self, config: Config) -> bool:
        """Tell whether the reference carries a judgement."""
        return self.samples >= config.run_reference_samples and self.hours >= config.run_reference_hours

    @classmethod
    def of(cls, tree: dict[str, Any]) -> Reference:
        """Read it back from a state tree."""
        low, high = tree["longest"]
        return cls(**{**tree, "longest": (list(low), list(high))})
