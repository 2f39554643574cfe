"""Pure forgery detectors: arrays in, findings out."""

from stackwitness_detectors.codec import state_hash
from stackwitness_detectors.config import Config, config_hash
from stackwitness_detectors.contract import ChannelInfo, Context, DetectorError, Finding, Frame, Note, Result
from stackwitness_detectors.engine import run

__all__ = [
    "ChannelInfo",
    "Config",
    "Context",
    "DetectorError",
    "Finding",
    "Frame",
    "Note",
    "Result",
    "config_hash",
    "run",
    "state_hash",
]
