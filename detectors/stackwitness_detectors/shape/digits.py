"""Last digits on the instrument's own resolution, a week against the weeks before (two-sample G test)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Note, Values
from stackwitness_detectors.daily import DAYS_PER_MONTH, SLIDING, DailyTest, Judged
from stackwitness_detectors.memory import DAY_MS, HOUR_MS, Memory
from stackwitness_detectors.plots import series_of, short

_MOST_DECIMALS = 6
_ON_GRID = 0.995  # share of values that must lie on a grid for it to be the resolution
_LEAST_MOVE = 5.0  # steps of the resolution a typical change must span, else last digits are not free
_LEAST_REFERENCE = 300
_MOST_SHARE = 0.3  # of one digit in the reference: beyond it values of two resolutions are mixed
_NOUGHTS = 60.0  # per cent: people who type numbers vary the last digit, displays do not
_CELLS = 11  # ten digits, and values that lie off the grid


class LastDigits(DailyTest):
    """Score = G of the last digits (and off-grid values) of 7 days against the reference before them."""

    name = "digits"
    detector = "last_digit"
    family = "shape"
    kind = "digits"
    kinds = ("typed_digits", "rounded", "scale", "generated")
    innocent = ("resolution_change", "recalibration", "substitute_data")
    needs_reference = False

    def __init__(self, memory: Memory, config: Config) -> None:
        super().__init__(memory, config, memory.indices("pollutant", "flow", "diluent"), config.digits_budget)
        self.why: dict[int, str] = {}

    def measure(self, k: int, day: int) -> Judged | None:
        """Count digits of the week and of the time before it."""
        self.why.pop(k, None)
        to_ms = (day + 1) * DAY_MS
        from_ms = to_ms - self.config.digit_window_hours * HOUR_MS
        at_ms = self.memory.rows.view("at_ms")
        cut, first, last = np.searchsorted(at_ms, [from_ms - 7 * DAY_MS, from_ms, to_ms])
        values = self.memory.rows.view("values")[:, k]
        before = fresh_values(values[:cut] if cut >= _LEAST_REFERENCE else values[:first])
        now = fresh_values(values[first:last])
        if len(before) < _LEAST_REFERENCE or len(now) < self.config.digit_min_values:
            self.why[k] = "too few changing values for a test of digits"
            return None
        step = resolution_of(before, self.memory.channels[k].resolution)
        if step is None:
            self.why[k] = "floating resolution: the last digit has no fixed place"
            return None
        if float(np.median(np.abs(np.diff(before)))) < _LEAST_MOVE * step:
            self.why[k] = "the resolution is too coarse for the movement: last digits are not free"
            return None
        reference, counts = digit_cells(before, step), digit_cells(now, step)
        if float(reference.max()) > _MOST_SHARE * float(reference.sum()):
            self.why[k] = "two resolutions are mixed (one digit is far more common than the others)"
            return None
        statistic = compare(counts, reference)
        top = int(np.argmax(counts / counts.sum() - reference / reference.sum()))
        numbers: dict[str, float | int | str] = {
            "values": len(now),
            "resolution": step,
            "digit": top if top < 10 else "off the grid",
            "share_percent": float(100 * counts[top] / counts.sum()),
            "usual_percent": float(100 * reference[top] / reference.sum()),
            "shift_percent": float(50 * np.abs(counts / counts.sum() - reference / reference.sum()).sum()),
            "counts": ",".join(str(int(c)) for c in counts),
            "reference": ",".join(str(int(c)) for c in reference),
        }
        return Judged(statistic, from_ms, to_ms - 1, numbers)

    def rate(self, k: int, judged: Judged) -> float | None:
        """Widen the chi-square law by how much the channel's own ordinary weeks exceed it."""
        past = self.past[k]
        if float(judged.numbers["shift_percent"]) < 100 * self.config.digits_least_shift:
            return math.inf
        wide = 1.0
        if len(past) >= self.config.calibration_min_days:
            wide = max(1.0, float(np.quantile(np.array(past), 0.9)) / float(stats.chi2.ppf(0.9, _CELLS - 1)))
        p = float(stats.chi2.sf(judged.score / wide, _CELLS - 1))
        return SLIDING * p * DAYS_PER_MONTH * 24 / self.config.digit_window_hours

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """Rank rounding first where nearly all values end in nought."""
        noughts = judged.numbers["digit"] == 0 and float(judged.numbers["share_percent"]) > _NOUGHTS
        return ("rounded", "typed_digits", "scale", "generated") if noughts else self.kinds

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        name, n = self.memory.names[k], judged.numbers
        share, usual = short(float(n["share_percent"])), short(float(n["usual_percent"]))
        en = (
            f"Of {n['values']} values of {name} {share} % end in {n['digit']} at its resolution of "
            f"{short(float(n['resolution']))}; before it was {usual} % (G = {short(judged.score)})."
        )
        digit = "不在分辨率网格上" if n["digit"] == "off the grid" else f"末位为 {n['digit']}"
        zh = (
            f"{name} 的 {n['values']} 个数值中有 {share} % {digit}(分辨率 {short(float(n['resolution']))});"
            f"此前为 {usual} %(G = {short(judged.score)})。"
        )
        counts = [int(c) for c in str(n["counts"]).split(",")]
        reference = [int(c) for c in str(n["reference"]).split(",")]
        plot = {
            "kind": "digits",
            "title_en": f"Last digits of {name}",
            "title_zh": f"{name} 末位数字",
            "series": series_of(self.memory, [k], judged.from_ms, judged.to_ms),
            "histogram": {
                "edges": list(range(_CELLS + 1)),
                "counts": counts,
                "reference": reference,
                "mark": n["digit"] if isinstance(n["digit"], int) else 10,
                "label_en": "last digit (10: off the grid)",
                "label_zh": "末位数字(10:不在网格上)",
            },
        }
        return en, zh, plot

    def notes(self) -> list[Note]:
        """Say where digits carry nothing."""
        waiting = "no day with enough values has been judged yet"
        unjudged = {k: waiting for k in self.tested if not self.past[k] and not self.waiting[k]}
        return [Note(self.detector, self.memory.names[k], why) for k, why in {**unjudged, **self.why}.items()]


