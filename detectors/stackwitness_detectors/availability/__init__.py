"""Availability: readings that are missing or marked just when they would have been high, and gaps filled in."""

from stackwitness_detectors.availability.lines import Lines
from stackwitness_detectors.availability.marked import MarkedHigh
from stackwitness_detectors.availability.missing import MissingWhenHigh

__all__ = ["Lines", "MarkedHigh", "MissingWhenHigh"]
