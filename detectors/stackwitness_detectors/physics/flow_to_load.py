"""Flow to load: the ratio of flow (or heat input) to load near one load, against a reference ratio that stays.

40 CFR 75 App. B 2.2.5: Eh = 100 |Rref - Rh| / Rref over at least 168 hours with load within 10 % of the reference load;
their mean Ef must not exceed 15 % (20 % below 60 MW; 10 and 15 % for bias-adjusted flow). The rule takes its reference
from the last relative accuracy test; here it is the first 168 hours of the year, since no such test is reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note, Values
from stackwitness_detectors.daily import SLIDING, DailyTest, Judged, day_hours, operating
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import plain, rough, series_of, short, span_ms

_HOURS = 168
_QUARTER_DAYS = 92
_NEAR = 0.1  # of the reference load
_YEAR_DAYS = 365
_LEVELS = np.arange(0.1, 0.96, 0.05)  # quantiles of load that are tried as the reference load
_SMALL_MW = 60.0
_LEAST_PERCENT = 10.0
_LEAST_PAST = 45  # days: the windows overlap by a week


@dataclass(frozen=True)
class Normal:
    """Hold the reference: day it was made, load, ratio."""

    day: int
    load: float
    ratio: float


class FlowToLoad(DailyTest):
    """Score = Ef, the mean absolute difference in % of the latest 168 hours near the reference load."""

    name = "flow_to_load"
    detector = "flow_to_load"
    family = "physics"
    kind = "flow_to_load"
    kinds = ("scale", "joint_scale", "offset", "drift", "span_change", "generated")
    innocent = ("fuel_change", "recalibration", "instrument_fault", "covariate_fault")

    def __init__(self, memory: Memory, config: Config) -> None:
        self.driver = memory.indices("load")[:1]
        flows = memory.indices("flow") if self.driver else []
        super().__init__(memory, config, flows, config.flow_to_load_budget)
        self.running: NDArray[np.bool_] = np.empty(0, np.bool_)
        self.normal: dict[int, Normal] = {}
        self.days: dict[int, list[list[float]]] = {k: [] for k in self.tested}  # day, hours, sum |e|, sum e

    def _ratios(self, k: int, rows: slice) -> tuple[Values, Values]:
        hours = self.memory.hours
        off = (hours.view("claimed")[rows] | hours.view("marked")[rows])[:, [k, *self.driver]].any(axis=1)
        load, flow = hours.view("mean")[rows, self.driver[0]], hours.view("mean")[rows, k]
        good = ~off & self.running[rows] & (load > 0) & (flow > 0)
        return np.where(good, load, np.nan), np.where(good, flow / np.where(good, load, 1.0), np.nan)

    def day(self, day: int) -> list[Finding]:
        """Judge the day among the hours in which the unit runs."""
        self.running = operating(self.memory)
        return super().day(day)

    def _refer(self, k: int, day: int) -> None:
        known = self.normal.get(k)
        if known is not None and day - known.day < _YEAR_DAYS:
            return
        load, ratio = self._ratios(k, slice(0, len(self.memory.hours)))
        usable = load[np.isfinite(load)]
        if len(usable) < _HOURS:
            return
        levels = np.quantile(usable, _LEVELS)
        near = [int((np.abs(usable - level) <= _NEAR * level).sum()) for level in levels.tolist()]
        level = float(levels[int(np.argmax(near))])
        chosen = np.flatnonzero(np.abs(load - level) <= _NEAR * level)[:_HOURS]
        if len(chosen) == _HOURS:
            self.normal[k] = Normal(day, level, float(ratio[chosen].mean()))
            self.days[k] = []

    def measure(self, k: int, day: int) -> Judged | None:
        """Take in the day; average the newest 168 hours near the reference load."""
        self._refer(k, day)
        normal = self.normal.get(k)
        if normal is None:
            return None
        load, ratio = self._ratios(k, day_hours(self.memory, day))
        near = np.abs(load - normal.load) <= _NEAR * normal.load
        if not near.any():
            return None
        off = ratio[near] / normal.ratio - 1.0
        kept = self.days[k]
        kept.append([float(day), float(len(off)), float(np.abs(off).sum()), float(off.sum())])
        del kept[:-_QUARTER_DAYS]
        lines = np.array([line for line in kept if line[0] > day - _QUARTER_DAYS])[::-1]
        hours = np.cumsum(lines[:, 1])
        if hours[-1] < _HOURS:
            return None
        last = int(np.argmax(hours >= _HOURS))
        count, absolute, signed = (float(lines[: last + 1, i].sum()) for i in (1, 2, 3))
        limit = 20.0 if normal.load < _SMALL_MW else 15.0
        numbers: dict[str, float | int | str] = {
            "ef_percent": 100 * absolute / count, "mean_percent": 100 * signed / count, "hours": int(count),
            "reference_load": normal.load, "reference_ratio": normal.ratio, "limit_percent": limit,
            "ratio": normal.ratio * (1.0 + signed / count),
        }  # fmt: skip
        return Judged(100 * absolute / count, int(lines[last, 0]) * DAY_MS, (day + 1) * DAY_MS - 1, numbers)

    def rate(self, k: int, judged: Judged) -> float | None:
        """Ask the channel's own past; what would pass the stricter figure of the rule is not told."""
        if judged.score < _LEAST_PERCENT:
            return math.inf
        if len(self.past[k]) < _LEAST_PAST:
            return None
        rate = super().rate(k, judged)
        return None if rate is None else SLIDING * rate

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        load = self.memory.channels[self.driver[0]]
        ef, mean = (rough(float(n[key])) for key in ("ef_percent", "mean_percent"))
        at = short(float(n["reference_load"]))
        fails = judged.score > float(n["limit_percent"])
        en = (
            f"{channel.name} per {load.name} lay {ef} % off its reference on average over {n['hours']} h at {at} {load.unit} "
            f"+- 10 % ({mean} % with its sign; largest before {rough(longest)} %). The flow-to-load test of 40 CFR 75 App. B "
            f"2.2.5 allows {short(float(n['limit_percent']))} %: {'failed' if fails else 'not failed'}."
        )
        zh = (
            f"{channel.name} 与 {load.name} 之比在 {at} {load.unit}(±10%)的 {n['hours']} 小时内平均偏离基准 {ef} %"
            f"(带符号 {mean} %;此前最大 {rough(longest)} %)。40 CFR 75 附录 B 2.2.5 的流量负荷比检验允许 "
            f"{short(float(n['limit_percent']))} %:{'不合格' if fails else '合格'}。"
        )
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        hour = self.memory.hours.view("hour") * 3_600_000
        rows = slice(*(int(i) for i in np.searchsorted(hour, [first, last + 1])))
        step = max(1, -(-(rows.stop - rows.start) // self.config.plot_points))
        middle = self.memory.hours.view("mean")[rows, self.driver[0]][::step] * float(n["reference_ratio"])
        good, share = np.isfinite(middle), float(n["limit_percent"]) / 100
        lines = [plain(middle[good] * factor) for factor in (1 - share, 1.0, 1 + share)]
        plot = {
            "kind": "residual",
            "title_en": f"{channel.name} and what its load makes of it",
            "title_zh": f"{channel.name} 与按负荷推算的数值",
            "series": series_of(self.memory, [k, self.driver[0]], first, last),
            "band": {"t": hour[rows][::step][good].tolist(), "lo": lines[0], "mid": lines[1], "hi": lines[2]},
        }
        return en, zh, plot

    def notes(self) -> list[Note]:
        """Say where there is no reference ratio yet."""
        names = self.memory.names
        return [
            Note(self.detector, names[k], "history", "fewer than 168 hours near one load")
            for k in self.tested
            if k not in self.normal
        ] + [
            Note(
                self.detector,
                names[k],
                "history",
                f"fewer than {_LEAST_PAST} days behind its reference ratio",
                (("have", len(self.past[k])), ("need", _LEAST_PAST)),
            )
            for k in self.normal
            if len(self.past[k]) < _LEAST_PAST
        ]

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        names = self.memory.names
        return {
            **super().dump(),
            "normal": {names[k]: [n.day, n.load, n.ratio] for k, n in self.normal.items()},
            "days": {names[k]: np.array(d, np.float64).reshape(-1, 4) for k, d in self.days.items()},
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back; channels that are no longer tested are forgotten."""
        super().load(tree)
        here = {self.memory.names[k]: k for k in self.tested}
        for name, (day, load, ratio) in tree["normal"].items():
            if name in here:
                self.normal[here[name]] = Normal(int(day), float(load), float(ratio))
                self.days[here[name]] = tree["days"][name].tolist()
