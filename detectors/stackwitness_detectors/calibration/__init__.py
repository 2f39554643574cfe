"""Calibration: gas that is not the stack's, curves of calibrations, and the hours they are put on."""

from stackwitness_detectors.calibration.challenge import Challenge
from stackwitness_detectors.calibration.convenient import Convenient
from stackwitness_detectors.calibration.pulses import Pulses, pulses

__all__ = ["Challenge", "Convenient", "Pulses", "pulses"]
