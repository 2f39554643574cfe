"""Simulate plants with monitoring systems, honest and forging, reproducibly as functions of time."""

from stackwitness_client.simulator.cheats import Cheat, ForgingPlant
from stackwitness_client.simulator.industries import INDUSTRIES, PlantChannel
from stackwitness_client.simulator.plant import Plant, State
from stackwitness_client.simulator.province import PROVINCE, UTC_OFFSET_MIN, ProvinceStation

__all__ = [
    "INDUSTRIES",
    "PROVINCE",
    "UTC_OFFSET_MIN",
    "Cheat",
    "ForgingPlant",
    "Plant",
    "PlantChannel",
    "ProvinceStation",
    "State",
]
