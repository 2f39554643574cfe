"""Exact copies: k-grams of one channel, and of whole records, that were seen at an earlier time."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.catalogue import LOOK_AT
from stackwitness_detectors.config import VERSION, Config
from stackwitness_detectors.contract import Finding, Note, Values
from stackwitness_detectors.copy.evidence import Going, StepOdds, next_step
from stackwitness_detectors.episodes import Episode, dump_episodes, load_episodes, open_episode
from stackwitness_detectors.memory import Block, Memory
from stackwitness_detectors.plots import plain, series_of, short, span_ms, thin
from stackwitness_detectors.tail import HOURS_PER_MONTH, LEAST_RATE, e_value, verdict_of

_ROLES = ("pollutant", "diluent", "flow", "load", "temperature", "pressure", "moisture", "process")
_RECORD = "*"  # the whole record, as a channel name in episodes
_MARGIN_BITS = 12.0  # the steps of real processes are not independent: asked for on top of the budget
_LEAST_HISTORY = 72
_FRESH_MOVES = 0.5  # at least this share of the steps must be moves: long stands are the holds' business


@dataclass
class Match:
    """Hold a match that is flagged: lag in rows, first and last time here, first time there, number of steps."""

    lag: int
    steps: int
    source_from_ms: int
    source_to_ms: int


class Copies:
    """Compare each row with all remembered rows, by lag."""

    name = "copy"

    def __init__(self, memory: Memory, config: Config) -> None:
        self.memory, self.config = memory, config
        self.width = len(memory.names)
        self.tested = memory.indices(*_ROLES)
        self.loads = memory.indices("load")
        self.going = [Going.none() for _ in range(self.width + 1)]
        self.episodes: dict[str, Episode] = {}
        self.matches: dict[str, Match] = {}
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
                self._judge(values, i, per_month, findings)
        return findings

    def day(self, day: int) -> list[Finding]:
        """Nothing waits for the end of a day."""
        return []

    def _row(self, values: Values, i: int, odds: StepOdds) -> None:
        before = self.going
        self.going = [Going.none() for _ in range(self.width + 1)]
        x = values[i]
        present = np.flatnonzero(np.isfinite(x)).tolist()
        off = bool((x[self.loads] <= 0).any()) or not x[present].any()
        if len(odds.history) < 2 or off:
            return  # zeros of a unit that is off repeat by nature
        for k in present:
            lags = np.flatnonzero(values[i - 1 :: -1, k] == x[k]) + 1
            if not lags.size:
                continue
            move = float(x[k] - values[i - 1, k])
            still = i >= 2 and values[i - 1, k] == values[i - 2, k]
            start_bits = odds.bits(k, float(x[k]), math.nan, False)
            move_bits = start_bits if math.isnan(move) else odds.bits(k, float(x[k]), move, bool(still))
            self.going[k] = next_step(before[k], lags, start_bits, move_bits)
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

    def _judge(self, values: Values, i: int, per_month: float, findings: list[Finding]) -> None:
        need = math.log2(per_month * i / self.budget) + _MARGIN_BITS
        for k in [self.width, *self.tested]:
            name = self.memory.names[k] if k < self.width else _RECORD
            match = self.matches.get(name)
            if match is not None:
                bits = float(self.going[k].at(np.array([match.lag]))[0][0])
                if bits > 0:
                    self._grow(name, k, i, bits, per_month, findings)
                    continue
                self._end(name, k, findings)
            lag, bits = self.going[k].best()
            if bits >= need and not (k < self.width and _RECORD in self.matches):
                self._open(name, k, lag, i, self._rate(bits, i, per_month), values, findings)

    def _open(
        self, name: str, k: int, lag: int, i: int, rate: float, values: Values, findings: list[Finding]
    ) -> None:
        steps, moves = self._length(values, k, i, lag)
        least = self.config.record_min_steps if k == self.width else self.config.copy_min_steps
        if steps < least or (k < self.width and moves < max(_FRESH_MOVES * steps, 4)):
            return
        at_ms = self.memory.rows.view("at_ms")
        first = i - steps + 1
        self.matches[name] = Match(lag, steps, int(at_ms[first - lag]), int(at_ms[i - lag]))
        self.episodes[name] = open_episode("copy", name, int(at_ms[first]), int(at_ms[i]), rate)
        self._claim(k, name)
        findings.append(self._finding(name, k, extends=False))

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

    def _grow(
        self, name: str, k: int, i: int, bits: float, per_month: float, findings: list[Finding]
    ) -> None:
        at_ms, match = self.memory.rows.view("at_ms"), self.matches[name]
        match.steps += 1
        match.source_to_ms = int(at_ms[i - match.lag])
        doubled = self.episodes[name].grow(int(at_ms[i]), self._rate(bits, i, per_month))
        self._claim(k, name)
        if doubled:
            findings.append(self._finding(name, k, extends=True))

    def _end(self, name: str, k: int, findings: list[Finding]) -> None:
        if self.episodes[name].end():
            findings.append(self._finding(name, k, extends=True))
        del self.episodes[name], self.matches[name]

    def _claim(self, k: int, name: str) -> None:
        episode = self.episodes[name]
        self.memory.claim(None if k == self.width else k, episode.from_ms, episode.seen_ms)

    def _finding(self, name: str, k: int, extends: bool) -> Finding:
        episode, match = self.episodes[name], self.matches[name]
        whole = k == self.width
        repeat = whole and match.lag == 1
        kind = "record_repeat" if repeat else "copy"
        channels = self.memory.names if whole else (name,)
        numbers: dict[str, float | int | str] = {
            "steps": match.steps,
            "lag_rows": match.lag,
            "source_from_ms": match.source_from_ms,
            "source_to_ms": match.source_to_ms,
            "expected_per_month": float(f"{episode.rate:.4g}"),
        }
        innocent = ("acquisition_hold", "substitute_data", "deterministic_process")
        return Finding(
            detector="copy",
            version=VERSION,
            family="copy",
            kind=kind,
            kinds=("record_freeze", "freeze", "backfill")
            if repeat
            else ("replay", "backfill", "borrowed_stack"),
            verdict=verdict_of(episode.rate, impossible=whole and match.steps >= 4),
            from_ms=episode.from_ms,
            to_ms=episode.seen_ms,
            channels=channels,
            statistic=("steps_equal", float(match.steps)),
            e_value=e_value(episode.rate, self.config),
            numbers=numbers,
            text_en=self._text(name, match, whole, "en"),
            text_zh=self._text(name, match, whole, "zh"),
            innocent=innocent,
            look_at_en=LOOK_AT[kind][0],
            look_at_zh=LOOK_AT[kind][1],
            plot=self._plot(k if not whole else self._shown(), episode, match),
            episode=episode.key,
            extends=extends,
        )

    def _shown(self) -> int:
        """Choose the channel that stands for a whole record: the first pollutant, else the first of all."""
        return (self.memory.indices("pollutant") or [0])[0]

    def _text(self, name: str, match: Match, whole: bool, language: str) -> str:
        days = short((self.episodes[name].from_ms - match.source_from_ms) / 86_400_000)
        if language == "zh":
            if whole and match.lag == 1:
                return f"全部 {self.width} 个通道的整条记录连续 {match.steps + 1} 次完全相同。"
            what = f"全部 {self.width} 个通道" if whole else name
            return f"{what} 的 {match.steps} 个连续数值与 {days} 天前的数值逐一相同(滞后 {match.lag} 行)。"
        if whole and match.lag == 1:
            return f"The whole record of {self.width} channels came {match.steps + 1} times running, equal in all."
        what = f"All {self.width} channels" if whole else name
        verb = "repeat" if whole else "repeats"
        return (
            f"{what} {verb}, one by one, {match.steps} successive values already sent {days} days before "
            f"(lag {match.lag} rows)."
        )

    def _plot(self, k: int, episode: Episode, match: Match) -> dict[str, Any]:
        at_ms: NDArray[np.int64] = self.memory.rows.view("at_ms")
        first, last = np.searchsorted(at_ms, [match.source_from_ms, match.source_to_ms + 1])
        chosen = first + thin(at_ms[first:last], self.config.plot_points)
        name = self.memory.names[k]
        return {
            "kind": "copy",
            "title_en": f"{name} repeats earlier values",
            "title_zh": f"{name} 重复先前数值",
            "series": series_of(self.memory, [k], *span_ms(self.memory, episode.from_ms, episode.seen_ms)),
            "interval": [episode.from_ms, episode.seen_ms],
            "match": {"t": at_ms[chosen].tolist(), "v": plain(self.memory.rows.view("values")[chosen, k])},
        }

    def notes(self) -> list[Note]:
        """Say when too little is remembered to compare with."""
        if len(self.memory.rows) >= _LEAST_HISTORY:
            return []
        return [Note("copy", "", f"fewer than {_LEAST_HISTORY} rows to compare with")]

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        return {
            "names": list(self.memory.names),
            "going": [[going.lags, going.bits, going.gain] for going in self.going],
            "episodes": dump_episodes(self.episodes),
            "matches": {name: asdict(match) for name, match in self.matches.items()},
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back; with other channels than before the matches begin anew."""
        if tuple(tree["names"]) != self.memory.names:
            return
        self.going = [Going(*arrays) for arrays in tree["going"]]
        self.episodes = load_episodes(tree["episodes"])
        self.matches = {name: Match(**fields) for name, fields in tree["matches"].items()}
