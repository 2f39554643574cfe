"""Availability: readings that are missing just when they would have been high."""

from stackwitness_detectors.availability.missing import MissingWhenHigh

__all__ = ["MissingWhenHigh"]
