"""Windows that move too little, too smoothly or too roughly, against the channel's own windows at like load."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note, Values
from stackwitness_detectors.daily import DailyTest, Judged
from stackwitness_detectors.dynamics.course import Course
from stackwitness_detectors.memory import HOUR_MS, Block, Memory
from stackwitness_detectors.plots import rough, series_of, span_ms
from stackwitness_detectors.quantiles import median, quantile

_FILLED = 0.8  # of the window's hours must be there
_MOST_EQUAL = 0.4  # share of equal steps: beyond it the holds are judged, not the movement
_REFERENCE_WINDOWS = 14
_MOST_SCORE = 60.0  # of the exponent: beyond it numbers say nothing more
_RESOLUTION_VALUES = 500
_SET_LOW = 0.95  # of the usual level: set by hand means set lower
_HAND_SPREAD = 0.004  # of the level: a step or two of a thousandth
_HAND_VALUES = 8
_AVERAGED = 0.55  # steps over spread: readings of white noise 1.41, of ordinary signals about 0.7
_EVERY_HOURS = 3  # between two looks at a window within the day


@dataclass(frozen=True)
class Aspect:
    """Describe one test: `odd` gives the log size of the oddness of windows, `sharp` scales it for the tail.

    `loaded`: the oddness depends on how much the load moved meanwhile.
    """

    name: str
    hours: int
    odd: Callable[[dict[str, Values]], Values]
    sharp: float
    loaded: bool
    hourly: bool
    kind: str
    kinds: tuple[str, ...]
    en: str
    zh: str
    title_en: str
    title_zh: str


STILL = "moved by only {now} % of its level within {hours} h (standard deviation); such windows are {usual} % by its own past"
STILL_ZH = "{hours} 小时内的波动(标准差)仅为其水平的 {now} %;按其自身历史,此类时段为 {usual} %"
SMOOTH = "changed by only {now} of its spread from one reading to the next within {hours} h; by its own past it is {usual}"
SMOOTH_ZH = "{hours} 小时内相邻读数之变化仅为其波动的 {now} 倍;按其自身历史为 {usual} 倍"
STEPS = "changed by only {now} % of its level from one reading to the next within {hours} h; by its own past it is {usual} %"
STEPS_ZH = "{hours} 小时内相邻读数之变化仅为其水平的 {now} %;按其自身历史为 {usual} %"
ROUGH = "jumped by {now} of its spread from one reading to the next within {hours} h; by its own past it is {usual}"
ROUGH_ZH = "{hours} 小时内相邻读数之跳动为其波动的 {now} 倍;按其自身历史为 {usual} 倍"

_KNOWING_R2 = 0.8  # of a model that can tell how much a window should move
_STILL_ALIKE = math.log(1.5)  # a load that moves up to half as much again is as still
_LEAST_ALIKE = 3  # past windows: fewer than that tell nothing of a load that stands
_AS_PREDICTED = 0.5  # of that: what moves so much follows its drivers
_STEEPEST = {"still_24h": 5.0, "steps_24h": 4.0, "steps_7d": 4.0, "smooth_7d": 3.0}  # see DailyTest.steepest
_STILL_KINDS = ("near_freeze", "manual_jitter", "smoothed", "freeze", "invented_records")
_SMOOTH_KINDS = ("smoothed", "backfill", "near_freeze", "generated")
_ROUGH_KINDS = ("manual_jitter", "near_freeze", "invented_records", "generated", "altered_records")


def aspects() -> tuple[Aspect, ...]:
    """Give the tests: still in half a day and a day, smooth in a day and a week, rough in a day."""

    def still(w: dict[str, Values]) -> Values:
        return -w["spread"]

    def smooth(w: dict[str, Values]) -> Values:
        return w["spread"] - w["step"]

    def steps(w: dict[str, Values]) -> Values:
        return -w["step"]

    def rough(w: dict[str, Values]) -> Values:
        return w["step"] - w["spread"]

    hardly = ("hardly moves", "几乎不变")
    flat = ("moves too smoothly", "变化过于平滑")
    restless = ("jumps about", "跳动异常")
    return (
        Aspect("still_12h", 12, still, 0.8, True, True, "near_hold", _STILL_KINDS, STILL, STILL_ZH, *hardly),
        Aspect("still_24h", 24, still, 0.9, True, False, "near_hold", _STILL_KINDS, STILL, STILL_ZH, *hardly),
        Aspect("steps_24h", 24, steps, 0.9, True, False, "too_smooth", _SMOOTH_KINDS, STEPS, STEPS_ZH, *flat),
        Aspect("steps_7d", 168, steps, 2.0, True, False, "too_smooth", _SMOOTH_KINDS, STEPS, STEPS_ZH, *flat),
        Aspect("smooth_24h", 24, smooth, 1.2, False, False, "too_smooth", _SMOOTH_KINDS, SMOOTH, SMOOTH_ZH, *flat),
        Aspect("smooth_7d", 168, smooth, 2.5, False, False, "too_smooth", _SMOOTH_KINDS, SMOOTH, SMOOTH_ZH, *flat),
        Aspect("rough_24h", 24, rough, 1.2, False, False, "too_rough", _ROUGH_KINDS, ROUGH, ROUGH_ZH, *restless),
    )  # fmt: skip


class Movement(DailyTest):
    """Score = exp(sharp x oddness above what the load explains), the highest of the windows that end that day."""

    innocent = ("steady_operation", "analyser_hold", "instrument_fault", "treatment_change")

    def __init__(
        self,
        memory: Memory,
        config: Config,
        course: Course,
        aspect: Aspect,
        budget: float,
        residuals: Residuals | None = None,
    ) -> None:
        super().__init__(memory, config, course.tested, budget)
        self.residuals = residuals
        self.course, self.aspect = course, aspect
        self.name = self.detector = aspect.name
        self.steepest = _STEEPEST.get(aspect.name)
        self.kind, self.kinds = aspect.kind, aspect.kinds
        self.family = "freeze" if aspect.kind == "near_hold" else "dynamics"
        self.others: list[Movement] = []
        self.slope: dict[int, list[float]] = {}
        self.unlike: dict[int, int] = {}  # the last hour of a window with too few like it in the past

    def measure(self, k: int, day: int) -> Judged | None:
        """Judge the windows that end in the day's hours (of a week: at its end)."""
        last = day * 24 + 23
        first = last - 23 if self.aspect.hours < 168 else last
        if self.unlike.get(k, first) < first:
            del self.unlike[k]
        if last == int(self.course.table.view("hour")[-1]) // 24 * 24 + 23:
            self._learn_load(k, first)
        return self._odd(k, np.arange(first, last + 1))

    def past_days(self, k: int) -> list[int]:
        """Learn from the days already kept when the load's part has been found for the first time."""
        hour = self.course.table.view("hour")
        if k in self.slope or not len(hour):
            return []
        self._learn_load(k, int(hour[-1]) + 1)
        if k not in self.slope:
            return []
        last = int(hour[-1]) // 24 - self.config.young_lag_days
        return list(range(int(hour[0]) // 24 + 1 + self.aspect.hours // 24, last))

    def hour(self, block: Block) -> list[Finding]:
        """Judge the window that ends with this hour: a still signal need not wait for midnight."""
        findings: list[Finding] = []
        if not self.aspect.hourly or block.hour % _EVERY_HOURS:
            return findings
        for k in self.tested:
            if k not in self.slope or len(self.past[k]) < self.config.calibration_min_days:
                continue
            judged = self._odd(k, np.array([block.hour]))
            rate = None if judged is None else self.rate(k, judged)
            if judged is None or rate is None or rate > self.budget or self.muted(k, block.hour // 24):
                continue
            findings += self._flag(k, judged, rate)
        return findings

    def _odd(self, k: int, ends: NDArray[np.int64]) -> Judged | None:
        a, width = self.aspect, self.aspect.hours
        slope, usual, step = self.slope.get(k, [0.0, 0.0, 0.0])
        w = self.course.windows(k, width, ends, step)
        good = (
            (w["hours"] >= _FILLED * width)
            & (w["pairs"] >= _FILLED * (width - 2))
            & (w["equal"] <= _MOST_EQUAL)
        )
        odd = np.where(good, a.odd(w) + (slope * w["load"] if a.loaded else 0.0), -np.inf)
        if not good.any() or k not in self.slope:
            return None
        at = int(np.argmax(odd))
        over = float(odd[at]) - usual
        size = math.exp(-float(odd[at])) if a.kind != "too_rough" else math.exp(float(odd[at]))
        plain = math.exp(-usual) if a.kind != "too_rough" else math.exp(usual)
        numbers: dict[str, float | int | str] = {
            "hours": width, "now": size, "usual": plain, "times": math.exp(abs(over)), "level": float(w["level"][at]),
        }  # fmt: skip
        to_ms = (int(ends[at]) + 1) * HOUR_MS - 1
        numbers["step_share"] = math.exp(float(w["step"][at] - w["spread"][at]))
        numbers["usual_level"] = self.course.level.get(k, (math.nan, 1.0))[0]
        numbers["distinct"] = self._distinct(k, to_ms + 1 - width * HOUR_MS, to_ms)
        return Judged(math.exp(min(a.sharp * over, _MOST_SCORE)), to_ms + 1 - width * HOUR_MS, to_ms, numbers)

    def _distinct(self, k: int, from_ms: int, to_ms: int) -> int:
        """Count the different readings of a window."""
        at_ms = self.memory.rows.view("at_ms")
        first, last = np.searchsorted(at_ms, [from_ms, to_ms + 1])
        values = self.memory.rows.view("values")[first:last, k]
        return len(set(values[np.isfinite(values)].tolist()))

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """Tell a signal set by hand (another level, a few values) from a noisy hold and from an average."""
        n = judged.numbers
        low = float(n["level"]) < _SET_LOW * float(n["usual_level"])
        if self.kind == "near_hold":
            if low and float(n["now"]) < _HAND_SPREAD and int(n["distinct"]) <= _HAND_VALUES:
                return ("manual_jitter", "near_freeze", "invented_records", "freeze")
            if float(n["step_share"]) < _AVERAGED:
                return ("smoothed", "near_freeze", "backfill", "manual_jitter")
        if self.kind == "too_smooth" and float(n["step_share"]) > 1.0:
            # Not smooth but small: noise about a held value.
            return (
                ("manual_jitter", "near_freeze", "smoothed")
                if low
                else ("near_freeze", "manual_jitter", "smoothed")
            )
        if self.kind == "too_rough" and float(n["now"]) > 1.0 and int(n["distinct"]) > _HAND_VALUES:
            return ("invented_records", "near_freeze", "manual_jitter", "altered_records")
        return self.kinds

    def rate(self, k: int, judged: Judged) -> float | None:
        """Leave alone what a good model of the channel leads one to expect: the drivers stood still as well."""
        rate = super().rate(k, judged)
        if rate is None or rate > self.budget or not self.aspect.loaded:
            return rate
        return math.inf if self._driven(k, judged) or self._still_with_load(k, judged) else rate

    def _still_with_load(self, k: int, judged: Judged) -> bool:
        """Tell whether the load stood so still that the past has no window to compare with, or one as odd.

        A slope learned where the load moves says little of a day at full load: only windows whose load moved as little do.
        """
        hour, width = self.course.table.view("hour"), self.aspect.hours
        last = judged.to_ms // HOUR_MS
        ends = np.append(self._past_ends(hour, last), last)
        if self.course.load_at is None or len(ends) <= _REFERENCE_WINDOWS:
            return False
        w = self.course.windows(k, width, ends, self.slope[k][2])
        good = (w["hours"] >= _FILLED * width) & (w["equal"] <= _MOST_EQUAL)
        alike = good[:-1] & (w["load"][:-1] <= w["load"][-1] + _STILL_ALIKE)
        if int(alike.sum()) < _LEAST_ALIKE:
            self.unlike[k] = last
            return True
        odd = self.aspect.odd(w)
        return float(odd[-1]) <= float(odd[:-1][alike].max())

    def _past_ends(self, hour: NDArray[np.int64], before: int) -> NDArray[np.int64]:
        """Give the last hours of the windows of the past, a fortnight back, without overlap where there are enough."""
        lag = 24 * (self.config.young_lag_days if len(hour) < 24 * 40 else self.config.reference_lag_days)
        if not len(hour):
            return np.empty(0, np.int64)
        return np.arange(int(hour[0]) + self.aspect.hours - 1, before - lag, min(self.aspect.hours, 24))

    def _driven(self, k: int, judged: Judged) -> bool:
        model = self.residuals.models.get(k) if self.residuals is not None else None
        if model is None or model.r2 < _KNOWING_R2 or not model.logarithmic:
            return False
        hours = self.memory.hours
        first, last = np.searchsorted(
            hours.view("hour"), [judged.from_ms // HOUR_MS, judged.to_ms // HOUR_MS + 1]
        )
        mean, expected = hours.view("mean")[first:last, k], hours.view("expected")[first:last, k]
        known = np.isfinite(mean) & np.isfinite(expected) & (expected > 0)
        if known.sum() < _FILLED * self.aspect.hours:
            return False
        moves, ought = float(np.std(mean[known])), expected[known]
        predicted = math.hypot(float(np.std(ought)), model.residual_spread * float(np.mean(ought)))
        return moves > _AS_PREDICTED * predicted

    def _learn_load(self, k: int, before: int) -> None:
        """Ask the past windows how the oddness hangs on the load's movement; keep slope, median, resolution."""
        width = self.aspect.hours
        ends = self._past_ends(self.course.table.view("hour"), before)
        if len(ends) < _REFERENCE_WINDOWS:
            return
        step = resolution(self.memory, k)
        w = self.course.windows(k, width, ends, step)
        good = (w["hours"] >= _FILLED * width) & (w["equal"] <= _MOST_EQUAL)
        if good.sum() < _REFERENCE_WINDOWS:
            return
        odd, load = self.aspect.odd(w)[good], w["load"][good]
        slope = 0.0
        if self.aspect.loaded and float(np.var(load)) > 1e-6:
            centred = load - load.mean()
            slope = min(max(-float(centred @ odd) / float(centred @ centred), 0.0), 1.0)
        self.slope[k] = [slope, median(odd + slope * load), step]

    def muted(self, k: int, day: int) -> bool:
        """Leave it to another window of the same that already speaks, or to a hold."""
        return any(self.memory.names[k] in other.episodes for other in self.others)

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        a, channel, n = self.aspect, self.memory.channels[k], judged.numbers
        times = 100.0 if "%" in a.en else 1.0
        said = {
            "now": rough(times * float(n["now"])), "usual": rough(times * float(n["usual"])), "hours": a.hours,
        }  # fmt: skip
        en = f"{channel.name} {a.en.format(**said)} ({rough(float(n['times']))} times)."
        zh = f"{channel.name} {a.zh.format(**said)}(相差 {rough(float(n['times']))} 倍)。"
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        shown = [k] + ([self.course.load_at] if self.course.load_at is not None else [])
        plot = {
            "kind": "hold",
            "title_en": f"{channel.name} {a.title_en}",
            "title_zh": f"{channel.name} {a.title_zh}",
            "series": series_of(self.memory, shown, first, last),
        }
        return en, zh, plot

    def notes(self) -> list[Note]:
        """Say which channels have too few days behind them, and where the load stood as it seldom does."""
        short = self.short_reference("days of ordinary movement")
        told = {note.channel for note in short}
        return short + [
            Note(
                self.detector,
                self.memory.names[k],
                "history",
                f"it hardly moves, but nor does the load: fewer than {_LEAST_ALIKE} earlier windows with a load so still",
                (("hours", self.aspect.hours), ("need", _LEAST_ALIKE)),
            )
            for k in sorted(self.unlike)
            if self.memory.names[k] not in told
        ]

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        names = self.memory.names
        return {
            **super().dump(),
            "slope": {names[k]: known for k, known in self.slope.items()},
            "unlike": {names[k]: hour for k, hour in self.unlike.items()},
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back."""
        super().load(tree)
        here = {self.memory.names[k]: k for k in self.tested}
        self.slope = {here[name]: known for name, known in tree["slope"].items() if name in here}
        self.unlike = {here[name]: hour for name, hour in tree["unlike"].items() if name in here}


def resolution(memory: Memory, k: int) -> float:
    """Give the step of a channel: the declared one, or the least usual step of its latest readings."""
    declared = memory.channels[k].resolution
    if declared is not None and declared > 0:
        return declared
    values = memory.rows.view("values")[-_RESOLUTION_VALUES:, k]
    steps = np.abs(np.diff(values[np.isfinite(values)]))
    steps = steps[steps > 0]
    return quantile(steps, 0.02) if steps.size >= 50 else 0.0


def movements(
    memory: Memory, config: Config, course: Course, residuals: Residuals | None = None
) -> list[Movement]:
    """Make the tests of one station; those that say the same know of each other."""
    still = sum(a.kind == "near_hold" for a in aspects())
    made = []
    for a in aspects():
        still_one = a.kind == "near_hold"
        share = (
            config.near_freeze_budget / still
            if still_one
            else config.dynamics_budget / (len(aspects()) - still)
        )
        made.append(Movement(memory, config, course, a, share, residuals))
    for one in made:
        one.others = [other for other in made if other is not one and other.kind == one.kind]
    return made
