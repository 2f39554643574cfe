"""Pieces: short stretches of a channel's far past that are sent again, each at a lag of its own.

A generator that strings together blocks of three or six hours leaves no long match at one lag, but many short ones.
For each row the best match that ends there has so many bits (`evidence.StepOdds`); among n remembered rows the best
of chance has about log2(n) bits (Grassberger 1989; Wyner and Ziv 1989). What the peaks of a day have above that is
the day's score. The tests of `repeats.py` compare it with the channel's own days.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note, Values
from stackwitness_detectors.copy.evidence import Going, StepOdds, counted, equal_lags, next_step
from stackwitness_detectors.memory import Block, Memory, Table, place_of

_MINUTE_MS = 60_000
_LEAST_HISTORY = 480
_WEEK = 7
_EVIDENT_BITS = 6.0  # above chance: a piece that counts in the numbers of a finding


@dataclass
class DayLedger:
    """Count what one day repeats: bits above chance, rows seen, evident pieces, their rows, the longest one."""

    day: int
    bits: float = 0.0
    rows: int = 0
    pieces: int = 0
    matched: int = 0
    longest: int = 0
    longest_bits: float = 0.0
    from_ms: int = 0
    source_ms: int = 0
    first_ms: int = 0


@dataclass
class Best:
    """Hold the best match that ends at the last row: bits, and lag in rows."""

    bits: float = 0.0
    lag: int = 0


class Pieces:
    """Remember the far past of the channels a forger would forge, and the pieces of it that come again."""

    name = "pieces"

    def __init__(self, memory: Memory, config: Config) -> None:
        self.memory, self.config = memory, config
        self.targets = forgeable(memory)
        self.names = tuple(memory.names[k] for k in self.targets)
        self.loads = memory.indices("load")
        width = len(self.targets)
        self.far = Table(config.far_rows, {"minute": ("<i4", -1), "values": ("<f4", width)})
        self.going = [Going.none() for _ in self.targets]
        self.best = [Best() for _ in self.targets]
        self.days: list[list[DayLedger]] = [[] for _ in self.targets]

    def hour(self, block: Block) -> list[Finding]:
        """Follow the matches over the rows of one hour."""
        hours = self.memory.hours
        claimed = hours.view("claimed")[-1, self.targets].copy()
        measured = block.measured()
        off = np.asarray((measured[:, self.loads] <= 0).any(axis=1))
        rows = measured[:, self.targets].astype(np.float32)
        known = self.far.view("values")
        odds = StepOdds(known, self.config.piece_step_bits)
        for at_ms, row, is_off in zip(block.at_ms.tolist(), rows, off.tolist(), strict=True):
            for t in range(len(self.targets)):
                self._follow(t, row[t], odds, at_ms, skip=bool((is_off and row[t] == 0) or claimed[t]))
            self.far.append(at_ms // _MINUTE_MS, row)
        return []

    def _follow(self, t: int, x: np.float32, odds: StepOdds, at_ms: int, *, skip: bool) -> None:
        """Lead the matches of one channel on to a value not yet remembered."""
        values = self.far.view("values")[:, t]
        before, now = self.going[t], Best()
        self.going[t] = Going.none()
        if np.isfinite(x) and not skip and len(values) >= 2 and len(odds.history) >= 2:
            lags = equal_lags(values, x)
            if lags.size:
                move = float(x - values[-1])
                still = bool(values[-1] == values[-2])
                start = odds.start_bits(counted(lags, len(values), len(odds.history)))
                further = partial(odds.move_bits, t, move, still) if not math.isnan(move) else None
                self.going[t] = next_step(before, lags, start, further)
                lag, bits = self.going[t].best()
                now = Best(bits, lag)
        if now.bits < self.best[t].bits:
            self._count(t, self.best[t], at_ms)
        self.best[t] = now
        if np.isfinite(x) and not skip:
            self._ledger(t, at_ms // 86_400_000).rows += 1

    def _length(self, t: int, lag: int) -> int:
        """Count the rows up to the last one that are equal to those `lag` rows before."""
        values = self.far.view("values")[:, t]
        if not 0 < lag < len(values):
            return 0
        differing = np.flatnonzero(values[lag:] != values[:-lag])
        return len(values) - lag - (int(differing[-1]) + 1 if differing.size else 0)

    def _count(self, t: int, best: Best, at_ms: int) -> None:
        """Write a match that has ended into its day."""
        remembered = len(self.far)
        above = best.bits - math.log2(max(remembered, 2))
        if above <= 0 or remembered < _LEAST_HISTORY:
            return
        minutes = self.far.view("minute")
        end_ms = int(minutes[-1]) * _MINUTE_MS
        ledger = self._ledger(t, end_ms // 86_400_000)
        ledger.bits += above
        if above < _EVIDENT_BITS:
            return
        length = self._length(t, best.lag)
        ledger.pieces += 1
        ledger.matched += length
        ledger.first_ms = ledger.first_ms or self.began_ms(length)
        if (length, best.bits) > (ledger.longest, ledger.longest_bits):
            ledger.longest, ledger.longest_bits = length, best.bits
            ledger.from_ms, ledger.source_ms = self.began_ms(length), self.began_ms(length + best.lag)

    def _ledger(self, t: int, day: int) -> DayLedger:
        kept = self.days[t]
        for ledger in reversed(kept):
            if ledger.day == day:
                return ledger
        kept.append(DayLedger(day))
        del kept[: -_WEEK - 1]
        return kept[-1]

    def day(self, day: int) -> list[Finding]:
        """Close the day: a match that is still going on counts with what it has so far."""
        for t in range(len(self.targets)):
            self._count(t, self.best[t], 0)
            self.best[t] = Best()
            self.going[t] = Going.none()
        return []

    def ledgers(self, k: int, day: int, days: int) -> list[DayLedger]:
        """Give the ledgers of a channel for the `days` days that end with `day`."""
        kept = self.days[self.targets.index(k)]
        return [ledger for ledger in kept if day - days < ledger.day <= day]

    @property
    def step_ms(self) -> float:
        """Return the usual distance of two rows."""
        minutes = self.far.view("minute")[-25:]
        return float(median(np.diff(minutes).tolist())) * _MINUTE_MS if len(minutes) > 1 else 0.0

    def running(self, k: int) -> tuple[float, int, int]:
        """Give bits above chance, length and lag (rows) of the match now going on; zeros when not evident."""
        best = self.best[self.targets.index(k)]
        above = best.bits - math.log2(max(len(self.far), 2))
        if above < _EVIDENT_BITS or len(self.far) < _LEAST_HISTORY:
            return max(above, 0.0) if len(self.far) >= _LEAST_HISTORY else 0.0, 0, 0
        return above, self._length(self.targets.index(k), best.lag), best.lag

    def began_ms(self, length: int) -> int:
        """Give the time of the row `length` rows ago."""
        minutes = self.far.view("minute")
        return int(minutes[-max(min(length, len(minutes)), 1)]) * _MINUTE_MS

    def rows_of(self, k: int, from_ms: int, to_ms: int) -> tuple[Values, Values]:
        """Give times (ms) and values of a remembered stretch."""
        minutes = self.far.view("minute").astype(np.int64) * _MINUTE_MS
        first, last = np.searchsorted(minutes, [from_ms, to_ms + 1])
        column = self.far.view("values")[first:last, self.targets.index(k)]
        return minutes[first:last].astype(np.float64), column.astype(np.float64)

    def notes(self) -> list[Note]:
        """Say when too little is remembered to compare with."""
        if not self.targets or len(self.far) >= _LEAST_HISTORY:
            return []
        return [Note("pieces", "", "history", f"fewer than {_LEAST_HISTORY} rows to compare with")]

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        return {
            "names": list(self.names),
            "far": self.far.dump(),
            "going": [[going.lags, going.bits, going.gain] for going in self.going],
            "best": [asdict(best) for best in self.best],
            "days": [[asdict(ledger) for ledger in kept] for kept in self.days],
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back; channels are matched by name, new ones begin empty."""
        place = place_of(self.names, tree["names"])
        self.far.load(tree["far"], place)
        for t, old in enumerate(place.tolist()):
            if old >= 0:
                self.going[t] = Going(*tree["going"][old])
                self.best[t] = Best(**tree["best"][old])
                self.days[t] = [DayLedger(**fields) for fields in tree["days"][old]]


def forgeable(memory: Memory) -> list[int]:
    """Choose what a forger would forge: the pollutants, or without any the flows, or else the process."""
    for roles in (("pollutant",), ("flow",), ("process", "temperature", "pressure", "moisture", "diluent")):
        if found := memory.indices(*roles):
            return found
    return []
