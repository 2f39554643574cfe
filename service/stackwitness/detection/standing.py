"""Which flags still stand when late readings made detection judge a time anew: read from the events alone.

Late readings doubt each flag that a run told which judged beyond them. The runs over that time tell again what they
find; what they have not told when they have come as far as judging was before is said to have lapsed. Nothing is
taken back: the flag stays, with the event that says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from emdi.event import Event
from emdi.runs import LATE, Run

LAPSED = "flag.lapsed"
FLAGS = frozenset({"flag.raised", "flag.extended"})
# Flags of losses the station itself admits: no detector finds them.
CONTINUITY = "continuity"


@dataclass
class Told:
    """A flag as it was last told: up to where, by the run that ended at `upto_ms` (None: not ended yet)."""

    flag_id: str
    event_id: bytes
    episode: str
    to_ms: int
    upto_ms: int | None = None
    doubted: bool = False
    lapsed: bool = False

    @property
    def open(self) -> bool:
        """Tell whether the next finding of its episode is news whatever its end."""
        return self.doubted or self.lapsed


class Standing:
    """Follow the flags of one station: `take` its events in the order of its chain, and the runs by `begin`, `end`."""

    def __init__(self) -> None:
        self.told: dict[str, Told] = {}
        self.late_ms: int | None = None
        self._upto_ms: int | None = None
        self._former_ms: int | None = None

    def take(self, event: Event) -> None:
        """Take an event of the station's subject; all but flags, lapses and late arrivals are passed over."""
        data = event.data
        try:
            if event.typ in FLAGS and data.get("detector") != CONTINUITY:
                self._tell(str(data["episode"]), str(data["flag_id"]), int(data["to_ms"]), event.event_id)
            elif event.typ == LAPSED:
                self.told[str(data["episode"])].lapsed = True
            elif event.typ == LATE:
                late_ms = int(data["from_ms"])
                self.late_ms = late_ms if self.late_ms is None else min(self.late_ms, late_ms)
        except (KeyError, TypeError, ValueError):
            return

    def _tell(self, episode: str, flag_id: str, to_ms: int, event_id: bytes) -> None:
        known = self.told.setdefault(episode, Told(flag_id, event_id, episode, to_ms))
        known.to_ms, known.upto_ms, known.doubted, known.lapsed = to_ms, None, False, False

    def begin(self, from_ms: int) -> None:
        """Begin a run: where it goes back to what came late, the flags told beyond that are doubted.

        Only flags of runs that have ended are: those told since the last one are this run's own.
        """
        back = self._upto_ms is not None and from_ms < self._upto_ms
        if not back or self.late_ms is None or from_ms > self.late_ms:
            return
        for one in self.told.values():
            if one.upto_ms is not None and one.upto_ms > self.late_ms:
                one.doubted = True
        self._former_ms = max(self._former_ms or 0, self._upto_ms or 0)
        self.late_ms = None

    def note(self, episode: str) -> None:
        """Take it that a finding of this episode is told now."""
        if (known := self.told.get(episode)) is not None:
            known.doubted = known.lapsed = False

    def lapsing(self, upto_ms: int) -> list[Told]:
        """Return the flags that lapse with a run up to there: still doubted, and judged as far as before."""
        if self._former_ms is None or upto_ms < self._former_ms:
            return []
        return [one for _, one in sorted(self.told.items()) if one.doubted and not one.lapsed]

    def end(self, run: Run) -> None:
        """End a run: what was told since the one before it is its own."""
        self._upto_ms = run.upto_ms
        for one in self.told.values():
            if one.upto_ms is None:
                one.upto_ms = run.upto_ms
        if self._former_ms is not None and run.upto_ms >= self._former_ms:
            self._former_ms = None
            for one in self.told.values():
                one.doubted = False


def lapse_of(told: Told) -> dict[str, object]:
    """Return what the event of a lapse says."""
    return {"flag_id": told.flag_id, "episode": told.episode, "to_ms": told.to_ms}
