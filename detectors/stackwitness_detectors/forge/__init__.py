"""Forge readings as real forgers did: pure, seeded, one channel (and what belongs to it), one interval.

Detectors are measured with these forgeries and demos are run with them. Nothing outside the interval is ever
touched, and readings that are not normal (calibration, maintenance, missing) stay as they are; only
`backfill` fills gaps. docs/forge.md lists the kinds.
"""

from __future__ import annotations

from stackwitness_detectors.forge.attacker import Attack, Frontier, attack, frontier, score_by_run
from stackwitness_detectors.forge.kinds import KINDS
from stackwitness_detectors.forge.making import forge
from stackwitness_detectors.forge.mass import HiddenMass, hidden_mass
from stackwitness_detectors.forge.plan import Injection, assume_limits, inject, plan
from stackwitness_detectors.forge.registry import DURATIONS, LEVELS, Forgery
from stackwitness_detectors.forge.window import ForgeError, Surroundings, forgeable_channels

__all__ = [
    "DURATIONS",
    "KINDS",
    "LEVELS",
    "Attack",
    "ForgeError",
    "Forgery",
    "Frontier",
    "HiddenMass",
    "Injection",
    "Surroundings",
    "assume_limits",
    "attack",
    "forge",
    "forgeable_channels",
    "frontier",
    "hidden_mass",
    "inject",
    "plan",
    "score_by_run",
]
