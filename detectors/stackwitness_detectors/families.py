"""The families in the order in which they speak: later ones leave alone what a freeze or copy explains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackwitness_detectors.availability import IDLE_KINDS, Idle, Lines, MarkedHigh, MissingWhenHigh
from stackwitness_detectors.calibration import Challenge, Convenient, pulses
from stackwitness_detectors.conditional import Dependence, Exceedances, Level, Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.config_change import Implied, Ranges
from stackwitness_detectors.copy import Copies, Courses, Likeness, Pieces, Repeats
from stackwitness_detectors.daily import DailyTest
from stackwitness_detectors.dynamics import Course, Loose, movements, responses
from stackwitness_detectors.freeze import Holds
from stackwitness_detectors.inspections import Visits
from stackwitness_detectors.memory import Memory
from stackwitness_detectors.physics import CommonMode, FlowToLoad, OxygenLine, Saturation
from stackwitness_detectors.second_opinion import SecondOpinion
from stackwitness_detectors.shape import Comb, DigitReader, EqualMeans, Grid, Heaps, LimitDensity, ceilings

if TYPE_CHECKING:
    from stackwitness_detectors.engine import Family


def families_of(memory: Memory, config: Config) -> list[Family]:
    """Make the families of one station."""
    residuals = Residuals(memory, config)
    level = Level(memory, config, residuals)
    dependence = Dependence(memory, config, residuals)
    course, reader = Course(memory), DigitReader(memory, config)
    digits: list[DailyTest] = [
        Grid(memory, config, reader),
        Heaps(memory, config, reader),
        Comb(memory, config, reader),
    ]
    limits: list[DailyTest] = [
        LimitDensity(memory, config),
        *ceilings(memory, config, residuals),
        EqualMeans(memory, config),
    ]
    moving: list[DailyTest] = [
        *movements(memory, config, course, residuals),
        *responses(memory, config, residuals),
        Loose(memory, config, residuals),
    ]
    named: list[DailyTest] = [
        level,
        Exceedances(memory, config, residuals),
        OxygenLine(memory, config, residuals),
        Visits(memory, config, residuals, level),
        dependence,
        *moving,
        *digits,
        *limits,
        *pulses(memory, config, residuals),
        Implied(memory, config),
        Ranges(memory, config, reader),
        CommonMode(memory, config, residuals),
        FlowToLoad(memory, config),
        Saturation(memory, config),
        Challenge(memory, config),
        Convenient(memory, config, residuals),
    ]
    marked = MarkedHigh(memory, config)
    missing = MissingWhenHigh(memory, config, residuals, marked)
    idle = [Idle(memory, config, kind) for kind in IDLE_KINDS]
    filled: list[DailyTest] = [Lines(memory, config, reader), marked, *idle]
    pieces = Pieces(memory, config)
    day, week = Repeats(memory, config, pieces, 1), Repeats(memory, config, pieces, 7)
    day.others, week.others = [week], [day]
    courses = Courses(memory, config)
    likeness = [Likeness(memory, config, days, courses, residuals) for days in (1, 2, 7)]
    for one in likeness:
        one.others = [other for other in likeness if other is not one]
    second = SecondOpinion(memory, config, residuals, [*named, missing, *filled, day, week, *likeness])
    if residuals.process:
        for test in (level, *moving, second):
            test.innocent = ("process_fault", *test.innocent)
    copies: list[Family] = [Copies(memory, config), pieces, day, week, *likeness]
    return [Holds(memory, config), *copies, course, residuals, *named, missing, *filled, second]
