"""Coarser or finer than before: the share of readings on every second, fifth, tenth ... step (binomial law)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Values
from stackwitness_detectors.daily import DAYS_PER_MONTH, SLIDING, Judged
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import rough, series_of, span_ms
from stackwitness_detectors.quantiles import quantile
from stackwitness_detectors.shape.daily_digits import DigitTest
from stackwitness_detectors.shape.units import DigitReader, Digits, Steps, on_grid

GRIDS = (2, 3, 4, 5, 10, 20, 25, 50, 100)
_OFF = 0  # the name of "between the steps" among the grids
_LEAST_VALUES = 12
_LEAST_REACH = 2.0  # values below two steps of a grid have no choice
_LEAST_SHIFT = 0.15  # share of values that must have moved
_HELD = (
    0.4  # share above that of even digits: more of the past on a grid, and the grid is an older resolution
)
_LARGEST_P = 300.0
_BLOCK = (
    24  # values: what comes in bunches in the past (a report written by hand, a spare logger) may do so again
)


class Grid(DigitTest):
    """Score = -log10 p of the oddest grid and window (1, 3, 7 days): more values on it than the past had."""

    name = "grid"
    detector = "coarse_grid"
    family = "shape"
    kind = "digits"
    kinds = ("rounded", "typed_digits", "invented_records", "span_change")
    innocent = ("resolution_change", "recalibration", "substitute_data")

    def __init__(self, memory: Memory, config: Config, reader: DigitReader) -> None:
        super().__init__(memory, config, reader, config.digits_budget)

    def weigh(self, k: int, day: int, digits: Digits) -> Judged | None:
        """Count on each grid."""
        best: tuple[tuple[float, int, int, float], int, int] | None = None
        usual = {grid: usual_share(digits, grid) for grid in (_OFF, *GRIDS)}
        for days in (1, 3, 7):
            for grid in (_OFF, *GRIDS):
                judged = count_on(digits, days, grid, usual[grid])
                if judged is not None and (best is None or judged[0] > best[0][0]):
                    best = (judged, days, grid)
        if best is None:
            return None
        (score, hits, n, share), days, grid = best
        numbers: dict[str, float | int | str] = {
            "values": n,
            "on_grid": hits,
            "grid": grid,
            "fives_percent": _fives(digits.now[days]),
            "share_percent": 100.0 * hits / n,
            "usual_percent": 100.0 * share,
            "resolution": digits.units.text,
            "days": days,
        }
        if grid == _OFF and hits < n:
            numbers["higher_percent"] = _higher(digits.now[days])
        return Judged(score, (day - days + 1) * DAY_MS, (day + 1) * DAY_MS - 1, numbers)

    def rate(self, k: int, judged: Judged) -> float | None:
        """Take the binomial law for all grids and windows looked at, widened by what the own days exceed it."""
        tries = 3 * (len(GRIDS) + 1)
        past, wide = self.past[k], 1.0
        if len(past) >= self.config.calibration_min_days:
            # The oddest of so many tries exceeds log10(10 tries) on one day in ten.
            wide = max(1.0, quantile(past, 0.95) / math.log10(20.0 * tries))
        p = 10.0 ** (-judged.score / wide)
        return float(SLIDING * tries * p * DAYS_PER_MONTH)

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """Between the steps: something was computed from readings. All on one grid: rounded."""
        if judged.numbers["grid"] == _OFF:
            # The digit that should not be there: a hand likes fives, a coarser step than a tenth gives only them.
            fives = float(judged.numbers["fives_percent"])
            if fives > 95.0:
                return ("rounded", "scale_after_rounding", "typed_digits")
            if fives > _HANDMADE:
                return ("typed_digits", "invented_records", "scale_after_rounding")
            if float(judged.numbers["share_percent"]) < _MIXED:
                # Only some records: the high ones, or some of all heights.
                if float(judged.numbers.get("higher_percent", 50.0)) > _HIGH_ONES:
                    return ("limit_aware_scale", "altered_records", "averaging_game", "clip")
                return ("altered_records", "inspection_honest", "scale_after_rounding", "backfill")
            return ("scale_after_rounding", "span_change", "smoothed", "backfill", "invented_records")
        if float(judged.numbers["share_percent"]) < _MIXED:
            return ("typed_digits", "rounded", "invented_records")
        return self.kinds

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        name, n = self.memory.names[k], judged.numbers
        share, usual, step = (
            rough(float(n["share_percent"])),
            rough(float(n["usual_percent"])),
            n["resolution"],
        )
        if n["grid"] == _OFF:
            place_en, place_zh = f"between its steps of {step}", f"不在其分辨率 {step} 的网格上"
        else:
            place_en = f"on every {n['grid']}th step of its resolution of {step}"
            place_zh = f"落在分辨率 {step} 的 {n['grid']} 倍网格上"
        en = f"Of {n['values']} values of {name} within {n['days']} days {share} % lie {place_en}; before it was {usual} %."
        zh = f"{name} {n['days']} 天内的 {n['values']} 个数值中有 {share} % {place_zh};此前为 {usual} %。"
        return en, zh, digit_plot(self, k, judged)


_MIXED = 90.0
_HIGH_ONES = 80.0  # per cent of pairs in which the record between the steps is the higher one
_HANDMADE = 19.0  # per cent of fives among the digits 1 to 9 of an even hand: 11


def usual_share(digits: Digits, grid: int) -> float:
    """Give the share of the past's values on a grid, at least that of even digits; 0: between the steps."""
    past = digits.past_steps
    if grid == _OFF:
        return (float(past.off) + 1.0) / (len(digits.before) + 2.0)
    on, n = _on(past, grid)
    return max((float(on) + 1.0) / (n + 2.0), 1.0 / grid) if n >= 50 else 1.0 / grid


