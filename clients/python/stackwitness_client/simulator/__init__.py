"""Simulate plants with monitoring systems, honest and forging, reproducibly as functions of time."""

from stackwitness_client.simulator.cheats import Cheat, ForgingPlant
from stackwitness_client.simulator.industries import INDUSTRIES, PlantChannel
from stackwitness_client.simulator.plant import Plant
from stackwitness_client.simulator.province import PROVINCE, UTC_OFFSET_MIN, ProvinceStation
from stackwitness_client.simulator.state import State

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
