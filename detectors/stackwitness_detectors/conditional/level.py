"""Level: the reported value lies below what the model expects, for six hours up to a month, against the days before."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stackwitness_detectors.catalogue import LOOK_AT_PROCESS
from stackwitness_detectors.conditional.courses import course_costs, onset
from stackwitness_detectors.conditional.ledger import Ledger
from stackwitness_detectors.conditional.residuals import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note
from stackwitness_detectors.daily import DailyTest, Judged, day_hours
from stackwitness_detectors.memory import DAY_MS, PROCESS, Memory
from stackwitness_detectors.plots import rough, short

_LEAST_HOURS = 6
_WEEK = 7
_SAME = 0.5  # of the shift: what moves so far along with the channel moves with it
_COURSES = {
    "share": ("scale", "scale_after_rounding", "offset", "span_change", "inspection_honest", "drift"),
    "amount": ("offset", "scale", "offset_audited", "scale_after_rounding", "span_change"),
    "ramp": ("drift", "scale", "offset", "scale_after_rounding", "span_change"),
    "high": ("limit_aware_scale", "altered_records", "scale", "clip", "averaging_game"),
    "hours": ("calibration_gas", "zero_air", "averaging_game", "scale"),
    "mixed": ("altered_records", "scale", "invented_records", "generated"),
}
_MIXED = 1.8  # the residuals spread so much wider than usual: records are altered one by one


class Level(DailyTest):
    """Score = how far the rarest window lies off the days before it, in shares; pollutants, flows and loads: only lower."""

    name = "level"
    detector = "level"
    family = "conditional"
    kind = "level_low"
    kinds = ("scale", "offset", "drift", "replay_disguised", "generated", "dilution", "span_change")
    innocent = ("recalibration", "treatment_change", "fuel_change", "covariate_fault", "instrument_fault")

    def __init__(self, memory: Memory, config: Config, residuals: Residuals) -> None:
        super().__init__(memory, config, residuals.modelled, config.level_budget)
        self.residuals = residuals
        self.ledgers = {k: Ledger(config) for k in self.tested}
        self.least: dict[int, tuple[float, float]] = {}

    def past_days(self, k: int) -> list[int]:
        """Take over every remembered day when a model has just been fitted for the first time."""
        if not self.residuals.fresh.get(k):
            return []
        days = np.unique(self.memory.hours.view("hour") // 24)
        return [int(day) for day in days[:-1].tolist()]

    def measure(self, k: int, day: int) -> Judged | None:
        """Enter the day; judge the newest one in all windows."""
        ledger = self.ledgers[k]
        residual = self.residuals.residual(k, day_hours(self.memory, day))
        if k not in self.residuals.models or not ledger.add(day, residual, _LEAST_HOURS):
            return None
        if day != int(self.memory.hours.view("hour")[-1]) // 24:
            return None
        spread = self.residuals.models[k].residual_spread
        if day % _WEEK == 0:
            self._settle(k, spread)
        least = self.config.level_least_shortfall if self.residuals.models[k].logarithmic else 0.0
        found = ledger.rarest(spread, least=least)
        upwards = False
        if self._sides(k) > 1:
            risen = ledger.rarest(spread, upwards=True, least=least)
            if risen is not None and (found is None or risen.rate < found.rate):
                found, upwards = risen, True
        if found is None:
            return None
        days = max(1, math.ceil(found.days))
        from_day = int(ledger.rows[-days, 0])
        rows = day_hours(self.memory, day, min(day - from_day + 1, 60))
        known = np.isfinite(self.residuals.residual(k, rows))
        model, hours = self.residuals.models[k], self.memory.hours
        expected = model.restore(model.transform(hours.view("expected")[rows, k][known]) + found.base)
        numbers: dict[str, float | int | str] = {
            "reported": float(hours.view("mean")[rows, k][known].mean()),
            "expected": float(expected.mean()),
            "hours": 6 if found.days < 1 else int(known.sum()),
            "window_days": found.days,
            "compared_days": found.base_days,
            "model_r2": model.r2,
            "shift_percent": 100 * math.expm1(found.size if upwards else -found.size),
            "largest_before": found.largest,
            "direction": "above" if upwards else "below",
        }
        if found.gathered > 0:
            numbers |= {"gathered": found.gathered, "gathered_before": found.gathered_before}
        if not model.logarithmic:
            del numbers["shift_percent"]
        rate = found.rate * self._sides(k)
        if rate <= self.allowed(k):
            numbers["course"] = self._course(k, rows, found.base)
            numbers["together"] = self._together(k, found.size, upwards)
            if k in self.least and model.logarithmic:
                numbers |= {
                    "delta_min_pct": -100 * math.expm1(-self.least[k][0]),
                    "delta_min_days": self.least[k][1],
                }
        return Judged(found.size, from_day * DAY_MS, (day + 1) * DAY_MS - 1, numbers, rate)

    def _sides(self, k: int) -> float:
        return 2.0 if self.memory.channels[k].role in PROCESS else 1.0

    def allowed(self, k: int) -> float:
        """Return this channel's part of the budget: by what its model explains, less for what is no pollutant."""
        return self.budget * self.residuals.part(k, self.tested)

    def _settle(self, k: int, spread: float) -> None:
        """Work out what shift could not be told at this channel now."""
        least = self.ledgers[k].least(spread, self.allowed(k) / self._sides(k))
        if least is not None:
            self.least[k] = (max(least[0], self.config.level_least_shortfall), least[1])

    def rate(self, k: int, judged: Judged) -> float | None:
        """Take the rate of the rarest window, where the shift is worth a word."""
        shift = judged.numbers.get("shift_percent")
        if shift is not None and abs(float(shift)) < 100 * self.config.level_least_shortfall:
            return math.inf
        return judged.least_rate

    def _flag(self, k: int, judged: Judged, rate: float) -> list[Finding]:
        self.ledgers[k].flag(judged.from_ms // DAY_MS)
        return super()._flag(k, judged, rate)

    def _course(self, k: int, rows: slice, base: float) -> str:
        """Name the course that fits the window best."""
        model = self.residuals.models[k]
        residual = self.residuals.residual(k, rows)
        known = np.isfinite(residual)
        if not model.logarithmic or known.sum() < 24:
            return "share"
        hours = self.memory.hours
        expected = hours.view("expected")[rows, k][known] * math.exp(base)
        hour = hours.view("hour")[rows][known].astype(np.float64)
        off = residual[known] - base
        costs = course_costs(off, expected, hour, self.memory.channels[k].limit)
        best = min(costs, key=lambda name: costs[name])
        wide = float(np.std(off[onset(off) :])) > _MIXED * model.residual_spread
        return "mixed" if wide and best not in ("hours", "high") else best

    def _together(self, k: int, size: float, upwards: bool) -> str:
        """Name the roles of what has shifted along on the newest days: load, oxygen, other pollutants."""
        moved = []
        for j in self.tested:
            if j == k or not len(self.ledgers[j].rows):
                continue
            channel = self.memory.channels[j]
            if j not in self.residuals.models:
                continue
            spread = self.residuals.models[j].residual_spread
            shift = self.ledgers[j].rarest(spread)
            risen = self.ledgers[j].rarest(spread, upwards=True) if channel.role == "diluent" else None
            limit = 30.0 * self.allowed(j)
            if channel.role == "diluent" and risen is not None and risen.rate <= limit:
                moved.append("diluent_up")
            elif shift is not None and shift.rate <= limit and shift.size > _SAME * abs(size):
                moved.append(channel.role)
        return " ".join(sorted(set(moved)))

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """Rank by the course the shortfall takes and by what moved along."""
        together = str(judged.numbers.get("together", "")).split()
        first: tuple[str, ...] = ()
        above = judged.numbers.get("direction") == "above"
        if above and self.residuals.process:
            return ("offset", "scale", "drift", "span_change", "generated")
        if above:
            return ("dilution", "o2_low", "zero_air", "calibration_gas")
        if "load" in together or "flow" in together:
            first = ("joint_scale",)
        if "diluent_up" in together:
            first = (*first, "dilution")
        elif "pollutant" in together:
            first = (*first, "dilution_forged_o2")
        rest = _COURSES.get(str(judged.numbers.get("course", "share")), self.kinds)
        return (*first, *rest)

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        drivers_en, drivers_zh = self.residuals.drivers()
        by = f" ({rough(float(n['shift_percent']))} %)" if "shift_percent" in n else ""
        reported, expected = short(float(n["reported"])), short(float(n["expected"]))
        compared = n["compared_days"]
        before_en, before_zh = _beside(n, judged.score, self.residuals.process and n["direction"] == "above")
        en = (
            f"{channel.name} averaged {reported} {channel.unit} over {n['hours']} h where {drivers_en}, and its own "
            f"{compared} days before, lead one to expect {expected}{by}; {before_en} (model R2 {float(n['model_r2']):.2f})."
        )
        zh = (
            f"{channel.name} 在 {n['hours']} 小时内平均 {reported} {channel.unit},而按{drivers_zh}及此前 {compared} 天预期为 "
            f"{expected}{by};{before_zh}(模型 R2 {float(n['model_r2']):.2f})。"
        )
        below = n["direction"] == "below"
        title_en, title_zh = (
            f"{channel.name} {'below' if below else 'above'} expectation",
            f"{channel.name} {'低' if below else '高'}于预期",
        )
        plot = self.residuals.picture(k, judged.from_ms, judged.to_ms, title_en, title_zh)
        return en, zh, plot

    def look_at(self) -> tuple[str, str]:
        """Where a process is judged there is no probe to look at."""
        return LOOK_AT_PROCESS if self.residuals.process else super().look_at()

    def notes(self) -> list[Note]:
        """Say which channels have no calibration yet, and below what shift the others cannot be judged."""
        need = self.config.calibration_min_days + self.config.reference_lag_days
        have = {k: len(self.ledgers[k].rows) for k in self.tested}
        known = [k for k in self.tested if k in self.least and have[k] >= need]
        names, models = self.memory.names, self.residuals.models
        return self.too_few("days with residuals in the reference", have, need) + [
            Note(
                self.detector,
                names[k],
                "below",
                undetectable(*self.least[k]),
                (
                    ("days", self.least[k][1]),
                    ("percent", round(-100 * math.expm1(-self.least[k][0]), 2)),
                    ("since_ms", int(self.ledgers[k].rows[need - 1, 0]) * DAY_MS),
                ),
            )
            for k in known
            if k in models and models[k].logarithmic
        ]

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        names = self.memory.names
        return {
            **super().dump(),
            "ledgers": {names[k]: ledger.rows for k, ledger in self.ledgers.items()},
            "least": {names[k]: list(least) for k, least in self.least.items()},
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back."""
        super().load(tree)
        for k, ledger in self.ledgers.items():
            name = self.memory.names[k]
            ledger.rows = tree["ledgers"].get(name, ledger.rows)
            if name in tree.get("least", {}):
                self.least[k] = tuple(tree["least"][name])


def _beside(n: dict[str, float | int | str], score: float, above: bool) -> tuple[str, str]:
    """Word how large such a shift had been before: of one window, or gathered over days."""
    if "gathered" in n:
        now, before = rough(float(n["gathered"])), rough(float(n["gathered_before"]))
        return (
            f"the {'excesses' if above else 'shortfalls'} of these days add up to {now} spreads beyond 1.5 a day, before that to {before} at most",
            f"这些天超出每日 1.5 倍离散度的偏移累计为 {now},此前最高为 {before}",
        )
    largest, now = rough(float(n["largest_before"])), rough(score)
    return (
        f"the largest such shift before was {largest}, now {now}",
        f"此前最大的同类偏移为 {largest},现为 {now}",
    )


def undetectable(shift: float, days: float) -> str:
    """Say what could not be seen: a shift (log) below `shift`, whose best window is `days` days."""
    window = "six hours" if days < 1 else "1 day" if days == 1 else f"{days:g} days"
    return f"not detectable here: shifts below {-100 * math.expm1(-shift):.2g} % (best window {window})"
