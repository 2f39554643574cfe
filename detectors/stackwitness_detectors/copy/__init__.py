"""Copies: the same sequence of values seen before at another time, whole, in pieces, or disguised."""

from stackwitness_detectors.copy.likeness import Courses, Likeness
from stackwitness_detectors.copy.matches import Copies
from stackwitness_detectors.copy.pieces import Pieces
from stackwitness_detectors.copy.repeats import Repeats

__all__ = ["Copies", "Courses", "Likeness", "Pieces", "Repeats"]