def count_on(digits: Digits, days: int, grid: int, usual: float) -> tuple[float, int, int, float] | None:
    """Give -log10 of the binomial tail, hits, values, usual share of one grid and window; None when untestable."""
    now = digits.now.get(days)
    if now is None or not len(now):
        return None
    if grid == _OFF:
        hits, n = digits.steps[days].off, len(now)
    else:
        reaching = digits.steps[days].reaching(_LEAST_REACH * grid)
        if len(reaching) < _LEAST_VALUES or float(np.ptp(reaching)) < grid:
            return None
        hits, n = int(np.count_nonzero(reaching % grid == 0)), len(reaching)
    if n < _LEAST_VALUES or hits / n < usual + _LEAST_SHIFT * (1.0 - usual):
        return None
    if grid and usual > 1.0 / grid + _HELD:
        return None
    past = digits.past_steps.reaching(_LEAST_REACH * grid) % grid == 0 if grid else ~on_grid(digits.before)
    bunched = dispersion(past)
    law = float(stats.binom.logsf(math.ceil(hits / bunched) - 1, math.ceil(n / bunched), usual))
    return min(-law / math.log(10.0), _LARGEST_P), hits, n, usual


def dispersion(hits: NDArray[np.bool_] | Values) -> float:
    """Give how many times the hits [n] of the past vary more from block to block than independent ones; at least 1."""
    blocks = np.asarray(hits, np.float64)[: len(hits) // _BLOCK * _BLOCK].reshape(-1, _BLOCK).sum(axis=1)
    share = float(blocks.mean()) / _BLOCK if len(blocks) else 0.0
    if len(blocks) < 2 or not 0.0 < share < 1.0:
        return 1.0
    return max(1.0, float(blocks.var()) / (_BLOCK * share * (1.0 - share)))


def _higher(whole: Values) -> float:
    """Give how often (per cent of pairs) a value between the steps is higher than one on them."""
    off = ~on_grid(whole)
    on = np.sort(whole[~off])
    return 100.0 * float(np.searchsorted(on, whole[off]).mean()) / len(on) if off.any() and len(on) else 50.0


def _fives(whole: Values) -> float:
    """Give the share of fives (per cent) among the tenths of values between the steps."""
    off = whole[~on_grid(whole)]
    tenths = np.round(np.mod(np.abs(off), 1.0) * 10.0, 2)
    return 100.0 * float((np.abs(tenths - 5.0) < 0.05).mean()) if len(off) else 0.0


def _on(steps: Steps, grid: int) -> tuple[int, int]:
    """Count the values on a grid, and those large enough to have a choice."""
    reaching = steps.reaching(_LEAST_REACH * grid)
    return int(np.count_nonzero(reaching % grid == 0)), len(reaching)


def last_digits(whole: Values) -> Values:
    """Count last digits 0..9, and values between the steps in an eleventh cell."""
    digit = np.where(on_grid(whole), np.mod(np.abs(np.round(whole)), 10), 10).astype(np.int64)
    counts: Values = np.bincount(digit, minlength=11).astype(np.float64)
    return counts


def digit_plot(test: DigitTest, k: int, judged: Judged) -> dict[str, Any]:
    """Draw the last digits of the window beside those of the past."""
    digits = test.reader.read(k, judged.to_ms // DAY_MS)
    days = int(judged.numbers.get("days", 7))
    counts, reference = np.zeros(11), np.zeros(11)
    if isinstance(digits, Digits):
        counts, reference = last_digits(digits.now.get(days, np.empty(0))), last_digits(digits.before)
    between = counts[10] + reference[10] > 0
    if not between:
        counts, reference = counts[:10], reference[:10]
    name = test.memory.names[k]
    return {
        "kind": "digits",
        "title_en": f"Last digits of {name}",
        "title_zh": f"{name} 末位数字",
        "series": series_of(test.memory, [k], *span_ms(test.memory, judged.from_ms, judged.to_ms)),
        "histogram": {
            "edges": list(range(len(counts) + 1)),
            "counts": [int(c) for c in counts],
            "reference": [int(c) for c in reference],
            "label_en": f"how often each last digit was sent{' (10: between the steps)' if between else ''}",
            "label_zh": f"各末位数字出现次数{'(10:不在网格上)' if between else ''}",
        },
    }
