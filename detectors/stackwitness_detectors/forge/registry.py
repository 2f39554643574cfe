"""Describe every kind of forgery: what it does, how strong, how long, what it needs, whom it copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from stackwitness_detectors.contract import Letters, Values
from stackwitness_detectors.forge.window import ForgeError, Window

Change: TypeAlias = Values | tuple[Values, Letters] | dict[str, Values]
Need: TypeAlias = Literal[
    "history", "earlier days", "a limit", "drivers", "oxygen", "load or flow", "neighbour", "audits"
]
Hides: TypeAlias = Literal["mass", "corrected value", "course"]
Grows: TypeAlias = Literal["hidden", "changed", "distance", "stillness"]

LEVELS = ("faint", "mild", "strong", "gross")
DURATIONS = ("short", "medium", "long")


@dataclass(frozen=True)
class Forgery:
    """Describe one kind.

    `change` makes it. `unit` says what the strength is, `strengths` are the four of LEVELS, `usual` the one
    taken when none is given. `durations_h` are the three of DURATIONS in hours. "a limit" in `needs` is met
    for a channel without one by the level that a fifth of its readings exceed. `hides`: the reported mass,
    the value at reference oxygen, or only the course of the plant. `grows` is what a greater level makes
    greater: the hidden mass, the number of changed readings, their distance from the truth, the stillness.
    """

    kind: str
    family: str
    change: Callable[[Window], Change]
    unit: str
    strengths: tuple[float, float, float, float]
    usual: str
    durations_h: tuple[float, float, float]
    hides: Hides
    grows: Grows
    needs: tuple[Need, ...]
    case: str

    @property
    def lowers_mass(self) -> bool:
        """Tell whether less mass is reported than was emitted (readings marked invalid are not reported)."""
        return self.hides == "mass"

    @property
    def strength(self) -> float:
        """Return the usual strength."""
        return self.strengths[LEVELS.index(self.usual)]

    def strength_of(self, given: float | str | None) -> float:
        """Turn a level's name, a number or None (the usual) into a strength. Raises forge.strength."""
        if given is None:
            return self.strength
        if isinstance(given, str):
            if given not in LEVELS:
                raise ForgeError("forge.strength", f"{given!r} is none of {', '.join(LEVELS)}")
            return self.strengths[LEVELS.index(given)]
        return given
