"""Pure forgery detectors: arrays in, findings out.

The names below are loaded when first asked for: whoever only shows flags needs the words, not the engine and numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stackwitness_detectors.codec import CODE_VERSION, state_hash
    from stackwitness_detectors.config import Config, config_hash
    from stackwitness_detectors.contract import (
        ChannelInfo,
        Context,
        DetectorError,
        Finding,
        Frame,
        Note,
        Result,
    )
    from stackwitness_detectors.engine import run

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

_HOMES = {
    "codec": ("CODE_VERSION", "state_hash"),
    "config": ("Config", "config_hash"),
    "contract": ("ChannelInfo", "Context", "DetectorError", "Finding", "Frame", "Note", "Result"),
    "engine": ("run",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name from its module; raise AttributeError for any other (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
