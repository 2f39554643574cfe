"""Lower than the neighbours: what they lead one to expect, judged in nine windows and in sum like the level of one station."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding
from stackwitness_detectors.daily import Judged
from stackwitness_detectors.fleet.apart import Apart
from stackwitness_detectors.fleet.beside import FleetLedger, look_beside
from stackwitness_detectors.fleet.kin import Kin
from stackwitness_detectors.fleet.table import FleetMemory
from stackwitness_detectors.memory import DAY_MS
from stackwitness_detectors.plots import rough

_LEAST_HOURS = 6
_LEAST_SPREAD = 0.05  # hourly, logarithms: nobody gets all of a station's budget for being quiet


class Lower(Apart):
    """Score = how far the rarest window lies below what most neighbours say, against the days before it, in logarithms."""

    name = "lower"
    detector = "lower_than_neighbours"
    kind = "lower_than_neighbours"
    kinds = ("scale", "offset", "dilution", "span_change", "drift", "altered_records", "joint_scale")

    def __init__(self, fleet: FleetMemory, config: Config, kin: Kin, budget: float) -> None:
        super().__init__(fleet, config, kin, budget, 1)
        self.ledgers = {k: FleetLedger(config) for k in self.tested}
        self.logarithmic: dict[int, bool] = {}
        self.spread: dict[int, float] = {}

    def measure(self, k: int, day: int) -> Judged | None:
        """Enter the day; judge the newest one in all windows."""
        beside = look_beside(self.kin, k, day)
        if beside is None:
            self.spread.pop(k, None)
            return None
        self.spread[k] = beside.spread
        ledger, logarithmic = self.ledgers[k], bool(self.fleet.logarithmic[k])
        if self.logarithmic.get(k, logarithmic) != logarithmic:
            ledger = self.ledgers[k] = FleetLedger(self.config)  # other units: earlier days say nothing
        self.logarithmic[k] = logarithmic
        if not ledger.weigh(day, beside, _LEAST_HOURS):
            return None
        least = self.config.level_least_shortfall if logarithmic else 0.0
        found = ledger.rarest(beside.spread, least=least)
        if found is None:
            return None
        rows = ledger.rows[-max(1, math.ceil(found.days)) :]
        numbers: dict[str, float | int | str] = {
            "neighbours": beside.peers,
            "effect": found.size,
            "station": self.fleet.stn_of[beside.middle],
            "station_channel": self.fleet.channel_of[beside.middle],
            "hours": 6 if found.days < 1 else self._hours(k, int(rows[0, 0]), day),
            "window_days": found.days,
            "compared_days": found.base_days,
            "largest_before": found.largest,
        }
        if logarithmic:
            numbers["shift_percent"] = 100 * math.expm1(-found.size)
        if found.gathered > 0:
            numbers |= {"gathered": found.gathered, "gathered_before": found.gathered_before}
        return Judged(found.size, int(rows[0, 0]) * DAY_MS, (day + 1) * DAY_MS - 1, numbers, found.rate)

    def _hours(self, k: int, from_day: int, day: int) -> int:
        return int(np.isfinite(self.fleet.window(k, (day + 1) * 24, (day + 1 - from_day) * 24)).sum())

    def allowed(self, k: int) -> float:
        """Return this channel's part of what its station may give: the closer the neighbours tell it, the more."""
        own = [j for j in self.fleet.columns(self.fleet.stn_of[k]) if j in self.ledgers]
        weights = {j: 1.0 / max(self.spread[j], _LEAST_SPREAD) for j in own if j in self.spread}
        whole = sum(weights.values())
        return self.budget * len(own) * weights[k] / whole if k in weights else self.budget

    def rate(self, k: int, judged: Judged) -> float | None:
        """Take the rate of the rarest window, where the shortfall is worth a word."""
        if self.logarithmic[k] and float(judged.numbers["effect"]) < self.config.level_least_shortfall:
            return math.inf
        return judged.least_rate

    def _flag(self, k: int, judged: Judged, rate: float) -> list[Finding]:
        self.ledgers[k].flag(judged.from_ms // DAY_MS)
        return super()._flag(k, judged, rate)

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        n, channel = judged.numbers, self.fleet.channels[k]
        name = self.fleet.channel_of[k]
        by_en, by_zh = self._by(judged, channel.unit)
        if "gathered" in n:
            now, before = rough(float(n["gathered"])), rough(float(n["gathered_before"]))
            ago_en = f"the shortfalls of these days add up to {now} spreads beyond 1.5 a day, before that to {before} at most"
            ago_zh = f"这些天超出每日 1.5 倍离散度的偏移累计为 {now},此前最高为 {before}"
        else:
            largest, now = rough(float(n["largest_before"])), rough(judged.score)
            ago_en = f"the largest such shift before was {largest}, now {now}"
            ago_zh = f"此前最大的同类偏移为 {largest},现为 {now}"
        en = (
            f"Over {n['hours']} h {name} is {by_en} lower beside most of its {n['neighbours']} related neighbours than in the "
            f"{n['compared_days']} days before; {ago_en}."
        )
        zh = (
            f"{name} 在 {n['hours']} 小时内相对 {n['neighbours']} 个相关站点中的多数比此前 {n['compared_days']} 天低 {by_zh};"
            f"{ago_zh}。"
        )
        return en, zh, self.drawn(k, judged)

    def _by(self, judged: Judged, unit: str) -> tuple[str, str]:
        if "shift_percent" in judged.numbers:
            share = rough(-float(judged.numbers["shift_percent"]))
            return f"{share} %", f"{share}%"
        return f"{rough(judged.score)} {unit}", f"{rough(judged.score)} {unit}"

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        names = self.memory.names
        return {
            **super().dump(),
            "ledgers": {names[k]: ledger.rows.astype(np.float32) for k, ledger in self.ledgers.items()},
            "logarithmic": {names[k]: known for k, known in self.logarithmic.items()},
            "spread": {names[k]: spread for k, spread in self.spread.items()},
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back."""
        super().load(tree)
        here = {self.memory.names[k]: k for k in self.tested}
        for name, rows in tree["ledgers"].items():
            if name in here:
                self.ledgers[here[name]].rows = rows.astype(np.float64)
        self.logarithmic = {here[name]: known for name, known in tree["logarithmic"].items() if name in here}
        self.spread = {here[name]: spread for name, spread in tree["spread"].items() if name in here}
