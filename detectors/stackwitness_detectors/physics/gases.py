"""Oxygen and carbon dioxide by their quantity, the stoichiometric line and the fuels it fits."""

from __future__ import annotations

import numpy as np

from stackwitness_detectors.contract import ChannelInfo, Values
from stackwitness_detectors.memory import Memory

AIR_O2 = 20.9  # % by volume in dry air (40 CFR 60 App. A, Method 3B)
_O2_MOST, _CO2_LEAST = 19.0, 1.0  # beyond these the line has no meaning: the stack holds air
# Fo = (20.9 - O2) / CO2 by fuel (Method 3B, 12.3).
FUELS: tuple[tuple[str, str, float, float], ...] = (
    ("anthracite or lignite", "无烟煤或褐煤", 1.016, 1.130),
    ("bituminous coal", "烟煤", 1.083, 1.230),
    ("distillate oil", "轻油", 1.260, 1.413),
    ("residual oil", "重油", 1.210, 1.370),
    ("natural gas", "天然气", 1.600, 1.836),
    ("propane", "丙烷", 1.434, 1.586),
    ("wood", "木材", 1.000, 1.120),
)


def oxygen_of(memory: Memory) -> list[int]:
    """Give the positions of oxygen channels."""
    return [k for k, channel in enumerate(memory.channels) if is_oxygen(channel)]


def carbon_dioxide_of(memory: Memory) -> list[int]:
    """Give the positions of carbon dioxide channels in per cent."""
    return [k for k, channel in enumerate(memory.channels) if is_carbon_dioxide(channel)]


def stoichiometric_factor(o2: Values, co2: Values) -> Values:
    """Return Fo = (20.9 - O2) / CO2 [n], O2 and CO2 in % of the same basis; NaN where the stack holds air."""
    sound = (o2 < _O2_MOST) & (o2 > 0.0) & (co2 > _CO2_LEAST)
    factor: Values = np.where(sound, (AIR_O2 - o2) / np.where(sound, co2, 1.0), np.nan)
    return factor


def fuels_of(factor: float) -> tuple[str, str]:
    """Name the fuels whose accepted range holds Fo, in English and Chinese; empty when none does."""
    fitting = [(en, zh) for en, zh, low, high in FUELS if low <= factor <= high]
    return ", ".join(en for en, _ in fitting), "、".join(zh for _, zh in fitting)


def is_oxygen(info: ChannelInfo) -> bool:
    """Tell oxygen by its quantity ("O2", "oxygen", "O2 at the outlet")."""
    words = info.quantity.lower().replace("-", " ").split()
    return info.role == "diluent" and bool({"o2", "oxygen"} & set(words))


def is_carbon_dioxide(info: ChannelInfo) -> bool:
    """Tell carbon dioxide in per cent by its quantity."""
    words = info.quantity.lower().replace("-", " ").replace("carbon dioxide", "co2").split()
    return info.unit.startswith("%") and "co2" in words
