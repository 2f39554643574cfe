"""Repeats: a day, or a week, that is strung together from pieces of the own past."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding
from stackwitness_detectors.copy.evidence import rate_beyond
from stackwitness_detectors.copy.pieces import DayLedger, Pieces
from stackwitness_detectors.daily import DAYS_PER_MONTH, DailyTest, Judged
from stackwitness_detectors.memory import DAY_MS, HOUR_MS, Block, Memory
from stackwitness_detectors.plots import plain, rough, series_of, span_ms, thin

_LEAST_ROWS = 12
_BLOCK_H = 6.5  # hours: a match at another hour of the day that is still going on after so long is one replay
_SHORT_BLOCK_H = 4.0  # hours: shorter pieces speak of hours drawn singly, longer ones of blocks
_SAME_HOUR = 0.02  # days
_LEAST_REPEATED = 4  # values: what is shorter is no piece to speak of
# Of the window's values: whoever strings a day together takes a quarter of it or more, while short equal
# stretches far apart grow with the memory on every instrument with coarse steps.
_LEAST_SHARE = 0.1


class Repeats(DailyTest):
    """Score = bits above chance of the pieces in `days` days, per day; looked at each hour, since it only grows."""

    detector = "pieces"
    family = "copy"
    kind = "pieces"
    kinds = ("bootstrap", "resampled", "replay_shifted", "replay_exact", "backfill")
    innocent = ("deterministic_process", "substitute_data", "detection_floor", "resolution_change")

    def __init__(self, memory: Memory, config: Config, pieces: Pieces, days: int) -> None:
        super().__init__(memory, config, pieces.targets, config.pieces_budget / 2)
        self.pieces, self.days = pieces, days
        self.others: list[Repeats] = []
        self.name = f"pieces_{days}d"

    def measure(self, k: int, day: int) -> Judged | None:
        """Sum the ledgers."""
        ledgers = self.pieces.ledgers(k, day, self.days)
        rows = sum(one.rows for one in ledgers)
        if not ledgers or ledgers[-1].day != day or rows < _LEAST_ROWS * self.days:
            return None
        return self._judged(k, day, ledgers, rows)

    def _judged(self, k: int, day: int, ledgers: list[DayLedger], rows: int) -> Judged:
        longest = max(ledgers, key=lambda one: (one.longest, one.longest_bits))
        going, length, lag = self.pieces.running(k)
        first = min((one.first_ms for one in ledgers if one.first_ms), default=day * DAY_MS)
        ended = sum(one.pieces for one in ledgers)
        repeated = sum(one.matched for one in ledgers) + length
        numbers: dict[str, float | int | str] = {
            "pieces": ended + (length > 0),
            "rows_repeated": repeated,
            "rows": max(rows, repeated),  # a piece that goes on began before the day that is judged so far
            "longest_rows": max(longest.longest, length),
            "longest_hours": max(longest.longest, length) * self.pieces.step_ms / HOUR_MS,
            "longest_from_ms": longest.from_ms,
            "longest_source_ms": longest.source_ms,
            "running_hours": length * self.pieces.step_ms / HOUR_MS,
            "running_lag_days": lag * self.pieces.step_ms / DAY_MS,
        }
        score = (sum(one.bits for one in ledgers) + going) / self.days
        from_ms = max(min(first, self.pieces.began_ms(length)), (day - self.days + 1) * DAY_MS)
        return Judged(score, from_ms, (day + 1) * DAY_MS - 1, numbers)

    def hour(self, block: Block) -> list[Finding]:
        """Speak within the day when what it has so far is enough."""
        findings: list[Finding] = []
        day = block.hour // 24
        for k in self.tested:
            ledgers = self.pieces.ledgers(k, day, self.days)
            if (
                not ledgers
                or ledgers[-1].day != day
                or self.memory.names[k] in self.episodes
                or self.muted(k, day)
            ):
                continue
            rows, repeated = sum(one.rows for one in ledgers), sum(one.matched for one in ledgers)
            repeated += self.pieces.running(k)[1]
            if len(self.past[k]) < self.config.week_reference_days or repeated < _least(max(rows, repeated)):
                continue
            judged = self._judged(k, day, ledgers, rows)
            rate = self.rate(k, judged)
            if rate is not None and rate <= self.budget and _ripe(judged):
                told = replace(judged, to_ms=int(block.at_ms[-1]))
                findings += self._flag(k, told, rate)
        return findings

    def muted(self, k: int, day: int) -> bool:
        """Leave alone what the other length of window has said already."""
        name = self.memory.names[k]
        return any(name in other.episodes for other in self.others)

    def rate(self, k: int, judged: Judged) -> float | None:
        """Expect exponential tails of bits: the top of the past, and as far beyond it as its own top is wide."""
        past = self.past[k]
        if len(past) < self.config.week_reference_days:
            return None
        months = len(past) / DAYS_PER_MONTH
        if int(judged.numbers["rows_repeated"]) < _least(int(judged.numbers["rows"])):
            return math.inf
        # Sums of independent days spread as the root of their number.
        return rate_beyond(judged.score, past, months, self.config.piece_tail_bits / math.sqrt(self.days))

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """Tell one replay from blocks of six hours, and those from hours drawn one by one."""
        n = judged.numbers
        if int(n["pieces"]) == 1 and float(n["running_hours"]) > 0:
            lag = float(n["running_lag_days"])
            if lag > 0.5 and abs(lag - round(lag)) < _SAME_HOUR:
                return ("replay_exact", "backfill", "bootstrap", "replay_shifted", "resampled")
            return ("replay_shifted", "bootstrap", "resampled", "replay_exact", "backfill")
        if 0 < float(n["longest_hours"]) < _SHORT_BLOCK_H:
            return ("resampled", "bootstrap", *self.kinds[2:])
        return self.kinds

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it, with the longest piece at its new place."""
        channel, n = self.memory.channels[k], judged.numbers
        span_en = "day" if self.days == 1 else f"{self.days} days"
        span_zh = "1 天" if self.days == 1 else f"{self.days} 天"
        hours = rough(float(n["longest_hours"]))
        en = (
            f"Within one {span_en} {channel.name} repeats {n['pieces']} pieces of its own past, {n['rows_repeated']} of "
            f"{n['rows']} values, each from another time (the longest {hours} h); {rough(judged.score)} bits a day above "
            f"chance, the most before was {rough(longest)}."
        )
        zh = (
            f"{channel.name} 在 {span_zh}内重复了自身历史中的 {n['pieces']} 个片段,共 {n['rows']} 个数值中的 {n['rows_repeated']} 个,"
            f"来自不同时间(最长 {hours} 小时);每天高出偶然 {rough(judged.score)} 比特,此前最高 {rough(longest)}。"
        )
        lag_ms, source = int(n["longest_from_ms"]) - int(n["longest_source_ms"]), int(n["longest_source_ms"])
        stop = source + int(float(n["longest_hours"]) * HOUR_MS)
        if float(n["running_hours"]) >= float(n["longest_hours"]):
            lag_ms = int(float(n["running_lag_days"]) * DAY_MS)
            source, stop = judged.from_ms - lag_ms, judged.to_ms - lag_ms
        at_ms, values = self.pieces.rows_of(k, source, stop)
        shown = thin(at_ms.astype(np.int64), self.config.plot_points)
        now_ms, now = self.pieces.rows_of(k, source + lag_ms, stop + lag_ms)
        again = thin(now_ms.astype(np.int64), self.config.plot_points)
        plot: dict[str, Any] = {
            "kind": "copy",
            "title_en": f"{channel.name} is strung together from earlier pieces",
            "title_zh": f"{channel.name} 由先前片段拼接而成",
            "series": series_of(self.memory, [k], *span_ms(self.memory, judged.from_ms, judged.to_ms)),
            "match": {
                "t": [int(t) for t in at_ms[shown]],
                "v": plain(values[shown]),
                "lag_ms": lag_ms,
                "now_t": [int(t) for t in now_ms[again]],
                "now_v": plain(now[again]),
            },
        }
        return en, zh, plot


def _least(rows: int) -> float:
    """Give how many values must be repeated in a window of so many."""
    return max(_LEAST_REPEATED, _LEAST_SHARE * rows)


def _ripe(judged: Judged) -> bool:
    """Tell whether it is clear by now what it is: equal hours of the day, a long match, or pieces that have ended."""
    n = judged.numbers
    running, lag = float(n["running_hours"]), float(n["running_lag_days"])
    equal_hours = lag > 0.5 and abs(lag - round(lag)) < _SAME_HOUR
    return running == 0.0 or equal_hours or running > _BLOCK_H or int(n["pieces"]) > 1
