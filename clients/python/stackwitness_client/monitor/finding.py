"""What a monitor found, before it becomes a proof file: names of leaves and what was observed."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact: `key` names it for ever, `leaves` are the log indexes that show it, the accused one last or first
    as the proof's type asks.

    `sizes` are checkpoints seen that the proof needs beside the newest; `prefix_size` asks for the root the log
    has at that size. `transient` facts end by themselves and may come back.
    """

    type: str
    key: str
    says: str
    leaves: tuple[int, ...] = ()
    observed: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()
    prefix_size: int | None = None
    transient: bool = False

    def to_json(self) -> str:
        """Return the finding as JSON."""
        return json.dumps(asdict(self), default=float)

    @classmethod
    def from_json(cls, text: str) -> "Finding":
        """Read what `to_json` wrote."""
        members = json.loads(text)
        for name in ("leaves", "sizes"):
            members[name] = tuple(members[name])
        return cls(**members)
