"""Copies: the same sequence of values seen before at another time."""

from stackwitness_detectors.copy.matches import Copies

__all__ = ["Copies"]
