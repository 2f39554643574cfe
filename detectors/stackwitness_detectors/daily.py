"""What all daily tests share: one score a channel and day, its own past as reference, episodes of flagged days."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.catalogue import LOOK_AT
from stackwitness_detectors.config import VERSION, Config
from stackwitness_detectors.contract import Finding, Note
from stackwitness_detectors.episodes import dump_episodes, load_episodes, open_episode
from stackwitness_detectors.memory import DAY_MS, Block, Memory
from stackwitness_detectors.tail import LEAST_RATE, e_value, monthly_rate, verdict_of

DAYS_PER_MONTH = 30.0
_LEAST_TAIL = 6
# A window that slides by a day crosses more often than separate windows do: about three times as often.
SLIDING = 3.0


@dataclass(frozen=True)
class Judged:
    """Give one score: larger is odder. `least_rate` bounds the monthly rate from below (a test's own p-value)."""

    score: float
    from_ms: int
    to_ms: int
    numbers: dict[str, float | int | str]
    least_rate: float = 0.0


def day_hours(memory: Memory, day: int, days: int = 1) -> slice:
    """Give the remembered hours of the `days` days that end with `day`."""
    first, last = np.searchsorted(memory.hours.view("hour"), [(day - days + 1) * 24, (day + 1) * 24])
    return slice(int(first), int(last))


class DailyTest:
    """Judge each tested channel once a day against the scores of its own earlier, unflagged days."""

    name = ""
    detector = ""
    family = ""
    kind = ""
    kinds: tuple[str, ...] = ()
    innocent: tuple[str, ...] = ()
    needs_reference = True
    # Steepest tail exponent believed beyond the highest score of the past, None: that of the configuration. Set per test by how
    # often clean design stations go beyond it (bench/false_alarms.py): windows of a week have few equals in a past of months.
    steepest: float | None = None

    def __init__(self, memory: Memory, config: Config, tested: list[int], budget: float) -> None:
        self.memory, self.config, self.tested = memory, config, tested
        self.budget = budget / max(len(tested), 1)
        self.past: dict[int, list[float]] = {k: [] for k in tested}
        self.waiting: dict[int, list[tuple[int, float]]] = {k: [] for k in tested}
        self.episodes: dict[str, Any] = {}
        self.latest: dict[str, Judged] = {}

    def measure(self, k: int, day: int) -> Judged | None:
        """Score one channel on one day; None when this day cannot be judged."""
        raise TypeError("a daily test must say what it measures")

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word a finding in both languages and draw it; `longest` is the highest reference score."""
        raise TypeError("a daily test must describe what it found")

    def past_days(self, k: int) -> list[int]:
        """Name earlier days to learn from at once, when a model has just been fitted for the first time."""
        return []

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """Rank the forgeries that a finding may be, likeliest first, by the names of `forge.KINDS`."""
        return self.kinds

    def impossible(self, k: int, judged: Judged) -> bool:
        """Tell whether no real instrument does this, however rare it is."""
        return False

    def allowed(self, k: int) -> float:
        """Return this channel's part of the budget, findings a month; those of all tested channels add up to the test's."""
        return self.budget

    def muted(self, k: int, day: int) -> bool:
        """Tell whether another test has already said the same."""
        return False

    def hour(self, block: Block) -> list[Finding]:
        """Nothing happens within the day."""
        return []

    def day(self, day: int) -> list[Finding]:
        """Judge the day that has ended; end the episodes that have been quiet."""
        findings: list[Finding] = []
        for k in self.tested:
            for earlier in self.past_days(k):
                known = self.measure(k, earlier)
                if known is not None:
                    self._learn(k, known.score)
            self._ripen(k, day)
            judged = self.measure(k, day)
            if judged is not None:
                rate = self._plain(k, judged) if self.config.plain_thresholds else self.rate(k, judged)
                if rate is not None and rate <= self.allowed(k) and self.budget > 0:
                    if self._long_told(k, day):
                        self.waiting[k].append((day, judged.score))
                    else:
                        # The days of a sliding window before its crossing belong to what was found.
                        self.waiting[k] = [w for w in self.waiting[k] if w[0] * DAY_MS < judged.from_ms]
                    if not self.muted(k, day):
                        findings += self._flag(k, judged, rate)
                    continue
                self.waiting[k].append((day, judged.score))
            findings += self._quiet(k, day)
        return findings

    def rate(self, k: int, judged: Judged) -> float | None:
        """Expect so many such days a month; None without a reference."""
        past = self.past[k]
        if len(past) < self.config.calibration_min_days:
            return None if self.needs_reference else judged.least_rate
        months = len(past) / DAYS_PER_MONTH
        reached = sum(score >= judged.score for score in past)
        if reached:
            return max(judged.least_rate, (1 + reached) / months)
        # The tail begins at the highest eighth: below it these scores are not Pareto-like at all.
        kept = np.sort(np.array(past))[::-1][: max(_LEAST_TAIL, len(past) // 8)]
        steepest = self.steepest or self.config.daily_alpha_high
        return max(judged.least_rate, monthly_rate(judged.score, kept, months, self.config, steepest))

    def _plain(self, k: int, judged: Judged) -> float | None:
        past = self.past[k]
        if len(past) < self.config.calibration_min_days:
            return None
        return LEAST_RATE if judged.score > max(past) else math.inf

    def _ripen(self, k: int, day: int) -> None:
        """Take scores into the reference a fortnight late, so that a slow beginning does not teach it."""
        lag = self.config.reference_lag_days
        while self.waiting[k] and self.waiting[k][0][0] <= day - lag:
            self._learn(k, self.waiting[k].pop(0)[1])

    def _learn(self, k: int, score: float) -> None:
        past = self.past[k]
        past.append(score)
        if len(past) > self.config.history_days:
            del past[0]

    def _flag(self, k: int, judged: Judged, rate: float) -> list[Finding]:
        name = self.memory.names[k]
        self.latest[name] = judged
        episode = self.episodes.get(name)
        if episode is not None:
            return [self._finding(k, True)] if episode.grow(judged.to_ms, rate) else []
        self.episodes[name] = open_episode(self.detector, name, judged.from_ms, judged.to_ms, rate)
        return [self._finding(k, False)]

    def _long_told(self, k: int, day: int) -> bool:
        episode = self.episodes.get(self.memory.names[k])
        return episode is not None and day * DAY_MS - episode.from_ms > self.config.told_days * DAY_MS

    def _quiet(self, k: int, day: int) -> list[Finding]:
        name = self.memory.names[k]
        episode = self.episodes.get(name)
        if episode is None or day * DAY_MS - episode.seen_ms < self.config.quiet_days * DAY_MS:
            return []
        findings = [self._finding(k, True)] if episode.end() else []
        del self.episodes[name], self.latest[name]
        return findings

    def _finding(self, k: int, extends: bool) -> Finding:
        name = self.memory.names[k]
        judged, episode = self.latest[name], self.episodes[name]
        past = self.past[k]
        # The window that is judged slides; what is drawn begins with the episode, so that the past stands beside it.
        seen = replace(judged, from_ms=min(judged.from_ms, episode.from_ms))
        text_en, text_zh, plot = self.describe(k, seen, max(past) if past else 0.0)
        limit = self.memory.channels[k].limit
        return Finding(
            detector=self.detector,
            version=VERSION,
            family=self.family,
            kind=self.kind,
            kinds=self.ranked(judged),
            verdict=verdict_of(episode.rate, self.impossible(k, judged)),
            from_ms=episode.from_ms,
            to_ms=episode.seen_ms,
            channels=(name,),
            statistic=("score", float(f"{judged.score:.6g}")),
            e_value=e_value(episode.rate, self.config),
            numbers={
                **{key: rounded(value) for key, value in judged.numbers.items()},
                "expected_per_month": float(f"{episode.rate:.4g}"),
                "reference_days": len(past),
            },
            text_en=text_en,
            text_zh=text_zh,
            innocent=self.innocent,
            look_at_en=self.look_at()[0],
            look_at_zh=self.look_at()[1],
            plot={
                **({} if limit is None else {"limit": limit}),
                **plot,
                "interval": [episode.from_ms, episode.seen_ms],
            },
            episode=episode.key,
            extends=extends,
        )

    def look_at(self) -> tuple[str, str]:
        """Say what to look at on site, in English and Chinese."""
        return LOOK_AT[self.kind]

    def short_reference(self, of_what: str) -> list[Note]:
        """Note the channels whose reference is still too short."""
        need = self.config.calibration_min_days
        return self.too_few(f"{of_what} in the reference", {k: len(self.past[k]) for k in self.tested}, need)

    def too_few(self, of_what: str, have: dict[int, int], need: int) -> list[Note]:
        """Note the channels that have fewer than `need` of something."""
        return [
            Note(
                self.detector,
                self.memory.names[k],
                "history",
                f"fewer than {need} {of_what}",
                (("have", count), ("need", need)),
            )
            for k, count in have.items()
            if count < need
        ]

    def notes(self) -> list[Note]:
        """Say what cannot be judged now."""
        return self.short_reference("days that can be judged")

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        return {
            "past": {self.memory.names[k]: np.array(past, np.float64) for k, past in self.past.items()},
            "waiting": {self.memory.names[k]: waiting for k, waiting in self.waiting.items()},
            "episodes": dump_episodes(self.episodes),
            "latest": {name: asdict(judged) for name, judged in self.latest.items()},
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back; channels that are no longer tested are forgotten."""
        here = {self.memory.names[k]: k for k in self.tested}
        for name, past in tree["past"].items():
            if name in here:
                self.past[here[name]] = past.tolist()
        for name, waiting in tree["waiting"].items():
            if name in here:
                self.waiting[here[name]] = [(int(day), float(score)) for day, score in waiting]
        self.episodes = {n: e for n, e in load_episodes(tree["episodes"]).items() if n in here}
        self.latest = {name: Judged(**fields) for name, fields in tree["latest"].items() if name in here}


def rounded(value: float | int | str) -> float | int | str:
    """Give numbers of a finding six digits."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def operating(memory: Memory) -> NDArray[np.bool_]:
    """Tell for each remembered hour whether the unit runs and has run the two hours before; see `Memory.steady`."""
    return memory.steady()
