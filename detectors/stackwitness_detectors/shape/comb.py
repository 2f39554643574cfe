"""Combs: values that were rounded, multiplied and rounded again, or read through a coarser converter.

Readings as whole numbers of the last place: a smooth density has no frequency above a few per spread, so
|sum exp(2 pi i f n)|^2 / N is Exp(1) there (Rayleigh's test); a comb of any pitch stands out. For a factor a < 1
applied after rounding, whole numbers with two sources are twice as frequent: a likelihood ratio per factor, whose tail
under a smooth density is at most exp(-x) (Markov). Both are asked of the past as well.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Values
from stackwitness_detectors.daily import DAYS_PER_MONTH, SLIDING, Judged
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import one_in, short
from stackwitness_detectors.quantiles import quantile, quartile_range
from stackwitness_detectors.shape.daily_digits import DigitTest
from stackwitness_detectors.shape.grid import digit_plot
from stackwitness_detectors.shape.units import DigitReader, Digits, on_grid

_WINDOWS = (3, 7, 30)
_LEAST_VALUES = 60
_LEAST_SPREAD = 60.0  # steps between the quartiles: a coarser instrument shows no comb but its own
_CYCLES = 12.0  # a density as wide as that many pitches is smooth
_FACTORS = np.round(np.arange(0.5, 0.995, 0.01), 2)
_HOLE = 0.02  # likelihood of a value that the factor cannot give: not every reading of the window was forged
_WIDEST = 60.0  # steps: wider combs are those of the load, set in whole megawatts
_STRETCHES = (168, 720)  # a week shows a strong comb of the past, a month a faint one
_MOST_VALUES = 1000  # for the factors
_LIKELY = 2.0  # -log10 p of a factor that explains a pitch as well
_LENGTH = 1 << 15  # of the transform: pitches are told apart to one part in this many steps
_ROUGH = 0.05  # of a score: ten times what single precision may be out
_ENDLESS = 10**9  # values: a past without any comb
_NOTHING = np.zeros(_LENGTH // 2 + 1, np.complex128)


class Comb(DigitTest):
    """Score = -log10 p of the sharpest comb (pitch or factor) in the last 3, 7 or 30 days."""

    name = "comb"
    detector = "comb"
    family = "shape"
    kind = "comb"
    kinds = ("scale_after_rounding", "span_change", "rounded", "altered_records")
    innocent = ("resolution_change", "recalibration", "substitute_data")

    def __init__(self, memory: Memory, config: Config, reader: DigitReader) -> None:
        super().__init__(memory, config, reader, config.comb_budget)

    def weigh(self, k: int, day: int, digits: Digits) -> Judged | None:
        """Look for the sharpest pitch and the likeliest factor."""
        past = digits.past_steps.whole
        if len(past) < _LEAST_VALUES or (usual_spread := quartile_range(past)) < _LEAST_SPREAD:
            self.why[k] = "digits", "the resolution is too coarse for the movement: a comb would not show"
            return None
        looks = {}
        for days in (days for days in _WINDOWS if days in digits.steps):
            now = digits.steps[days].whole
            if len(now) >= _LEAST_VALUES and (spread := quartile_range(now)) >= _LEAST_SPREAD:
                looks[days] = (now, max(_CYCLES / min(spread, usual_spread), 1.0 / _WIDEST))
        if not looks:
            return None
        pitches = Pitches(past, looks)
        gains = _gains([past[-_MOST_VALUES:], *(now[-_MOST_VALUES:] for now, _ in looks.values())])
        usual = np.maximum(gains[0] / min(len(past), _MOST_VALUES), 0.0)
        best: Judged | None = None
        for (days, (now, _)), gain in zip(looks.items(), gains[1:], strict=True):
            factor = factor_of(gain, min(len(now), _MOST_VALUES), usual)
            if factor[0] > _LIKELY and pitches.past_has_comb(days):
                factor = (0.0, factor[1])
            pitch = pitches.above(days, max(factor[0], best.score if best is not None else 0.0))
            for how, (score, size) in (("pitch", pitch), ("factor", factor)):
                if best is None or score > best.score:
                    numbers: dict[str, float | int | str] = {
                        "comb": how, how: size, "factor_score": factor[0], "values": len(now), "days": days, "resolution": digits.units.text,
                    }  # fmt: skip
                    best = Judged(score, (day - days + 1) * DAY_MS, (day + 1) * DAY_MS - 1, numbers)
        return best

    def rate(self, k: int, judged: Judged) -> float | None:
        """The score is corrected for all pitches and factors; widen by what the channel's own days exceed."""
        past, wide = self.past[k], 1.0
        if len(past) >= self.config.calibration_min_days:
            wide = max(1.0, quantile(past, 0.95) / math.log10(20.0 * 2 * len(_WINDOWS)))
        p = min(1.0, 10.0 ** (-judged.score / wide))
        return float(SLIDING * 2 * len(_WINDOWS) * p * DAYS_PER_MONTH / _WINDOWS[0])

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """A factor fits: scaled after rounding. A whole pitch: rounded. Else another range."""
        n = judged.numbers
        if n["comb"] == "factor" or float(n["factor_score"]) > _LIKELY:
            return self.kinds
        pitch = float(n["pitch"])
        if abs(pitch - round(pitch)) < 0.02 and round(pitch) in (2, 5, 10, 20, 50, 100):
            return ("rounded", "typed_digits", "span_change")
        return ("span_change", "scale_after_rounding", "rounded")

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        name, n = self.memory.names[k], judged.numbers
        if n["comb"] == "factor":
            what_en = f"as if readings already rounded to {n['resolution']} had been multiplied by {short(float(n['factor']))}"
            what_zh = f"如同已按 {n['resolution']} 取整的读数又乘以 {short(float(n['factor']))}"
        else:
            what_en = f"a comb of {short(float(n['pitch']))} steps of its resolution of {n['resolution']}"
            what_zh = f"呈间距为 {short(float(n['pitch']))} 个分辨率({n['resolution']})的梳状"
        en = (
            f"The {n['values']} values of {name} within {n['days']} days lie on {what_en}"
            if n["comb"] == "pitch"
            else f"The {n['values']} values of {name} within {n['days']} days have gaps {what_en}"
        )
        chance_en, chance_zh = one_in(judged.score)
        en += f"; of smooth readings {chance_en} would do so."
        zh = f"{name} {n['days']} 天内的 {n['values']} 个数值{what_zh};平滑读数出现的概率为 {chance_zh}。"
        return en, zh, self._plot(k, judged)

    def _plot(self, k: int, judged: Judged) -> dict[str, Any]:
        """Draw the teeth: where values lie between two of them, or for a factor how often each step was sent."""
        plot, n = digit_plot(self, k, judged), judged.numbers
        digits = self.reader.read(k, judged.to_ms // DAY_MS)
        if not isinstance(digits, Digits):
            return plot
        both = [digits.now.get(int(n["days"]), np.empty(0)), digits.before]
        now, before = (np.round(whole[on_grid(whole)]) for whole in both)
        if n["comb"] == "pitch":
            pitch = float(n["pitch"])
            wave = np.exp(2j * np.pi * now / pitch).mean()
            # The teeth stand in the middle of the picture.
            turn = 0.5 - float(np.angle(wave)) / (2 * np.pi)
            edges = np.linspace(0.0, 1.0, 21)
            now, before = np.mod(now / pitch + turn, 1.0), np.mod(before / pitch + turn, 1.0)
            label = ("place of each value between two gaps of the comb", "各数值在梳齿间的位置")
        else:
            edges = np.median(now) - 20.5 + np.arange(42)
            label = (f"how often each value was sent, in steps of {n['resolution']}", f"各数值出现次数(以 {n['resolution']} 为单位)")  # fmt: skip
        name = self.memory.names[k]
        return {
            **plot,
            "title_en": f"The values of {name} stand like a comb",
            "title_zh": f"{name} 的数值呈梳状",
            "histogram": {
                "edges": [float(f"{e:.6g}") for e in edges],
                "counts": np.histogram(now, edges)[0].tolist(),
                "reference": np.histogram(before, edges)[0].tolist(),
                "label_en": label[0],
                "label_zh": label[1],
            },
        }


class Pitches:
    """Look for combs in some windows; what plainly shows none in single precision is not worked out in double."""

    def __init__(self, past: Values, looks: dict[int, tuple[Values, float]]) -> None:
        self.past, self.looks = past, looks
        self._own: dict[float, bool] = {}
        waves = _transform([past, *(now for now, _ in looks.values())], rough=True)
        self.rough = {
            days: _score(_power(now_waves / len(now) - waves[0] / len(past)), len(now), len(past), least)[0]
            for (days, (now, least)), now_waves in zip(looks.items(), waves[1:], strict=True)
        }

    def above(self, days: int, least: float) -> tuple[float, float]:
        """Give -log10 p of the strongest frequency that the past has not and its pitch; 0 when not above `least`."""
        now, slowest = self.looks[days]
        if self.rough[days] < least - _ROUGH:
            return 0.0, 1.0
        pitch = pitch_of(now, self._waves, len(self.past), slowest)
        return (0.0, 1.0) if pitch[0] < least or pitch[0] <= 0 or self.past_has_comb(days) else pitch

    def past_has_comb(self, days: int) -> bool:
        """Tell whether the past lies on a comb of its own, as seen in that window."""
        slowest = self.looks[days][1]
        if slowest not in self._own:
            self._own[slowest] = own_comb(self.past, slowest)
        return self._own[slowest]

    @cached_property
    def _waves(self) -> NDArray[np.complex128]:
        waves: NDArray[np.complex128] = _transform([self.past])[0] / len(self.past)
        return waves


def pitch_of(now: Values, waves: NDArray[np.complex128], past: int, least: float) -> tuple[float, float]:
    """Give -log10 p of the strongest frequency above `least` that the past has not, and its pitch in steps.

    `waves` are the mean waves of the `past` reference values, by frequency.
    """
    score, at = _score(_power(_transform([now])[0] / len(now) - waves), len(now), past, least)
    return max(score, 0.0), _LENGTH / at


def own_comb(past: Values, least: float) -> bool:
    """Tell whether stretches of the past lie on a comb of their own: its pitch may wander (heat content of the fuel)."""
    parts = [
        past[at : at + stretch]
        for stretch in _STRETCHES
        for at in range(max(0, len(past) - 6 * stretch), len(past), stretch)
    ]
    parts = [part for part in parts if len(part) >= _LEAST_VALUES]
    for part, waves in zip(parts, _transform(parts, rough=True), strict=True):
        found = _score(_power(waves / len(part)), len(part), _ENDLESS, least)[0]
        if found > _LIKELY + _ROUGH:
            return True
        if found > _LIKELY - _ROUGH and pitch_of(part, _NOTHING, _ENDLESS, least)[0] > _LIKELY:
            return True
    return False


def _score(power: NDArray[Any], now: int, past: int, least: float) -> tuple[float, int]:
    """Give -log10 p of the largest power above the frequency `least` and its place; powers of means of `now`, `past` values."""
    first = max(1, math.ceil(least * _LENGTH))
    if first >= len(power):
        return 0.0, _LENGTH
    at = first + int(np.argmax(power[first:]))
    apart = float(power[at]) / (1.0 / now + 1.0 / past)
    return (apart - math.log(len(power) - first)) / math.log(10.0), at


def _power(waves: NDArray[Any]) -> NDArray[Any]:
    power: NDArray[Any] = waves.real**2 + waves.imag**2
    return power


def _transform(parts: list[Values], *, rough: bool = False) -> NDArray[Any]:
    """Give the waves of each list of whole numbers, in single precision when `rough`."""
    counts = np.zeros((len(parts), _LENGTH), np.float32 if rough else np.float64)
    for line, whole in zip(counts, parts, strict=True):
        places, times = np.unique(np.mod(whole, _LENGTH).astype(np.int64), return_counts=True)
        line[places] = times
    made: NDArray[Any] = fft.rfft(counts, axis=1)
    return made


def factor_of(gain: Values, values: int, usual: Values) -> tuple[float, float]:
    """Give -log10 p of the likeliest factor applied after rounding, and the factor; `usual` is the past's gain a value."""
    gain = gain - values * usual
    at = int(np.argmax(gain))
    score = (float(gain[at]) - math.log(len(_FACTORS))) / math.log(10.0)
    return max(score, 0.0), float(_FACTORS[at])


def _gains(parts: list[Values]) -> list[Values]:
    """Sum for each list of whole numbers the log likelihood ratio per factor (equal numbers are worked out once)."""
    different, which = np.unique(np.concatenate(parts), return_inverse=True)
    likely = _likely(different)[which]
    ends = np.cumsum([len(part) for part in parts])
    return [likely[end - len(part) : end].sum(axis=0) for end, part in zip(ends.tolist(), parts, strict=True)]


def _likely(whole: Values) -> Values:
    """Give the log likelihood ratio of whole numbers [n] per factor: how many become each value, times the factor."""
    edge = np.abs(whole)[:, None] + np.array([-0.5, 0.5])
    high, low = edge[:, 1:] / _FACTORS, edge[:, :1] / _FACTORS
    # Halves go up with one logger, to the even one with another: they count half to each side.
    sources = sum(np.floor(high + side) - np.floor(low + side) for side in (-1e-6, 1e-6)) / 2.0
    likely: Values = np.log(np.maximum(sources * _FACTORS, _HOLE))
    return likely
