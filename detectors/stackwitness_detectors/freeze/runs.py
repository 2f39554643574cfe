"""Runs of equal values per channel, and the reference of their lengths."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stackwitness_detectors.config import Config
from stackwitness_detectors.memory import HOUR_MS
from stackwitness_detectors.quantiles import quantile
from stackwitness_detectors.tail import HOURS_PER_MONTH, monthly_rate, run_exponent

LONGEST_GAP_MS = 24 * HOUR_MS  # a value that is the same after a day without readings is another run
_STICKY = 0.2  # distinct values a sample, at most, for the lowest tenth to be a floor
_FLOOR_SHARE = 0.1
_FLOOR_SAMPLES = 512  # how many past values tell what the floor of the channel is


@dataclass
class Run:
    """Follow the present run: its value, first and last time, samples, range of the load, least step in time."""

    value: float = float("nan")
    from_ms: int = 0
    to_ms: int = 0
    count: int = 0
    load_low: float = math.inf
    load_high: float = -math.inf
    step_ms: int = LONGEST_GAP_MS

    def begin(self, value: float, at_ms: int, load: float) -> None:
        """Begin anew with one sample."""
        self.value, self.from_ms, self.count = value, at_ms, 1
        self.load_low, self.load_high, self.step_ms = math.inf, -math.inf, LONGEST_GAP_MS
        self._take(at_ms, load)

    def go_on(self, at_ms: int, load: float) -> None:
        """Take in one more equal sample."""
        self.count += 1
        self.step_ms = min(self.step_ms, at_ms - self.to_ms)
        self._take(at_ms, load)

    def _take(self, at_ms: int, load: float) -> None:
        self.to_ms = at_ms
        if math.isfinite(load):
            self.load_low, self.load_high = min(self.load_low, load), max(self.load_high, load)

    def load_moves(self, share: float) -> bool:
        """Tell whether the load ranged over more than `share` of its highest value."""
        return self.load_high - self.load_low > share * abs(self.load_high)

    def load_stands(self, share: float) -> bool:
        """Tell whether the load is known and ranged over no more than `share` of its highest value."""
        return math.isfinite(self.load_high) and not self.load_moves(share)


@dataclass(frozen=True)
class Series:
    """Keep holds that follow each other: how many, the latest and the longest, and the length last told."""

    number: int
    latest: Run
    longest: Run
    told_count: int

    @classmethod
    def of(cls, tree: dict[str, Any]) -> Series:
        """Read it back from a state tree."""
        return cls(tree["number"], Run(**tree["latest"]), Run(**tree["longest"]), tree["told_count"])

    def follow(self, held: Run) -> Series:
        """Take in the present run: a new hold of the series, or the latest one grown longer."""
        number = self.number + (held.from_ms != self.latest.from_ms)
        longest = held if held.count >= self.longest.count else self.longest
        return Series(number, held, longest, self.told_count)


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
        edge = quantile(values, _FLOOR_SHARE)
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
        samples = round(self.samples * (_FLOOR_SHARE if self.at_floor(run.value) else 1.0))
        steep = run_exponent(longest, samples, config)
        return monthly_rate(float(run.count), np.array(longest, np.float64), months, config, exponent=steep)

    def longest_count(self, value: float) -> int:
        """Give the longest ordinary run at this kind of value, in samples."""
        longest = self.longest[0 if self.at_floor(value) else 1]
        return longest[0] if longest else 0

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
