"""Range of the converter: its steps show as a comb in the readings; another pitch is another range.

A converter of b bits that covers a range R gives multiples of R / 2^b, rounded to the last place. |mean exp(2 pi i f n)|
over readings n in units of that place is near 1 at f = 1 / pitch while they come through it, and about 1 / sqrt(N)
otherwise. Who sets the range 20 % too small keeps the comb with a pitch 20 % smaller; values made elsewhere lose it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Values
from stackwitness_detectors.daily import Judged
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import rough, short
from stackwitness_detectors.shape.daily_digits import DigitTest
from stackwitness_detectors.shape.grid import digit_plot
from stackwitness_detectors.shape.units import DigitReader, Digits

_LENGTH = 1 << 15
_WINDOW = 3
_LEAST_VALUES, _MOST_VALUES = 60, 2000
_LEAST_TEETH = 8.0  # pitches between the quartiles: fewer are no comb but a course
_FINEST, _WIDEST = 2.2, 60.0  # steps
_SHOWN = 0.3  # |mean wave| of a past that comes through a converter
_PARTS, _STEADY = 6, 0.7  # of the past, and of its wave in each of them
_DECIMAL, _NEAR = 80.0, 0.02
_WEEK = 7
_SPREAD_RANGE = 1.8  # a new pitch is looked for within this factor
_NEW = 6.0  # -ln p of a comb that is believed, of all frequencies tried
_LEAST_LOSS = 1.5  # of the wave: less is no loss


class Ranges(DigitTest):
    """Score = how many times weaker the wave of the channel's own comb is in the last 3 days, at most to chance."""

    name = "range"
    detector = "range"
    family = "config"
    kind = "range_changed"
    kinds = ("span_change", "scale_after_rounding", "generated", "replay_disguised")
    innocent = ("resolution_change", "parameter_filed", "recalibration")
    needs_reference = True

    def __init__(self, memory: Memory, config: Config, reader: DigitReader) -> None:
        super().__init__(memory, config, reader, config.range_budget)
        self.own: dict[
            int, tuple[float, float]
        ] = {}  # frequency and wave of the channel's comb; (0, 0): none

    def weigh(self, k: int, day: int, digits: Digits) -> Judged | None:
        """Ask whether the last days still lie on the comb of the past."""
        if len(set(digits.units.decimals.tolist())) > 1:
            self.why[k] = "digits", "its last place changes with its size: a converter's steps would not show"
            return None
        if k not in self.own or day % _WEEK == 0:
            self.own[k] = steady_comb(digits.past_steps.whole[-_MOST_VALUES:])
        frequency, usual = self.own[k]
        if usual < _SHOWN:
            self.why[k] = "digits", "no steps of a converter show in its readings"
            return None
        now = digits.steps[_WINDOW].whole if _WINDOW in digits.steps else np.empty(0)
        if len(now) < _LEAST_VALUES:
            return None
        wave = abs(complex(np.exp(2j * np.pi * frequency * now).mean()))
        score = usual / max(wave, 1.0 / math.sqrt(len(now)))
        numbers: dict[str, float | int | str] = {
            "pitch_before": 1.0 / frequency, "wave_before": usual, "wave": wave, "values": len(now), "days": _WINDOW,
            "resolution": digits.units.text,
        }  # fmt: skip
        if score >= _LEAST_LOSS:
            found, strong = comb_of(now, (frequency / _SPREAD_RANGE, frequency * _SPREAD_RANGE))
            if strong >= math.sqrt(_NEW / len(now)) and strong > 2.0 * wave:
                numbers |= {"pitch": 1.0 / found, "range_ratio": frequency / found}
            levels = [float(np.median(part)) for part in (now, digits.past_steps.whole)]
            if levels[1] > 0:
                numbers["level_ratio"] = levels[0] / levels[1]
        return Judged(max(score, 1.0), (day - _WINDOW + 1) * DAY_MS, (day + 1) * DAY_MS - 1, numbers)

    def rate(self, k: int, judged: Judged) -> float | None:
        """A wave that is hardly weaker is no loss."""
        rate = super().rate(k, judged)
        return math.inf if rate is not None and judged.score < _LEAST_LOSS else rate

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """A new comb is another range or a factor; without one the values do not come through this converter."""
        if "pitch" in judged.numbers:
            return self.kinds
        return ("generated", "replay_disguised", "scale_after_rounding", "invented_records")

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        name, n = self.memory.names[k], judged.numbers
        before, step = short(float(n["pitch_before"])), n["resolution"]
        if "pitch" in n:
            pitch, ratio = short(float(n["pitch"])), short(float(n["range_ratio"]))
            what_en = f"now on steps of {pitch}: the range is {ratio} of what it was"
            what_zh = f"现为 {pitch} 步:量程为原来的 {ratio}"
        else:
            what_en, what_zh = (
                "now on none: these values did not come through it",
                "现已消失:数值并非经该转换器得到",
            )
        en = (
            f"Readings of {name} used to lie on a converter's steps of {before} x {step}, {what_en} ({n['values']} values "
            f"of {n['days']} days; the trace is {rough(judged.score)} times weaker, most before {rough(longest)})."
        )
        zh = (
            f"{name} 的读数原落在转换器 {before} x {step} 的步距上,{what_zh}({n['days']} 天 {n['values']} 个数值;"
            f"该痕迹减弱至 1/{rough(judged.score)},此前最多 1/{rough(longest)})。"
        )
        return en, zh, self._plot(k, judged)

    def _plot(self, k: int, judged: Judged) -> dict[str, Any]:
        plot, name = digit_plot(self, k, judged), self.memory.names[k]
        digits = self.reader.read(k, judged.to_ms // DAY_MS)
        if not isinstance(digits, Digits) or _WINDOW not in digits.steps:
            return plot
        pitch, before = float(judged.numbers["pitch_before"]), digits.past_steps.whole[-_MOST_VALUES:]
        turn = 0.5 - float(np.angle(np.exp(2j * np.pi * before / pitch).mean())) / (2 * np.pi)
        edges = np.linspace(0.0, 1.0, 21)
        counts = [
            np.histogram(np.mod(w / pitch + turn, 1.0), edges)[0]
            for w in (digits.steps[_WINDOW].whole, before)
        ]
        return {
            **plot,
            "title_en": f"{name} between the steps of its converter",
            "title_zh": f"{name} 在转换器步距间的位置",
            "histogram": {
                "edges": [float(f"{e:.6g}") for e in edges],
                "counts": counts[0].tolist(),
                "reference": counts[1].tolist(),
                "label_en": "place of each value between two steps of the converter",
                "label_zh": "各数值在转换器相邻步距间的位置",
            },
        }

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        return {**super().dump(), "own": {self.memory.names[k]: list(own) for k, own in self.own.items()}}

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back."""
        super().load(tree)
        here = {self.memory.names[k]: k for k in self.tested}
        self.own = {here[name]: (own[0], own[1]) for name, own in tree["own"].items() if name in here}


def steady_comb(past: Values) -> tuple[float, float]:
    """Give frequency and |mean wave| of a comb that shows in every part of the past; (0, 0) without one."""
    frequency, wave = comb_of(past)
    parts = np.array_split(past, _PARTS)
    steady = min(
        abs(complex(np.exp(2j * np.pi * frequency * part).mean())) if len(part) else 0.0 for part in parts
    )
    # Decimal rounding and whole numbers among finer ones make combs of 2, 5, 10, 16 and their harmonics: no converter.
    if abs(_DECIMAL * frequency - round(_DECIMAL * frequency)) < _NEAR:
        return 0.0, 0.0
    return (frequency, wave) if wave >= _SHOWN and steady >= _STEADY * wave else (0.0, 0.0)


def comb_of(whole: Values, within: tuple[float, float] | None = None) -> tuple[float, float]:
    """Give the strongest frequency of whole numbers [n] and its |mean wave|; (0, 0) where none can show."""
    if len(whole) < _LEAST_VALUES:
        return 0.0, 0.0
    spread = float(np.subtract(*np.quantile(whole, [0.75, 0.25])))
    slowest, fastest = max(_LEAST_TEETH / max(spread, 1e-9), 1.0 / _WIDEST), 1.0 / _FINEST
    if within is not None:
        slowest, fastest = max(0.5 * slowest, within[0]), min(fastest, within[1])
    first, last = math.ceil(slowest * _LENGTH), math.floor(fastest * _LENGTH)
    if first >= last:
        return 0.0, 0.0
    counts = np.bincount(np.mod(whole, _LENGTH).astype(np.int64), minlength=_LENGTH)
    wave = np.abs(np.fft.rfft(counts)[first : last + 1]) / len(whole)
    at = int(np.argmax(wave))
    return (first + at) / _LENGTH, float(wave[at])
