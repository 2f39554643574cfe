"""What the tests of digits share: one reader of digits, a day's digits or the reason why there are none."""

from __future__ import annotations

from typing import Any

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Note, Why
from stackwitness_detectors.daily import DailyTest, Judged
from stackwitness_detectors.memory import Memory
from stackwitness_detectors.shape.units import DigitReader, Digits


class DigitTest(DailyTest):
    """Judge the digits of each channel that has some; `why` says of the others why they cannot be judged."""

    needs_reference = False

    def __init__(self, memory: Memory, config: Config, reader: DigitReader, budget: float) -> None:
        super().__init__(memory, config, reader.tested, budget)
        self.reader = reader
        self.why: dict[int, Why] = {}

    def weigh(self, k: int, day: int, digits: Digits) -> Judged | None:
        """Score the digits of one channel on one day; None when they cannot be judged."""
        raise TypeError("a test of digits must say what it measures")

    def measure(self, k: int, day: int) -> Judged | None:
        """Read the digits and weigh them."""
        digits = self.reader.read(k, day)
        self.why.pop(k, None)
        if not isinstance(digits, Digits):
            self.why[k] = digits
            return None
        return self.weigh(k, day, digits)

    def notes(self) -> list[Note]:
        """Say where digits carry nothing."""
        return self.reader.notes(self.detector, self.why)

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        return {**super().dump(), "why": {self.memory.names[k]: list(told) for k, told in self.why.items()}}

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back."""
        super().load(tree)
        here = {self.memory.names[k]: k for k in self.tested}
        told = tree.get("why", {}).items()
        self.why = {here[name]: (code, reason) for name, (code, reason) in told if name in here}
