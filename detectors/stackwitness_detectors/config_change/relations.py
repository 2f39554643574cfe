"""Channels that arithmetic ties together: corrected to raw, mass rate to concentration times flow, wet to dry.

What a channel is follows from its quantity, unit and role. Several forms are proposed for each target (reference
oxygen against 20.9 or 21 %, with or without moisture and temperature); the readings choose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from stackwitness_detectors.contract import ChannelInfo, Values
from stackwitness_detectors.memory import Memory
from stackwitness_detectors.physics.gases import is_carbon_dioxide, is_oxygen

_RATE = re.compile(r"^(mg|g|kg|t|lb)/(s|min|h|hr|d)$")
_CONCENTRATION = re.compile(r"^(ug|µg|μg|mg|g)/(n|s)?m3$|^pp[mb]")
_FLOW = re.compile(r"^(n|s)?m3/(s|min|h|hr|d)$|^k?[ds]?scf[hm]$")
_SAID = (
    "at of the in a an as by to on o2 ref reference corrected standard normal dry wet raw measured mass rate flow"
    " emission emissions concentration conc hourly converted"
)
_SAID_OF_A_VALUE = frozenset(_SAID.split())
_SAID_IN_CHINESE = re.compile("折算|浓度|排放量|排放速率|实测|标干|湿基|干基|小时")
_AIR = {"air_20.9": 20.9, "air_21": 21.0}
_MOST_FORMS = 32

Factor = tuple[int, str, int]


@dataclass(frozen=True)
class Relation:
    """Say that target = constant x product of factors: (channel, form, power). `what` names the constant."""

    target: int
    factors: tuple[Factor, ...]
    what: str

    @property
    def channels(self) -> tuple[int, ...]:
        """Give the target and all factors."""
        return (self.target, *(k for k, _, _ in self.factors))

    @property
    def air(self) -> float | None:
        """Give the oxygen of air that the form uses, None without oxygen."""
        return next((_AIR[form] for _, form, _ in self.factors if form in _AIR), None)

    @property
    def oxygen_power(self) -> int:
        """Give the power of (air - O2) in the product, 0 without oxygen."""
        return next((power for _, form, power in self.factors if form in _AIR), 0)

    def gap(self, rows: Values) -> Values:
        """Give air - O2 for rows [n, C], NaN without oxygen."""
        found = np.full(len(rows), np.nan)
        for k, form, _ in self.factors:
            if form in _AIR:
                found = _shifted(form, rows[:, k])
        return found

    def product(self, rows: Values) -> Values:
        """Give the log of the product of the factors for rows [n, C]; NaN where a factor has no meaning."""
        total = np.zeros(len(rows))
        for k, form, power in self.factors:
            total = total + power * np.log(_shifted(form, rows[:, k]))
        return total

    def constant(self, rows: Values) -> Values:
        """Give the log of the constant that each of the rows [n, C] implies."""
        implied: Values = np.log(_shifted("value", rows[:, self.target])) - self.product(rows)
        return implied

    def slack(self, rows: Values, steps: Values) -> Values:
        """Give how far rounding to `steps` [C] may move the log of the constant, for rows [n, C]."""
        total = np.zeros(len(rows))
        for k, form, power in ((self.target, "value", 1), *self.factors):
            total = total + abs(power) * 0.5 * steps[k] / np.abs(_shifted(form, rows[:, k]))
        return total


def _shifted(form: str, v: Values) -> Values:
    if form in _AIR:
        v = _AIR[form] - v
    elif form == "dry":
        v = 100.0 - v
    elif form == "kelvin":
        v = 273.15 + v
    return np.where(v > 0, v, np.nan)


def relations_of(memory: Memory) -> dict[int, list[Relation]]:
    """Propose relations for each channel that may be computed from others of its station."""
    found: dict[int, list[Relation]] = {}
    for relation in _proposed(memory):
        forms = found.setdefault(relation.target, [])
        if len(forms) < _MOST_FORMS:
            forms.append(relation)
    return found


def _proposed(memory: Memory) -> Iterator[Relation]:
    channels = memory.channels
    gases = {k: _gas_of(c) for k, c in enumerate(channels) if c.role in ("pollutant", "process")}
    strong = [k for k in gases if _CONCENTRATION.match(_unit(channels[k]))]
    flows = [
        k for k in memory.indices("flow") if _FLOW.match(_unit(channels[k])) or _unit(channels[k]) == "m/s"
    ]
    for k in gases:
        if _RATE.match(_unit(channels[k])):
            for c, f in product([c for c in strong if gases[c] == gases[k]], flows):
                yield Relation(k, ((c, "value", 1), (f, "value", 1)), "rate")
    bases = _bases(memory)
    for at, k in enumerate(strong):
        for c in strong[:at]:
            if gases[c] == gases[k]:
                yield from (Relation(k, ((c, "value", 1), *more), _what(more)) for more in bases)
    for at, k in enumerate(flows):
        for f in flows[:at]:
            if _place(channels[f]) == _place(channels[k]):
                yield from (Relation(k, ((f, "value", 1), *more), "flow") for more in _states(memory))
    yield from _heat(memory, flows)


def _bases(memory: Memory) -> list[tuple[Factor, ...]]:
    """Propose what turns a concentration into that on another basis: oxygen, moisture, both or neither."""
    oxygen: list[tuple[Factor, ...]] = [()]
    for k, channel in enumerate(memory.channels):
        if is_oxygen(channel):
            oxygen += [((k, form, power),) for form in _AIR for power in (-1, 1)]
    water: list[tuple[Factor, ...]] = [()]
    for k in _moisture(memory):
        water += [((k, "dry", -1),), ((k, "dry", 1),)]
    return [(*a, *b) for b in water for a in oxygen]


def _states(memory: Memory) -> list[tuple[Factor, ...]]:
    """Propose what turns a flow or velocity into a flow at standard conditions: temperature, moisture."""
    warm: list[tuple[Factor, ...]] = [()]
    for k in memory.indices("temperature"):
        warm += [((k, "kelvin", -1),), ((k, "kelvin", 1),)]
    water: list[tuple[Factor, ...]] = [()]
    for k in _moisture(memory):
        water += [((k, "dry", 1),), ((k, "dry", -1),)]
    return [(*a, *b) for b in water for a in warm]


def _heat(memory: Memory, flows: list[int]) -> Iterator[Relation]:
    """Propose heat input = flow x CO2 / Fc or flow x (20.9 - O2) / Fd (40 CFR 75 App. F 5.2)."""
    for k in memory.indices("flow", "process"):
        if "heat" not in memory.channels[k].quantity.lower() or k in flows:
            continue
        for f in flows:
            for j, channel in enumerate(memory.channels):
                if is_carbon_dioxide(channel):
                    yield Relation(k, ((f, "value", 1), (j, "value", 1)), "heat")
                if is_oxygen(channel):
                    yield Relation(k, ((f, "value", 1), (j, "air_20.9", 1)), "heat")


def _moisture(memory: Memory) -> list[int]:
    return [k for k in memory.indices("moisture") if memory.channels[k].unit.startswith("%")]


def _what(more: tuple[Factor, ...]) -> str:
    return "oxygen" if any(form in _AIR for _, form, _ in more) else "factor"


def _unit(channel: ChannelInfo) -> str:
    return channel.unit.lower().replace(" ", "").replace("³", "3")


def _words(channel: ChannelInfo) -> list[str]:
    plain = _SAID_IN_CHINESE.sub(" ", channel.quantity.lower())
    return [word for word in re.split(r"[^\w.]+", plain) if word]


def _gas_of(channel: ChannelInfo) -> tuple[str, str]:
    """Give what is measured and where: the first word that says more than how it is expressed."""
    words = [word for word in _words(channel) if word not in _SAID_OF_A_VALUE and not word[0].isdigit()]
    return (words[0] if words else "", _place(channel))


def _place(channel: ChannelInfo) -> str:
    text = channel.quantity.lower()
    return "inlet" if "inlet" in text or "入口" in text or "进口" in text else ""
