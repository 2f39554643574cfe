"""Which flags still stand when late readings made detection judge a time anew: read from the events alone.

Late readings doubt each flag that a run told which judged beyond them. The runs over that time tell again what they
find; what they have not told when they have come as far as judging was before is said to have lapsed. Nothing is
taken back: the flag stays, with the event that says so. Whoever has a station's events holds each lapse against
that, without any detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from emdi.errors import RunError
from emdi.event import Event, parse_event
from emdi.runs import LATE, RUN, Fault, Run, parse_run

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

    @property
    def former_ms(self) -> int | None:
        """Return how far judging had been before a run went back, until it is there again."""
        return self._former_ms

    def members(self) -> dict[str, Any]:
        """Return what is remembered as JSON-able members."""
        told = [asdict(one) | {"event_id": one.event_id.hex()} for one in self.told.values()]
        return {"told": told, "late_ms": self.late_ms, "upto_ms": self._upto_ms, "former_ms": self._former_ms}

    def restore(self, members: dict[str, Any]) -> None:
        """Go on from what `members` gave."""
        told = (Told(**one | {"event_id": bytes.fromhex(one["event_id"])}) for one in members["told"])
        self.told = {one.episode: one for one in told}
        self.late_ms, self._upto_ms = members["late_ms"], members["upto_ms"]
        self._former_ms = members["former_ms"]

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

    def check_extent(self, event: Event) -> list[Fault]:
        """Name a flag that is told no longer than before, though nothing puts it in doubt."""
        known = self.told.get(str(event.data.get("episode")))
        to_ms = event.data.get("to_ms")
        if known is None or known.open or not isinstance(to_ms, int) or to_ms > known.to_ms:
            return []
        return [
            Fault("flag.shortened", f"{known.flag_id} is told up to {to_ms}, it was told up to {known.to_ms}")
        ]

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


def check_lapses(
    standing: Standing, run: Run, run_sseq: int, told: Sequence[Event]
) -> list[tuple[Event | None, Fault]]:
    """Hold the lapses told right before a run against the flags still in doubt when its own have been taken.

    Returns each fault with the event it is about, None for one that is missing.
    """
    wanted = {one.flag_id: one for one in standing.lapsing(run.upto_ms)}
    faults: list[tuple[Event | None, Fault]] = []
    for place, event in enumerate(told, run_sseq - len(told)):
        flag_id = str(event.data.get("flag_id"))
        one = wanted.pop(flag_id, None)
        if one is None or lapse_of(one) != event.data or event.ref != (one.event_id.hex(),):
            text = f"{flag_id} has not lapsed like this: no late readings put it in doubt, or it was told otherwise"
            faults.append((event, Fault("lapse.unfounded", text)))
        elif event.sseq != place:
            text = f"that {flag_id} has lapsed does not stand right before the run that did not find it"
            faults.append((event, Fault("lapse.place", text)))
    for flag_id in wanted:
        text = f"{flag_id} is not found any more, and no event says so"
        faults.append((None, Fault("lapse.missing", text)))
    return faults


class Lapses:
    """Follow the flags and lapses of one station, without its readings: `take_event` in the order of its chain."""

    def __init__(self) -> None:
        self.standing = Standing()
        self._told: list[Event] = []

    def members(self) -> dict[str, Any]:
        """Return what is remembered as JSON-able members."""
        return {**self.standing.members(), "waiting": [one.jws.decode() for one in self._told]}

    def restore(self, members: dict[str, Any]) -> None:
        """Go on from what `members` gave."""
        self.standing.restore(members)
        self._told = [parse_event(jws.encode()) for jws in members["waiting"]]

    def take_event(self, event: Event) -> list[tuple[Event, Fault]]:
        """Take one event of the station's subject; at a run return what does not hold of the lapses before it."""
        if event.typ == LATE:
            self.standing.take(event)
        elif event.typ == LAPSED or event.typ in FLAGS:
            self._told.append(event)
        if event.typ != RUN:
            return []
        try:
            run = parse_run(event)
        except RunError:  # the chain of runs has said so
            return []
        told, self._told = self._told, []
        self.standing.begin(run.from_ms)
        faults: list[tuple[Event | None, Fault]] = []
        for one in told:
            if one.typ != LAPSED:
                faults += [(one, fault) for fault in self.standing.check_extent(one)]
                self.standing.take(one)
        lapsed = [one for one in told if one.typ == LAPSED]
        faults += check_lapses(self.standing, run, event.sseq, lapsed)
        for one in lapsed:
            self.standing.take(one)
        self.standing.end(run)
        return [(about or event, fault) for about, fault in faults]
