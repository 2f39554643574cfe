"""Exact copies: k-grams of one channel, and of whole records, that were seen at an earlier time."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note, Values
from stackwitness_detectors.copy.evidence import Going, StepOdds, counted, equal_lags, next_step
from stackwitness_detectors.copy.replays import RECORD, Match, Replay, describe_copy, replay_key
from stackwitness_detectors.memory import DAY_MS, Block, Memory
from stackwitness_detectors.tail import HOURS_PER_MONTH, LEAST_RATE

_ROLES = ("pollutant", "diluent", "flow", "load", "temperature", "pressure", "moisture", "process")
_ONE_EPISODE_MS = 7 * DAY_MS
_MARGIN_BITS = 12.0  # the steps of real processes are not independent: asked for on top of the budget
_LEAST_HISTORY = 72
_FRESH_MOVES = 0.5  # at least this share of the steps must be moves: long stands are the holds' business


class Copies:
    """Compare each row with all remembered rows, by lag."""

    name = "copy"

    def __init__(self, memory: Memory, config: Config) -> None:
        self.memory, self.config = memory, config
        self.width = len(memory.names)
        self.tested = memory.indices(*_ROLES)
        self.loads = memory.indices("load")
        self.going = [Going.none() for _ in range(self.width + 1)]
        self.matches: dict[str, Match] = {}
        self.replays: dict[str, Replay] = {}
        self.budget = config.copy_budget / (len(self.tested) + 1)

    def hour(self, block: Block) -> list[Finding]:
        """Lead the comparison over the rows of one hour (already remembered)."""
        findings: list[Finding] = []
        rows = len(block.at_ms)
        values = self.memory.rows.view("values")
        per_month = HOURS_PER_MONTH * rows
        odds = StepOdds(values[: max(len(values) - rows, 0)], self.config.step_bits)
        for i in range(max(len(values) - rows, 1), len(values)):
            self._row(values, i, odds)
            if i >= _LEAST_HISTORY:
                self._judge(values, i, per_month)
        for name, match in self.matches.items():
            self.memory.claim(self._column(name), match.from_ms, match.to_ms)
        # Told once an hour, so that the channels that repeat together are named together.
        for key in sorted({match.replay for match in self.matches.values()}):
            told = self.replays[key].due()
            if told is not None:
                findings.append(describe_copy(self.memory, self.config, self.replays[key], extends=told))
        return findings

    def day(self, day: int) -> list[Finding]:
        """End the replays that have been quiet for a week: a calibration or an outage only interrupts one."""
        findings: list[Finding] = []
        going = {match.replay for match in self.matches.values()}
        for key in sorted(self.replays.keys() - going):
            replay = self.replays[key]
            if day * DAY_MS - replay.episode.seen_ms < _ONE_EPISODE_MS:
                continue
            if replay.episode.end():
                findings.append(describe_copy(self.memory, self.config, replay, extends=True))
            del self.replays[key]
        return findings

    def _column(self, name: str) -> int | None:
        return None if name == RECORD else self.memory.names.index(name)

    def _row(self, values: Values, i: int, odds: StepOdds) -> None:
        before = self.going
        self.going = [Going.none() for _ in range(self.width + 1)]
        x = values[i]
        present = np.flatnonzero(np.isfinite(x)).tolist()
        off = bool((x[self.loads] <= 0).any()) or not x[present].any()
        if off:
            present = [k for k in present if x[k] != 0]  # zeros of a unit that is off repeat by nature
        if len(odds.history) < 2 or not present:
            return
        for k in np.flatnonzero(np.isnan(x)).tolist():
            # Missing both times, as at a daily calibration: the match waits, without gain.
            waits = before[k].lags[before[k].lags <= i]
            waits = waits[np.isnan(values[i - waits, k])]
            had, _ = before[k].at(waits)
            self.going[k] = Going(waits, had, np.zeros(len(waits)))
        for k in present:
            lags = equal_lags(values[:i, k], x[k])
            if not lags.size:
                continue
            move = float(x[k] - values[i - 1, k])
            still = i >= 2 and bool(values[i - 1, k] == values[i - 2, k])
            start = odds.start_bits(counted(lags, i, len(odds.history)))
            further = partial(odds.move_bits, k, move, still) if not math.isnan(move) else None
            self.going[k] = next_step(before[k], lags, start, further)
        if len(present) >= 2:
            self._record(values, i, present, before[self.width])

    def _record(self, values: Values, i: int, present: list[int], before: Going) -> None:
        """Lead the matches of whole records on: lags at which every channel is equal (or missing both times)."""
        lags = min((self.going[k].lags for k in present), key=len)
        if not lags.size:
            return
        x, there = values[i], values[i - lags]
        lags = lags[((there == x) | (np.isnan(there) & np.isnan(x))).all(axis=1)]
        if not lags.size:
            return
        gains = np.array([self.going[k].at(lags)[1] for k in present])
        most = gains.max(axis=0)
        gain = most + (gains.sum(axis=0) - most) * self.config.side_channel_weight
        had, _ = before.at(lags)
        self.going[self.width] = Going(lags, had + gain, gain)

    def _judge(self, values: Values, i: int, per_month: float) -> None:
        need = math.log2(per_month * i / max(self.budget, LEAST_RATE)) + _MARGIN_BITS
        at_ms = self.memory.rows.view("at_ms")
        for k in [self.width, *self.tested]:
            name = self.memory.names[k] if k < self.width else RECORD
            match = self.matches.get(name)
            if match is not None:
                bits = float(self.going[k].at(np.array([match.lag]))[0][0])
                if bits > 0:
                    if k == self.width or math.isfinite(values[i, k]):
                        match.go_on(int(at_ms[i]), int(at_ms[i - match.lag]))
                        self.replays[match.replay].take(name, match, 1, self._rate(bits, i, per_month))
                    continue
                del self.matches[name]
            lag, bits = self.going[k].best()
            lags = i
            if k == self.width and lag == 1:
                lags = 1  # the record before is one candidate, not one of many
            if bits >= need - math.log2(i / lags) and not (k < self.width and RECORD in self.matches):
                self._open(name, k, lag, i, self._rate(bits, lags, per_month), values)

    def _open(self, name: str, k: int, lag: int, i: int, rate: float, values: Values) -> None:
        steps, moves = self._length(values, k, i, lag)
        least = self.config.record_min_steps if k == self.width else self.config.copy_min_steps
        if steps < least or (k < self.width and moves < max(_FRESH_MOVES * steps, 4)):
            return
        at_ms = self.memory.rows.view("at_ms")
        first = i - steps + 1
        lag_ms = int(at_ms[i] - at_ms[i - lag])
        key = replay_key(lag_ms, stands=k == self.width and lag == 1)
        match = Match(
            key, lag, int(at_ms[first]), int(at_ms[i]), int(at_ms[first - lag]), int(at_ms[i - lag])
        )
        self.matches[name] = match
        if key not in self.replays:
            self.replays[key] = Replay.begin(key, lag_ms, match, rate)
        known_ms = self.replays[key].counted_ms.get(name, match.from_ms - 1)
        new = at_ms[first : i + 1] > known_ms
        if k < self.width:
            new &= np.isfinite(values[first : i + 1, k])
        self.replays[key].stretches[name] = self.replays[key].stretches.get(name, 0) + 1
        self.replays[key].take(name, match, int(new.sum()), rate)

    def _length(self, values: Values, k: int, i: int, lag: int) -> tuple[int, int]:
        """Count the steps that are equal at this lag up to row i, and the moves among them."""
        columns = slice(None) if k == self.width else slice(k, k + 1)
        here, there = values[lag : i + 1, columns], values[: i + 1 - lag, columns]
        equal = ((here == there) | (np.isnan(here) & np.isnan(there))).all(axis=1)
        differing = np.flatnonzero(~equal)
        steps = len(equal) - (int(differing[-1]) + 1 if differing.size else 0)
        part = here[len(here) - steps :]
        return steps, int((np.diff(part, axis=0) != 0).any(axis=1).sum())

    @staticmethod
    def _rate(bits: float, history: int, per_month: float) -> float:
        log_rate = math.log2(per_month * history) + _MARGIN_BITS - bits
        return float(max(2.0 ** min(log_rate, 60.0), LEAST_RATE))

    def notes(self) -> list[Note]:
        """Say when too little is remembered to compare with."""
        if len(self.memory.rows) >= _LEAST_HISTORY:
            return []
        return [Note("copy", "", "history", f"fewer than {_LEAST_HISTORY} rows to compare with")]

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        return {
            "names": list(self.memory.names),
            "going": [[going.lags, going.bits, going.gain] for going in self.going],
            "matches": {name: asdict(match) for name, match in self.matches.items()},
            "replays": {key: asdict(replay) for key, replay in self.replays.items()},
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back; with other channels than before the matches begin anew."""
        if tuple(tree["names"]) != self.memory.names:
            return
        self.going = [Going(*arrays) for arrays in tree["going"]]
        self.matches = {name: Match(**fields) for name, fields in tree["matches"].items()}
        self.replays = {key: Replay.of(fields) for key, fields in tree["replays"].items()}
