"""Heaped digits: 0 and 5 oftener than the past has them, over a week and a month (a hand, not an instrument)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Values
from stackwitness_detectors.daily import DAYS_PER_MONTH, SLIDING, Judged
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import rough
from stackwitness_detectors.quantiles import quantile, quartile_range
from stackwitness_detectors.shape.daily_digits import DigitTest
from stackwitness_detectors.shape.grid import digit_plot, dispersion
from stackwitness_detectors.shape.units import DigitReader, Digits

_WINDOWS = (3, 7, 30)
_COMMON = float(special.ndtri(1 - 0.05 / 2))
_LEAST_VALUES = 40
_LEAST_WHOLE = 20.0  # below two tens the last digit is not free
_LEAST_SPREAD = 6.0  # steps: else neighbouring digits depend on the level
_HELD = 0.5  # share of 0 and 5 in the past: more, and the last place is seldom filled
_PRIOR = 200.0  # values whose digits are even: a short past is shrunk to a fifth


class Heaps(DigitTest):
    """Score = the normal deviate of the share of last digits 0 and 5 against the past's, the oddest window's."""

    name = "heaps"
    detector = "heaped_digits"
    family = "shape"
    kind = "digits"
    kinds = ("typed_digits", "invented_records", "rounded")
    innocent = ("resolution_change", "substitute_data", "recalibration")

    def __init__(self, memory: Memory, config: Config, reader: DigitReader) -> None:
        super().__init__(memory, config, reader, config.heap_budget)

    def weigh(self, k: int, day: int, digits: Digits) -> Judged | None:
        """Count 0 and 5."""
        past = digits.past_steps.reaching(_LEAST_WHOLE)
        heaped, bunched = _heaped(past), dispersion(past % 5 == 0)
        if heaped > _HELD * len(past):
            self.why[k] = ("digits", "most of the past ends in 0 or 5: its last place is seldom filled")
            return None
        best: Judged | None = None
        for days in _WINDOWS:
            if days not in digits.steps:
                continue
            now = digits.steps[days].reaching(_LEAST_WHOLE)
            if len(now) < _LEAST_VALUES or quartile_range(now) < _LEAST_SPREAD:
                continue
            usual = (heaped + 0.2 * _PRIOR) / (len(past) + _PRIOR)
            share = _heaped(now) / len(now)
            variance = usual * (1 - usual) * (1 / len(now) + 1 / (len(past) + _PRIOR))
            z = (share - usual) / math.sqrt(variance * bunched)
            if best is None or z > best.score:
                numbers: dict[str, float | int | str] = {
                    "values": len(now), "share_percent": 100 * share, "usual_percent": 100 * usual, "days": days,
                    "tens_percent": 100 * float((now % 10 == 0).mean()), "resolution": digits.units.text,
                }  # fmt: skip
                best = Judged(z, (day - days + 1) * DAY_MS, (day + 1) * DAY_MS - 1, numbers)
        return best

    def rate(self, k: int, judged: Judged) -> float | None:
        """Take the normal law, widened by how much the channel's own days exceed it."""
        past, wide = self.past[k], 1.0
        if len(past) >= self.config.calibration_min_days:
            wide = max(1.0, quantile(past, 0.95) / _COMMON)
        p = float(special.ndtr(-judged.score / wide))
        return SLIDING * len(_WINDOWS) * p * DAYS_PER_MONTH / _WINDOWS[0]

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """Nearly all on tens is rounding."""
        return (
            ("rounded", "typed_digits", "invented_records")
            if float(judged.numbers["tens_percent"]) > 80
            else self.kinds
        )

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        name, n = self.memory.names[k], judged.numbers
        share, usual = rough(float(n["share_percent"])), rough(float(n["usual_percent"]))
        en = (
            f"Of {n['values']} values of {name} within {n['days']} days {share} % end in 0 or 5; before it was {usual} % "
            f"({rough(judged.score)} standard errors)."
        )
        zh = (
            f"{name} {n['days']} 天内的 {n['values']} 个数值中有 {share} % 末位为 0 或 5;此前为 {usual} %"
            f"(相差 {rough(judged.score)} 个标准误)。"
        )
        return en, zh, digit_plot(self, k, judged)


def _heaped(whole: NDArray[np.int64] | Values) -> float:
    return float(np.count_nonzero(whole % 5 == 0))
