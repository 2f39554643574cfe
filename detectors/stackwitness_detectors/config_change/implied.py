"""Implied parameters: what pairs of reported channels say of the constant between them, hour by hour.

A corrected value is raw x (21 - O2 ref) / (21 - O2), a mass rate is concentration x flow, a dry value wet / (1 - water).
Such a constant is exact but for rounding: a step of it is another parameter (area, pitot factor, reference oxygen,
slope), and single hours off it have had one of their values changed afterwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stackwitness_detectors.config import Config
from stackwitness_detectors.config_change.moves import Move, move_of
from stackwitness_detectors.config_change.relations import Relation, relations_of
from stackwitness_detectors.contract import Finding, Note, Values
from stackwitness_detectors.daily import DailyTest, Judged
from stackwitness_detectors.memory import DAY_MS, HOUR_MS, Memory
from stackwitness_detectors.plots import plain, series_of, short, span_ms, thin
from stackwitness_detectors.shape.units import decimals_of

_LEAST_ROWS = 240
_TRIED_ROWS = 1000  # of the remembered ones, evenly
_LEAST_DAYS = 7
_RETRY_DAYS = 7
_EXACT, _LOOSE = 0.01, 0.03  # spread and 90 % quantile of a constant that still counts as one
_LEAST_SWING = 0.01  # of the target: two constants have any relation
_COARSE = 0.05  # readings whose rounding moves the constant further say nothing
_FLOOR = 0.0005  # of the constant: sums of single steps of rounding inside the logger
_LEAST_HOURS = 6
_LEAST_CHANGE = 0.005  # of the constant
_REFERENCE_DAYS, _LEAST_REFERENCE, _LAG_DAYS = 28, 5, 7
_STEP_SHARE = 0.9
_TIGHT = 3.0  # slacks: a reference that never left its rounding is arithmetic


@dataclass(frozen=True)
class Hours:
    """Hold per hour of a day: log constant, how far rounding may move it, log product, gap of the oxygen to air."""

    constant: Values
    slack: Values
    product: Values
    gap: Values


class Implied(DailyTest):
    """Score = second largest hourly |log constant - usual| of the day, in units of what rounding allows."""

    name = "implied"
    detector = "implied"
    family = "config"
    kind = "parameter_moved"
    kinds = ("scale", "scale_after_rounding", "span_change", "offset")
    innocent = ("parameter_filed", "recalibration", "instrument_fault", "acquisition_hold")

    def __init__(self, memory: Memory, config: Config) -> None:
        self.proposed = relations_of(memory)
        super().__init__(memory, config, sorted(self.proposed), config.implied_budget)
        self.chosen: dict[int, Relation] = {}
        self.steps: dict[int, list[float]] = {}
        self.constants: dict[int, list[list[float]]] = {k: [] for k in self.tested}
        self.fresh: dict[int, list[int]] = {}

    def past_days(self, k: int) -> list[int]:
        """Choose the relation when there are rows enough; learn from the days it was chosen on."""
        today = int(self.memory.hours.view("hour")[-1]) // 24
        if k in self.chosen or (today % _RETRY_DAYS and k in self.fresh):
            return []
        self.fresh[k] = []
        first = int(self.memory.hours.view("hour")[0]) // 24
        if today - first < _LEAST_DAYS or not self._choose(k):
            return []
        at_ms = self.memory.rows.view("at_ms")
        days = [int(day) for day in np.unique(at_ms // DAY_MS).tolist() if day < today]
        for day in days:
            self._enter(k, day)
        return [day for day in days if day <= today - self.config.young_lag_days]

    def _choose(self, k: int) -> bool:
        rows = self.memory.rows.view("values")
        rows = rows[:: max(1, len(rows) // _TRIED_ROWS)]
        best: tuple[float, Relation] | None = None
        for relation in self.proposed[k]:
            with np.errstate(all="ignore"):
                known = relation.constant(rows)
            known = known[np.isfinite(known)]
            if known.size < _LEAST_ROWS:
                continue
            off = np.abs(known - np.median(known))
            spread = 1.4826 * float(np.median(off))
            if (
                spread <= _EXACT
                and float(np.quantile(off, 0.9)) <= _LOOSE
                and (best is None or spread < best[0])
            ):
                best = (spread, relation)
        target = rows[:, k][rows[:, k] > 0]
        if best is None or float(np.std(np.log(target))) < _LEAST_SWING:
            return False
        self.chosen[k] = best[1]
        self.steps[k] = [self._step(j) for j in best[1].channels]
        return True

    def _step(self, k: int) -> float:
        declared = self.memory.channels[k].resolution
        values = self.memory.rows.view("values")[:, k]
        places = decimals_of(values[np.isfinite(values)][-_LEAST_ROWS:])
        found = 0.0 if places is None else 10.0**-places
        return max(declared or 0.0, found)

    def _hours(self, k: int, day: int) -> Hours:
        at_ms = self.memory.rows.view("at_ms")
        first, last = np.searchsorted(at_ms, [day * DAY_MS, (day + 1) * DAY_MS])
        rows, relation = self.memory.rows.view("values")[first:last], self.chosen[k]
        steps = np.zeros(len(self.memory.names))
        steps[list(relation.channels)] = self.steps[k]
        columns = np.stack(
            [
                relation.constant(rows),
                _FLOOR + relation.slack(rows, steps),
                relation.product(rows),
                relation.gap(rows),
            ]
        )
        known = np.isfinite(columns[0]) & (columns[1] < _COARSE)
        hour, columns = at_ms[first:last][known] // HOUR_MS, columns[:, known]
        edges = np.flatnonzero(np.diff(hour)) + 1
        if len(hour) and len(edges) + 1 < len(hour):
            columns = np.stack([np.median(part, axis=1) for part in np.split(columns, edges, axis=1)], axis=1)
        return Hours(columns[0], columns[1], columns[2], columns[3])

    def _enter(self, k: int, day: int) -> None:
        kept = self.constants[k]
        logs = self._hours(k, day).constant
        if len(logs) >= _LEAST_HOURS and (not kept or day > kept[-1][0]):
            kept.append([float(day), float(np.median(logs)), 0.0])
            del kept[: -2 * self.config.told_days]

    def _usual(self, k: int, day: int) -> float | None:
        forgiven = day - self.config.told_days
        sound = [c for c in self.constants[k] if c[0] < day and (not c[2] or c[0] <= forgiven)]
        older = [c[1] for c in sound if c[0] <= day - _LAG_DAYS][-_REFERENCE_DAYS:]
        usual = older if len(older) >= _LEAST_REFERENCE else [c[1] for c in sound]
        return float(np.median(usual)) if len(usual) >= _LEAST_REFERENCE else None

    def measure(self, k: int, day: int) -> Judged | None:
        """Solve the day's hours for the constant; compare with the usual one."""
        if k not in self.chosen:
            return None
        hours, usual = self._hours(k, day), self._usual(k, day)
        self._enter(k, day)
        if usual is None or len(hours.constant) < _LEAST_HOURS:
            return None
        off = hours.constant - usual
        score = float(np.sort(np.abs(off) / hours.slack)[-2])
        moved = np.abs(off) > np.maximum(_LEAST_CHANGE, 2.0 * hours.slack)
        numbers: dict[str, float | int | str] = {
            "hours": len(off), "hours_off": int(moved.sum()), "factor_before": math.exp(usual),
            "rounding_percent": 100 * float(np.median(hours.slack)), "relation": self.chosen[k].what,
        }  # fmt: skip
        if moved.sum() >= 2:
            power = self.chosen[k].oxygen_power
            move = move_of(off, moved, hours.product + usual, (hours.gap, power) if power else None)
            numbers |= self._numbers(k, move, usual)
        return Judged(max(score, 1.0), day * DAY_MS, (day + 1) * DAY_MS - 1, numbers)

    def _numbers(self, k: int, move: Move, usual: float) -> dict[str, float | int | str]:
        numbers: dict[str, float | int | str] = {
            "factor_now": math.exp(usual + move.size), "change_percent": 100 * math.expm1(move.size), "move": move.name,
            "implied_slope": move.slope, "implied_intercept": move.intercept,
        }  # fmt: skip
        air = self.chosen[k].air
        if air is not None and self.chosen[k].oxygen_power == -1:
            numbers["reference_oxygen_before"] = air - math.exp(usual)
            numbers["reference_oxygen_now"] = air - math.exp(usual + move.size)
        return numbers

    def rate(self, k: int, judged: Judged) -> float | None:
        """Leave alone what is too small to matter, however exact the relation."""
        rate = super().rate(k, judged)
        return math.inf if rate is not None and int(judged.numbers["hours_off"]) < 2 else rate

    def impossible(self, k: int, judged: Judged) -> bool:
        """Arithmetic that holds in most hours cannot fail in the others."""
        off, hours = int(judged.numbers["hours_off"]), int(judged.numbers["hours"])
        return off < _STEP_SHARE * hours and max(self.past[k], default=math.inf) <= _TIGHT

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """Rank by how the constant moved."""
        return _KINDS.get(str(judged.numbers.get("move", "share")), self.kinds)

    def _flag(self, k: int, judged: Judged, rate: float) -> list[Finding]:
        for entry in self.constants[k]:
            if entry[0] >= judged.from_ms // DAY_MS:
                entry[2] = 1.0
        return super()._flag(k, judged, rate)

    def _finding(self, k: int, extends: bool) -> Finding:
        finding = super()._finding(k, extends)
        return replace(finding, channels=tuple(self.memory.names[j] for j in self.chosen[k].channels))

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        n, names, channel = judged.numbers, self.memory.names, self.memory.channels[k]
        others = [names[j] for j in self.chosen[k].channels[1:]]
        before, now, by = (short(float(n[key])) for key in ("factor_before", "factor_now", "change_percent"))
        within = short(float(n["rounding_percent"]))
        oxygen_en = oxygen_zh = ""
        if "reference_oxygen_now" in n:
            was, is_now = (short(float(n[f"reference_oxygen_{when}"])) for when in ("before", "now"))
            oxygen_en = f" As a reference oxygen that is {is_now} % instead of {was} %."
            oxygen_zh = f"折合基准氧含量由 {was} % 变为 {is_now} %。"
        en = (
            f"{channel.name} follows from {' and '.join(others)} by arithmetic. In {n['hours_off']} of {n['hours']} hours the "
            f"factor between them was {now}, before {before} ({by} %; rounding explains {within} %).{oxygen_en}"
        )
        zh = (
            f"{channel.name} 由 {'、'.join(others)} 计算得出。{n['hours']} 小时中有 {n['hours_off']} 小时两者间的系数为 {now},"
            f"此前为 {before}({by} %;取整误差仅 {within} %)。{oxygen_zh}"
        )
        return en, zh, self._picture(k, judged, float(np.log(float(n["factor_before"]))))

    def _picture(self, k: int, judged: Judged, usual: float) -> dict[str, Any]:
        name = self.memory.names[k]
        first, last = span_ms(self.memory, judged.from_ms, judged.to_ms)
        at_ms = self.memory.rows.view("at_ms")
        rows = slice(*(int(i) for i in np.searchsorted(at_ms, [first, last + 1])))
        chosen = thin(at_ms[rows], self.memory.config.plot_points)
        values = self.memory.rows.view("values")[rows][chosen]
        middle = np.exp(self.chosen[k].product(values) + usual)
        at = np.flatnonzero(np.isfinite(middle))
        lines = [plain(middle[at] * math.exp(sign * _LEAST_CHANGE)) for sign in (-1, 0, 1)]
        plot: dict[str, Any] = {
            "kind": "residual",
            "title_en": f"{name} and what the other channels make of it",
            "title_zh": f"{name} 与由其他通道推算的数值",
            "series": series_of(self.memory, [k, self.chosen[k].channels[1]], first, last),
            "band": {"t": at_ms[rows][chosen][at].tolist(), "lo": lines[0], "mid": lines[1], "hi": lines[2]},
        }
        limit = self.memory.channels[k].limit
        return plot if limit is None else {**plot, "limit": limit}

    def notes(self) -> list[Note]:
        """Say where no arithmetic holds, or not long enough yet."""
        names = self.memory.names
        loose = [k for k in self.tested if k not in self.chosen]
        why = "no arithmetic ties it to the other channels to within one per cent"
        return [Note(self.detector, names[k], "unexplained", why) for k in loose] + [
            note for note in self.short_reference("days with both channels") if note.channel not in {names[k] for k in loose}
        ]  # fmt: skip

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state; channels by name."""
        names = self.memory.names
        relations = {
            names[k]: {"factors": [[names[j], form, power] for j, form, power in r.factors], "what": r.what, "steps": self.steps[k]}
            for k, r in self.chosen.items()
        }  # fmt: skip
        constants = {
            names[k]: np.array(kept, np.float64).reshape(-1, 3) for k, kept in self.constants.items()
        }
        return {
            **super().dump(),
            "relations": relations,
            "constants": constants,
            "tried": [names[k] for k in self.fresh],
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back; a relation whose channels are gone is chosen anew."""
        super().load(tree)
        here = {name: k for k, name in enumerate(self.memory.names)}
        self.fresh = {here[name]: [] for name in tree["tried"] if here.get(name) in self.tested}
        for name, fields in tree["relations"].items():
            if here.get(name) in self.tested and all(c in here for c, _, _ in fields["factors"]):
                factors = tuple((here[c], str(form), int(power)) for c, form, power in fields["factors"])
                self.chosen[here[name]] = Relation(here[name], factors, fields["what"])
                self.steps[here[name]] = [float(step) for step in fields["steps"]]
                self.constants[here[name]] = tree["constants"][name].tolist()


_KINDS = {
    "share": ("scale", "span_change", "scale_after_rounding", "drift", "offset"),
    "amount": ("offset", "offset_audited", "scale", "span_change"),
    "oxygen": ("o2_low", "dilution_forged_o2", "scale", "span_change"),
    "high": ("limit_aware_scale", "clip", "bunch", "averaging_game"),
    "single": ("altered_records", "typed_digits", "backfill", "calibration_gas"),
    "loose": ("replay_exact", "generated", "replay_disguised", "invented_records", "freeze"),
}
