"""What is said about a station beside its flags: how small a forgery would be found, and what cannot be judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what shows notes must not load numpy for it
    from stackwitness_detectors.contract import Note

# The code of a note on a channel that is judged: the smallest lasting bias that would be found.
BELOW = "below"


@dataclass(frozen=True)
class Unjudged:
    """Say that a detector cannot judge a channel ("" = the whole station): a code, a sentence, what it counts.

    Codes and numbers are those of `stackwitness_detectors.contract.Note`.
    """

    detector: str
    channel: str
    code: str
    reason: str
    numbers: Mapping[str, float]

    @classmethod
    def of(cls, note: Note) -> Unjudged:
        """Take over what the detectors said."""
        return cls(note.detector, note.channel, note.code, note.reason, dict(note.numbers))

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Unjudged:
        """Read what was kept, a JSON object of the fields."""
        return cls(**{**kept, "numbers": dict(kept["numbers"])})


@dataclass(frozen=True)
class Seen:
    """Say that a lasting bias of at least `percent` would be found, soonest over `days`; judged since `since`."""

    percent: float
    days: float
    since: datetime


@dataclass(frozen=True)
class Judgement:
    """Hold what the run that ended at `upto` said about what it could not judge."""

    upto: datetime
    notes: tuple[Unjudged, ...]

    def seen(self, channel: str) -> Seen | None:
        """Return how small a bias of a channel would be found; None where its level is not judged."""
        for note in self.notes:
            if note.channel == channel and note.code == BELOW:
                since = datetime.fromtimestamp(note.numbers["since_ms"] / 1000, UTC)
                return Seen(note.numbers["percent"], note.numbers["days"], since)
        return None

    def unjudged(self, channel: str) -> tuple[Unjudged, ...]:
        """Return what cannot be judged of a channel, or with "" of the whole station."""
        return tuple(note for note in self.notes if note.channel == channel and note.code != BELOW)
