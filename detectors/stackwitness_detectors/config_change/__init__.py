"""Configuration seen in the data: parameters that reported pairs imply, and the converter's range."""

from stackwitness_detectors.config_change.implied import Implied
from stackwitness_detectors.config_change.ranges import Ranges

__all__ = ["Implied", "Ranges"]
