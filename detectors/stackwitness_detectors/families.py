"""The families in the order in which they speak: later ones leave alone what a freeze or copy explains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackwitness_detectors.availability import MissingWhenHigh
from stackwitness_detectors.conditional import Dependence, Level, Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.copy import Copies, Pieces, Repeats
from stackwitness_detectors.daily import DailyTest
from stackwitness_detectors.freeze import Holds, NearHolds
from stackwitness_detectors.gathered import Gathered
from stackwitness_detectors.memory import Memory
from stackwitness_detectors.second_opinion import SecondOpinion
from stackwitness_detectors.shape import LastDigits, LimitDensity

if TYPE_CHECKING:
    from stackwitness_detectors.engine import Family


def families_of(memory: Memory, config: Config) -> list[Family]:
    """Make the families of one station."""
    residuals = Residuals(memory, config)
    level = Level(memory, config, residuals)
    near = NearHolds(memory, config)
    dependence = Dependence(memory, config, residuals)
    named = [near, level, dependence, LastDigits(memory, config), LimitDensity(memory, config)]
    missing = MissingWhenHigh(memory, config, residuals)
    second = SecondOpinion(memory, config, residuals, [*named, missing])
    pieces = Pieces(memory, config)
    day, week = Repeats(memory, config, pieces, 1), Repeats(memory, config, pieces, 7)
    day.others, week.others = [week], [day]
    copies = [Copies(memory, config), pieces, day, week]
    families = [Holds(memory, config), *copies, residuals, *named, missing, second]
    return [*families, Gathered(memory, config, [f for f in families if isinstance(f, DailyTest)])]
