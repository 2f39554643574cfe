"""Calibration: gas that is not the stack's, seen by its edges and clock hours."""

from stackwitness_detectors.calibration.pulses import Pulses, pulses

__all__ = ["Pulses", "pulses"]
