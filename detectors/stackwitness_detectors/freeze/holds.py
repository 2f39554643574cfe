"""Exact holds: the run length of equal values against the channel's own runs and against the load meanwhile."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note
from stackwitness_detectors.episodes import Episode, dump_episodes, load_episodes, open_episode
from stackwitness_detectors.freeze.runs import LONGEST_GAP_MS, Reference, Run, Series
from stackwitness_detectors.freeze.wording import describe_holds
from stackwitness_detectors.memory import DAY_MS, Block, Memory

_MEASURED = (ord("N"), ord("T"))
_ROLES = ("pollutant", "diluent", "flow", "temperature", "pressure", "moisture")
_ONE_EPISODE_MS = 7 * DAY_MS


class Holds:
    """Watch each channel for a value that stands still. Marked samples (C, M, H, F, D, B, R, S) do not count."""

    name = "freeze"
    detector = "hold"

    def __init__(self, memory: Memory, config: Config) -> None:
        self.memory, self.config = memory, config
        self.tested = memory.indices(*_ROLES)
        loads = memory.indices("load")
        self.load_at = loads[0] if loads else None
        self.runs = {k: Run() for k in self.tested}
        self.references = {k: Reference() for k in self.tested}
        self.episodes: dict[str, Episode] = {}
        self.series: dict[str, Series] = {}
        self.budget = config.freeze_budget / max(len(self.tested), 1)

    def hour(self, block: Block) -> list[Finding]:
        """Lead the runs over the samples of one hour."""
        findings: list[Finding] = []
        unknown = [math.nan] * len(block.at_ms)
        for k in self.tested:
            values, letters = block.values[:, k].tolist(), block.letters[:, k].tolist()
            loads = block.values[:, self.load_at].tolist() if self.load_at is not None else unknown
            run, reference = self.runs[k], self.references[k]
            for i, at_ms in enumerate(block.at_ms.tolist()):
                value = values[i]
                if loads[i] <= 0:
                    self._finish(k, findings)  # the unit is off: zeros are not holds
                    run.count = 0
                    continue
                if letters[i] not in _MEASURED or math.isnan(value):
                    continue
                if value == run.value and run.count and at_ms - run.to_ms <= LONGEST_GAP_MS:
                    run.go_on(at_ms, loads[i])
                    if run.count >= self.config.hold_min_samples:
                        self._judge(k, findings)
                else:
                    self._finish(k, findings)
                    run.begin(value, at_ms, loads[i])
                if self.memory.names[k] not in self.episodes:  # under suspicion nothing is learned
                    reference.see(value, at_ms)
            if self._told(k):
                self.memory.claim(k, run.from_ms, run.to_ms)
        return findings

    def day(self, day: int) -> list[Finding]:
        """Close the episodes in which nothing has been held for a week."""
        findings: list[Finding] = []
        for k in self.tested:
            name = self.memory.names[k]
            episode = self.episodes.get(name)
            if episode is None or self._told(k) or day * DAY_MS - episode.seen_ms < _ONE_EPISODE_MS:
                continue
            if episode.end():
                findings.append(self._tell(k, extends=True))
            del self.episodes[name], self.series[name]
        return findings

    def _told(self, k: int) -> bool:
        """Tell whether the present run is part of a finding."""
        series = self.series.get(self.memory.names[k])
        return series is not None and self.runs[k].count > 0 and series.latest.from_ms == self.runs[k].from_ms

    def _judge(self, k: int, findings: list[Finding]) -> None:
        run, reference, config = self.runs[k], self.references[k], self.config
        name = self.memory.names[k]
        if not reference.ready(config) or run.count * reference.step_hours() < config.hold_min_hours:
            return
        rate = reference.rate(run, config)
        if not self._told(k):
            if rate > self.budget:
                return
            if run.load_stands(config.contrast_share) and rate > self.budget / config.still_penalty:
                return
        # Holds that follow each other within a week are one matter: one episode, told again when it doubles
        # or when a hold twice as long as the longest one told is going on.
        begins = name not in self.episodes
        if begins:
            self.episodes[name] = open_episode("hold", name, run.from_ms, run.to_ms, rate)
        held = replace(run)
        known = self.series.get(name) or Series(1, held, held, held.count)
        series = self.series[name] = known.follow(held)
        grown = self.episodes[name].grow(run.to_ms, rate) or series.longest.count >= 2 * series.told_count
        if begins or grown:
            findings.append(self._tell(k, extends=not begins))

    def _finish(self, k: int, findings: list[Finding]) -> None:
        run, name = self.runs[k], self.memory.names[k]
        if not run.count:
            return
        told = self._told(k)
        if told:
            self.memory.claim(k, run.from_ms, run.to_ms)
            if self.series[name].number == 1 and self.episodes[name].end():
                findings.append(self._tell(k, extends=True))
        # A series of holds teaches nothing of how long this channel stands still: only stands at the floor do.
        if name not in self.episodes or self.references[k].at_floor(run.value):
            self.references[k].learn(run, self.config)

    def _tell(self, k: int, extends: bool) -> Finding:
        name = self.memory.names[k]
        series = self.series[name] = replace(self.series[name], told_count=self.series[name].longest.count)
        return describe_holds(
            self.memory, self.config, k, self.references[k], self.episodes[name], series, extends
        )

    def notes(self) -> list[Note]:
        """Say which channels have no reference of run lengths yet."""
        need = self.config.run_reference_hours
        return [
            Note(
                "hold",
                self.memory.names[k],
                "history",
                f"reference of run lengths too short: under {need:g} h of readings",
            )
            for k in self.tested
            if not self.references[k].ready(self.config)
        ]

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        names = self.memory.names
        return {
            "runs": {names[k]: asdict(run) for k, run in self.runs.items()},
            "references": {names[k]: asdict(reference) for k, reference in self.references.items()},
            "episodes": dump_episodes(self.episodes),
            "series": {name: asdict(series) for name, series in self.series.items()},
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back."""
        for k in self.tested:
            name = self.memory.names[k]
            if name in tree["runs"]:
                self.runs[k] = Run(**tree["runs"][name])
                self.references[k] = Reference.of(tree["references"][name])
        here = {self.memory.names[k] for k in self.tested}
        self.episodes = {n: e for n, e in load_episodes(tree["episodes"]).items() if n in here}
        self.series = {n: Series.of(fields) for n, fields in tree["series"].items() if n in here}
