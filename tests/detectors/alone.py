"""Lead some families alone over a frame: what one test says, without the others and their time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stackwitness_detectors import Context, Finding, Frame
from stackwitness_detectors.config import DEFAULT, Config
from stackwitness_detectors.engine import Engine, Family
from stackwitness_detectors.memory import Memory
from tests.detectors.plants import CONTEXT
from tests.support.pictures import check_picture

Make = Callable[[Memory, Config], list[Family]]


def alone(make: Make, frame: Frame, context: Context = CONTEXT, config: Config = DEFAULT) -> list[Finding]:
    """Give the findings of the families that `make` makes; each has its share as its whole budget. All can be drawn."""
    memory = Memory(context, config)
    engine = Engine(context, config, make(memory, config), memory)
    with np.errstate(all="ignore"):
        engine.feed(frame)
    for finding in engine.findings:
        check_picture(finding)
    return engine.findings
