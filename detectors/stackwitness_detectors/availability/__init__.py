"""Availability: readings missing or marked just when they would have been high, gaps filled in, units that only seem to stand."""

from stackwitness_detectors.availability.idle import KINDS as IDLE_KINDS
from stackwitness_detectors.availability.idle import Idle
from stackwitness_detectors.availability.lines import Lines
from stackwitness_detectors.availability.marked import MarkedHigh
from stackwitness_detectors.availability.missing import MissingWhenHigh

__all__ = ["IDLE_KINDS", "Idle", "Lines", "MarkedHigh", "MissingWhenHigh"]
