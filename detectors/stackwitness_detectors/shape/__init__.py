"""The shape of the numbers: their last digits, and their density round the limit."""

from stackwitness_detectors.shape.density import LimitDensity
from stackwitness_detectors.shape.digits import LastDigits

__all__ = ["LastDigits", "LimitDensity"]
