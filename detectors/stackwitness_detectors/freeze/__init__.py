"""Freezes: a value that stands still longer than this channel ever does."""

from stackwitness_detectors.freeze.holds import Holds

__all__ = ["Holds"]
