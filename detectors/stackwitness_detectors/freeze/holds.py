"""Exact holds: the run length of equal values against the channel's own runs and against the load meanwhile."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from stackwitness_detectors.catalogue import LOOK_AT
from stackwitness_detectors.config import VERSION, Config
from stackwitness_detectors.contract import Finding, Note
from stackwitness_detectors.episodes import Episode, dump_episodes, load_episodes, open_episode
from stackwitness_detectors.freeze.runs import LONGEST_GAP_MS, Held, Reference, Run
from stackwitness_detectors.memory import DAY_MS, Block, Memory
from stackwitness_detectors.plots import series_of, short, span_ms
from stackwitness_detectors.tail import e_value, verdict_of

_MEASURED = (ord("N"), ord("T"))
_ROLES = ("pollutant", "diluent", "flow", "temperature", "pressure", "moisture")
_ONE_EPISODE_MS = 7 * DAY_MS
_SURE_SAMPLES = 24  # fewer equal samples are never called impossible


class Holds:
    """Watch each channel for a value that stands still. Marked samples (C, M, H, F, D, B, R, S) do not count."""

    name = "freeze"

    def __init__(self, memory: Memory, config: Config) -> None:
        self.memory, self.config = memory, config
        self.tested = memory.indices(*_ROLES)
        loads = memory.indices("load")
        self.load_at = loads[0] if loads else None
        self.runs = {k: Run() for k in self.tested}
        self.references = {k: Reference() for k in self.tested}
        self.episodes: dict[str, Episode] = {}
        self.held: dict[str, Held] = {}
        self.budget = config.freeze_budget / max(len(self.tested), 1)

    def hour(self, block: Block) -> list[Finding]:
        """Lead the runs over the samples of one hour."""
        findings: list[Finding] = []
        for k in self.tested:
            values, letters = block.values[:, k].tolist(), block.letters[:, k].tolist()
            loads = block.values[:, self.load_at].tolist() if self.load_at is not None else None
            run, reference = self.runs[k], self.references[k]
            for i, at_ms in enumerate(block.at_ms.tolist()):
                value = values[i]
                if loads is not None and loads[i] <= 0:
                    self._finish(k, findings)  # the unit is off: zeros are not holds
                    run.count = 0
                    continue
                if letters[i] not in _MEASURED or math.isnan(value):
                    continue
                if value == run.value and run.count and at_ms - run.to_ms <= LONGEST_GAP_MS:
                    run.count += 1
                    run.to_ms = at_ms
                    if run.count >= self.config.hold_min_samples:
                        self._judge(k, findings)
                else:
                    self._finish(k, findings)
                    run.value, run.from_ms, run.to_ms, run.count = value, at_ms, at_ms, 1
                if not self._told(k):  # what is held tells nothing of the floor
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
                findings.append(self._finding(k, extends=True))
            del self.episodes[name], self.held[name]
        return findings

    def _told(self, k: int) -> bool:
        """Tell whether the present run is part of a finding."""
        held = self.held.get(self.memory.names[k])
        return held is not None and self.runs[k].count > 0 and held.from_ms == self.runs[k].from_ms

    def _judge(self, k: int, findings: list[Finding]) -> None:
        run, reference, config = self.runs[k], self.references[k], self.config
        name = self.memory.names[k]
        if not reference.ready(config) or run.count * reference.step_hours() < config.hold_min_hours:
            return
        rate = reference.rate(run, config)
        if not self._told(k):
            if rate > self.budget:
                return
            low, high = self._load_range(run)
            still = high - low <= config.contrast_share * abs(high)
            if still and rate > self.budget / config.still_penalty:
                return
        # Holds that follow each other within a week are one matter: one episode, told again when it doubles.
        begins = name not in self.episodes
        if begins:
            self.episodes[name] = open_episode("hold", name, run.from_ms, run.to_ms, rate)
        held = self.held.get(name)
        number = 1 if held is None else held.number + (held.from_ms != run.from_ms)
        self.held[name] = Held(run.value, run.from_ms, run.to_ms, run.count, number)
        if begins or self.episodes[name].grow(run.to_ms, rate):
            findings.append(self._finding(k, extends=not begins))

    def _finish(self, k: int, findings: list[Finding]) -> None:
        run, name = self.runs[k], self.memory.names[k]
        if not run.count:
            return
        told = self._told(k)
        if told:
            self.memory.claim(k, run.from_ms, run.to_ms)
            if self.held[name].number == 1 and self.episodes[name].end():
                findings.append(self._finding(k, extends=True))
        if not told or self.references[k].at_floor(run.value):
            self.references[k].learn(run, self.config)

    def _load_range(self, run: Run | Held) -> tuple[float, float]:
        """Give the lowest and highest load during the run; (nan, nan) without a load channel."""
        if self.load_at is None:
            return math.nan, math.nan
        return self._range_of(self.load_at, run)

    def _range_of(self, k: int, run: Run | Held) -> tuple[float, float]:
        at_ms = self.memory.rows.view("at_ms")
        first, last = np.searchsorted(at_ms, [run.from_ms, run.to_ms + 1])
        held = self.memory.rows.view("values")[first:last, k]
        held = held[np.isfinite(held)]
        return (float(held.min()), float(held.max())) if held.size else (math.nan, math.nan)

    def _companions(self, k: int, run: Run | Held) -> int:
        """Count the other tested channels that moved meanwhile."""
        ranges = [self._range_of(j, run) for j in self.tested if j != k]
        return sum(1 for low, high in ranges if high > low)

    def _finding(self, k: int, extends: bool) -> Finding:
        name, reference, config = self.memory.names[k], self.references[k], self.config
        channel, episode, run = self.memory.channels[k], self.episodes[name], self.held[name]
        low, high = self._load_range(run)
        moving = high - low > config.contrast_share * abs(high)
        floor = reference.at_floor(run.value)
        hours = run.count * reference.step_hours()
        numbers: dict[str, float | int | str] = {
            "value": run.value,
            "samples": run.count,
            "hours": round(hours, 3),
            "longest_reference_hours": round(reference.longest_hours(run.value), 3),
            "reference_hours": round(reference.hours, 1),
            "expected_per_month": float(f"{episode.rate:.4g}"),
            "companions_moving": self._companions(k, run),
            "at_floor": int(floor),
            "holds": run.number,
        }
        if not math.isnan(low):
            numbers |= {"load_low": low, "load_high": high}
        kinds = ("freeze", "near_freeze", "generated")
        first, last = span_ms(self.memory, episode.from_ms, episode.seen_ms)
        shown = [k] + ([self.load_at] if self.load_at is not None else [])
        return Finding(
            detector="hold",
            version=VERSION,
            family="freeze",
            kind="hold",
            kinds=kinds,
            verdict=verdict_of(episode.rate, impossible=moving and not floor and run.count >= _SURE_SAMPLES),
            from_ms=episode.from_ms,
            to_ms=episode.seen_ms,
            channels=(channel.name,),
            statistic=("samples_equal", float(run.count)),
            e_value=e_value(episode.rate, config),
            numbers=numbers,
            text_en=self._text(k, numbers, low, high, "en"),
            text_zh=self._text(k, numbers, low, high, "zh"),
            innocent=_innocent(channel.role, hours, moving, floor),
            look_at_en=LOOK_AT["hold"][0],
            look_at_zh=LOOK_AT["hold"][1],
            plot={
                "kind": "hold",
                "title_en": f"{channel.name} held at {short(run.value)} {channel.unit}",
                "title_zh": f"{channel.name} 保持在 {short(run.value)} {channel.unit}",
                "series": series_of(self.memory, shown, first, last),
                "interval": [episode.from_ms, episode.seen_ms],
            },
            episode=episode.key,
            extends=extends,
        )

    def _text(self, k: int, numbers: dict[str, Any], low: float, high: float, language: str) -> str:
        channel, run = self.memory.channels[k], self.held[self.memory.names[k]]
        held, hours = short(run.value), short(numbers["hours"])
        longest, known = short(numbers["longest_reference_hours"]), short(numbers["reference_hours"])
        load = (
            self.memory.channels[self.load_at] if self.load_at is not None and not math.isnan(low) else None
        )
        if language == "zh":
            moved = f",同期负荷为 {short(low)}–{short(high)} {load.unit}" if load else ""
            series = f"(这是一周内相继出现的第 {run.number} 次)" if run.number > 1 else ""
            return (
                f"{channel.name} 连续 {hours} 小时停在 {held} {channel.unit}{moved};"
                f"此前 {known} 小时的正常数据中,最长的同类保持为 {longest} 小时{series}。"
            )
        moved = f" while load ran {short(low)}-{short(high)} {load.unit}" if load else ""
        series = f" (hold {run.number} of a series less than a week apart)" if run.number > 1 else ""
        return (
            f"{channel.name} stayed at {held} {channel.unit} for {hours} h{moved}; "
            f"the longest such hold in {known} hours of reference was {longest} h{series}."
        )

    def notes(self) -> list[Note]:
        """Say which channels have no reference of run lengths yet."""
        need = self.config.run_reference_hours
        return [
            Note(
                "hold",
                self.memory.names[k],
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
            "held": {name: asdict(held) for name, held in self.held.items()},
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
        self.held = {n: Held(**fields) for n, fields in tree["held"].items() if n in here}


def _innocent(role: str, hours: float, moving: bool, floor: bool) -> tuple[str, ...]:
    """Rank the innocent causes of a hold."""
    causes = ["substitute_data", "analyser_hold"] if role == "flow" else ["analyser_hold", "substitute_data"]
    if hours < 6:
        causes = ["analyser_hold", "acquisition_hold", "substitute_data"]
    if floor:
        causes.insert(0, "detection_floor")
    if not moving:
        causes.append("steady_operation")
    return tuple(dict.fromkeys([*causes, "acquisition_hold"]))
