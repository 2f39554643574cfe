"""Freezes: a value that stands still longer than this channel ever does."""

from stackwitness_detectors.freeze.holds import Holds
from stackwitness_detectors.freeze.near import NearHolds

__all__ = ["Holds", "NearHolds"]
