"""When to speak of one interval again: at the crossing, at each doubling of its length, and at its end."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Episode:
    """Follow one flagged interval; `told_ms` is the end last reported, `seen_ms` the end now known."""

    key: str
    from_ms: int
    seen_ms: int
    told_ms: int
    rate: float

    def grow(self, to_ms: int, rate: float) -> bool:
        """Extend the interval; tell whether its length has doubled since it was last reported."""
        self.seen_ms = max(self.seen_ms, to_ms)
        self.rate = min(self.rate, rate)
        if self.seen_ms - self.from_ms >= 2 * max(self.told_ms - self.from_ms, 1):
            self.told_ms = self.seen_ms
            return True
        return False

    def end(self) -> bool:
        """Tell whether something is left to report at the end."""
        untold = self.seen_ms > self.told_ms
        self.told_ms = self.seen_ms
        return untold


def open_episode(detector: str, channel: str, from_ms: int, to_ms: int, rate: float) -> Episode:
    """Begin an interval just found."""
    return Episode(f"{detector}:{channel}:{from_ms}", from_ms, to_ms, to_ms, rate)


def dump_episodes(open_now: dict[str, Episode]) -> dict[str, Any]:
    """Give a tree for the state."""
    return {name: asdict(episode) for name, episode in open_now.items()}


def load_episodes(tree: dict[str, Any]) -> dict[str, Episode]:
    """Read the tree back."""
    return {name: Episode(**fields) for name, fields in tree.items()}
