"""Dynamics: how a channel moves from reading to reading, and whether it still follows its drivers' steps."""

from stackwitness_detectors.dynamics.course import Course
from stackwitness_detectors.dynamics.loose import Loose
from stackwitness_detectors.dynamics.movement import Movement, movements
from stackwitness_detectors.dynamics.response import Response, responses

__all__ = ["Course", "Loose", "Movement", "Response", "movements", "responses"]
