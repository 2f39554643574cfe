"""Pure forgery detectors: arrays in, findings out."""

from stackwitness_detectors.codec import STATE_VERSION, state_hash
from stackwitness_detectors.config import VERSION, Config, config_hash
from stackwitness_detectors.contract import ChannelInfo, Context, DetectorError, Finding, Frame, Note, Result
from stackwitness_detectors.engine import run

# What must be the same for findings to come out the same: the rules and the form of the state.
CODE_VERSION = f"{VERSION}.{STATE_VERSION}"

__all__ = [
    "CODE_VERSION",
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