def fresh_values(values: Values) -> Values:
    """Keep finite values that differ from the one before and are not zero: repeats are no new digits."""
    values = values[np.isfinite(values)]
    if not len(values):
        return values
    changed = np.concatenate([[True], np.diff(values) != 0])
    kept: Values = values[changed & (values != 0)]
    return kept


def decimals_of(values: Values) -> int | None:
    """Give the fewest decimals that hold nearly all values."""
    for decimals in range(_MOST_DECIMALS + 1):
        scaled = values * 10.0**decimals
        if (
            float((np.abs(scaled - np.round(scaled)) < 1e-6 * np.maximum(1.0, np.abs(scaled))).mean())
            >= _ON_GRID
        ):
            return decimals
    return None


def resolution_of(values: Values, declared: float | None) -> float | None:
    """Give the fixed step of a channel: the declared one when the values keep to it, else the decimals used.

    None when the place of the last digit moves with the size of the value (five significant digits and the like).
    """
    if declared is not None and declared > 0:
        scaled = values / declared
        if float((np.abs(scaled - np.round(scaled)) < 1e-3).mean()) >= _ON_GRID:
            return declared
    decade = np.floor(np.log10(np.abs(values)))
    common = [d for d in np.unique(decade) if (decade == d).sum() >= 30]
    found = {decimals_of(values[decade == d]) for d in common}
    if len(found) != 1 or None in found:
        return None
    decimals = found.pop()
    significant = (decimals or 0) + float(np.median(decade)) + 1
    # One decade only: five digits at every size look the same as a fixed step there, so it stays unknown.
    if significant >= 5 and len(common) < 2:
        return None
    return float(10.0 ** -(decimals or 0))


def digit_cells(values: Values, step: float) -> NDArray[np.float64]:
    """Count last digits 0..9, and off-grid values in an eleventh cell."""
    scaled = values / step
    whole = np.round(scaled)
    on = np.abs(scaled - whole) < 1e-3
    digits = np.where(on, np.abs(whole) % 10, 10).astype(np.int64)
    counts: NDArray[np.float64] = np.zeros(_CELLS)
    np.add.at(counts, digits, 1.0)
    return counts


def compare(counts: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Give the two-sample G; half a count in each cell keeps empty cells harmless."""
    table = np.array([counts, reference]) + 0.5
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return float(2.0 * (table * np.log(table / expected)).sum())
