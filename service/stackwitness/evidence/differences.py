"""What running the detectors again brought to light."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Difference:
    """What does not come out as the log says: stable dotted code, log index (None: none), text for people."""

    code: str
    idx: int | None
    text: str

    def line(self) -> str:
        """Return it for people."""
        return f"{self.code}{'' if self.idx is None else f' (idx {self.idx})'}: {self.text}"


@dataclass
class RerunReport:
    """What was run again and what differs. `runs`, `flags` and `readings` count what was compared; `skipped`
    says what could not be.
    """

    stn: str
    runs: int = 0
    flags: int = 0
    readings: int = 0
    differences: list[Difference] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Tell whether everything that was run again came out the same."""
        return not self.differences

    def lines(self) -> list[str]:
        """Return the account for people."""
        counted = f"{self.runs} runs over {self.readings} readings, {self.flags} flags"
        return [
            f"station {self.stn}: detectors run again, {counted}: {'the same' if self.ok else 'NOT the same'}",
            *(difference.line() for difference in self.differences),
            *(f"not run again: {text}" for text in self.skipped),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON-able members."""
        return {"ok": self.ok, **asdict(self)}
