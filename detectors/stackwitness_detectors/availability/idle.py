"""Idle in name only: the load says that the unit stands, or says nothing, while the stack goes on as when it runs.

Whoever sends no load, or zeros, takes the hours out of judgement: nobody expects anything of a unit that stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Note
from stackwitness_detectors.daily import DAYS_PER_MONTH, DailyTest, Judged, day_hours
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import series_of, short, span_ms
from stackwitness_detectors.running import least_running, steady_hours
from stackwitness_detectors.tail import monthly_rate

_DAYS = 7
_LEAST_OFF = 24  # hours known to be off that show which channels tell running from standing
_ALIKE_OFF = 0.1  # share of those within the range of running hours: from there on a channel does not tell
_CLEARLY_OFF = 0.25  # share of the telling channels that may look as when it runs
_RANGE = (0.05, 0.95)  # quantiles of running hours
_STEEP = 3.0  # of the law of so many hours within seven days
_NAMED = 3


@dataclass(frozen=True)
class Kind:
    """Say what is counted: loads that say "off", or loads that are missing; `hours` of them in seven days come `rate` a month."""

    name: str
    known: bool
    hours: float
    rate: float


# Eleven real and twelve simulated stations with a load (370 station-months) never had one such hour with a load that was
# sent, so half of the upper bound stands for four of them; a meter that is out for a day every ten months is ordinary.
KINDS = (Kind("idle_load", True, 4.0, 0.005), Kind("load_withheld", False, 24.0, 0.1))


@dataclass(frozen=True)
class Running:
    """Hold how the unit runs: the load above which it does, and between what each telling channel then lies."""

    least: float
    ranges: dict[int, tuple[float, float]]


class Idle(DailyTest):
    """Score = hours of the last seven days with such a load in which most telling channels lie where they do when the unit runs."""

    family = "availability"
    kinds = ("status_abuse", "missing_when_high", "joint_scale")
    innocent = ("covariate_fault", "acquisition_hold", "process_fault")

    def __init__(self, memory: Memory, config: Config, kind: Kind) -> None:
        self.name = self.detector = self.kind = kind.name
        self.counted = kind
        companions = memory.indices("flow", "diluent", "temperature", "process")
        self.companions = companions or memory.indices("pollutant")
        loads = memory.indices("load")[:1] if self.companions else []
        super().__init__(memory, config, loads, config.idle_budget / len(KINDS))
        self.running: Running | None = None

    def measure(self, k: int, day: int) -> Judged | None:
        """Count the hours of the last seven days."""
        self._renew(k, day)
        running = self.running
        if running is None or not running.ranges:
            return None
        rows = day_hours(self.memory, day, _DAYS)
        load, mean = self.memory.hours.view("mean")[rows, k], self.memory.hours.view("mean")[rows]
        off = load <= running.least if self.counted.known else np.isnan(load)
        runs, least = _share_as_running(mean, running.ranges) > 0.5, running.least
        told = np.flatnonzero(off & runs)
        first = int(self.memory.hours.view("hour")[rows][told[0]]) // 24 if told.size else day
        numbers: dict[str, float | int | str] = {
            "hours": len(told), "running_hours": int((runs & ~off).sum()), "least_load": least, "days": _DAYS,
        }  # fmt: skip
        return Judged(float(len(told)), first * DAY_MS, (day + 1) * DAY_MS - 1, numbers)

    def rate(self, k: int, judged: Judged) -> float | None:
        """Take the law of the kind, and the channel's own past where it has known such hours."""
        past, kind = self.past[k], self.counted
        if judged.score <= 0:
            return None
        law: float = kind.rate * (kind.hours / judged.score) ** _STEEP
        if not past or max(past) <= 0:
            return law
        own = monthly_rate(judged.score, past, len(past) / DAYS_PER_MONTH, self.config, exponent=_STEEP)
        return max(law, own)

    def _renew(self, k: int, day: int) -> None:
        """Learn anew, once a week, how the unit runs; what is known stays where too few such hours are left to learn from."""
        if self.running is not None and day % self.config.refit_days:
            return
        rows = slice(0, day_hours(self.memory, day - self.config.young_lag_days + 1).start)
        hour, mean = self.memory.hours.view("hour")[rows], self.memory.hours.view("mean")[rows]
        use = ~self.memory.hours.view("claimed")[rows].any(axis=1)
        load = np.where(use, mean[:, k], np.nan)
        least = least_running(load)
        steady, off = steady_hours(hour, load), load <= least
        if self.running is not None and self.running.ranges:
            # What is told must not teach how the stack looks when the unit stands; an honest one is learned as its own past.
            off &= _share_as_running(mean, self.running.ranges) <= _CLEARLY_OFF
        if steady.sum() >= self.config.reference_min_hours:
            ranges = {c: _range(mean[steady, c], mean[off, c]) for c in self.companions}
            self.running = Running(least, {c: found for c, found in ranges.items() if found is not None})

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        n, load = judged.numbers, self.memory.channels[k]
        told = list(self.running.ranges if self.running else ())[:_NAMED]
        names = [self.memory.names[c] for c in told]
        least = f"{short(float(n['least_load']))} {load.unit}"
        said_en = (
            f"said at most {least} (standstill)" if self.counted.known else "was not sent or not measured"
        )
        said_zh = f"不高于 {least}(停运)" if self.counted.known else "未上传或无效"
        en = (
            f"{load.name} {said_en} in {n['hours']} h of {n['days']} days in which {', '.join(names)} went on as they do when "
            f"the unit runs (before in at most {longest:.0f} h). Such hours are left out of what is expected of the station."
        )
        zh = (
            f"{n['days']} 天内有 {n['hours']} 小时 {load.name} {said_zh},而 {'、'.join(names)} 与运行时无异"
            f"(此前最多 {longest:.0f} 小时)。这些小时不再参与对该站的预期判断。"
        )
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        plot = {
            "kind": "hold",
            "title_en": f"{load.name} and a stack that goes on",
            "title_zh": f"{load.name} 与仍在运行的烟道",
            "series": series_of(self.memory, [k, *told[:1]], first, last),
        }
        return en, zh, plot

    def notes(self) -> list[Note]:
        """Say where it is not known yet how the unit runs, or nothing tells it."""
        names = [self.memory.names[k] for k in self.tested]
        if self.running is None:
            return [
                Note(self.detector, name, "history", "fewer than ten days in which the unit ran")
                for name in names
            ]
        if not self.running.ranges:
            return [
                Note(self.detector, name, "companion", "no channel tells running from standing")
                for name in names
            ]
        return []

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        ranges = {} if self.running is None else self.running.ranges
        kept = {self.memory.names[c]: [low, high] for c, (low, high) in ranges.items()}
        return {
            **super().dump(),
            "least": None if self.running is None else self.running.least,
            "ranges": kept,
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back; channels that are gone tell nothing any more."""
        super().load(tree)
        if tree["least"] is not None:
            here = {self.memory.names[c]: c for c in self.companions}
            kept = {here[name]: (low, high) for name, (low, high) in tree["ranges"].items() if name in here}
            self.running = Running(tree["least"], kept)


def _range(running: NDArray[np.float64], off: NDArray[np.float64]) -> tuple[float, float] | None:
    """Give between what a channel lies while the unit runs; None where it lies there, too, when the unit stands, or never moves."""
    running, off = running[np.isfinite(running)], off[np.isfinite(off)]
    if running.size < _LEAST_OFF:
        return None
    low, high = (float(q) for q in np.quantile(running, _RANGE))
    alike = float(((off >= low) & (off <= high)).mean()) if off.size >= _LEAST_OFF else 0.0
    return None if alike > _ALIKE_OFF or low == high else (low, high)


def _share_as_running(
    mean: NDArray[np.float64], ranges: dict[int, tuple[float, float]]
) -> NDArray[np.float64]:
    """Give for hours [n, C] the share of the telling channels that were measured which lie where they do when the unit runs."""
    known = np.column_stack([np.isfinite(mean[:, c]) for c in ranges]).sum(axis=1)
    within = np.column_stack(
        [(mean[:, c] >= low) & (mean[:, c] <= high) for c, (low, high) in ranges.items()]
    )
    share: NDArray[np.float64] = within.sum(axis=1) / np.maximum(known, 1)
    return share
