"""Runs of the detectors: what each says about itself, and the chain they form for a station.

A run judges the readings of [from_ms, upto_ms) that stand before it in the log; of several values for one channel
and time the one first in the log. The next run begins where it ended, with the state it left, or, when readings came
late, where an earlier run ended, with what that one left: the runs between are then no longer in force. A detector
that was silenced leaves a hole, or a state that nobody can compute.
"""

import re
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from emdi.errors import RunError
from emdi.event import Event

HOUR_MS = 3_600_000
RUN = "detector.run"
LATE = "late.arrival"
_HEX = re.compile(r"[0-9a-f]{64}")
_NUMBERS = ("ep_first", "seq_first", "ep_last", "seq_last", "count")


class Fault(NamedTuple):
    """Something that does not hold: a stable dotted code, and the text for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """One run: `first` and `last` are (ep, seq) of the envelopes whose readings reach into it, `count` how many
    readings it judged; `state_before` is "" for a run that begins anew. Hashes are lowercase hex.
    """

    config_hash: str
    version: str
    from_ms: int
    upto_ms: int
    first: tuple[int, int]
    last: tuple[int, int]
    count: int
    state_before: str
    state_after: str
    findings: int
    digest: str


class Span(NamedTuple):
    """An envelope as far as runs care: its place and the times of its earliest and latest reading (Unix ms)."""

    place: tuple[int, int]
    first_ms: int
    last_ms: int


def parse_run(event: Event) -> Run:
    """Read a detector.run event; raise RunError("run.data")."""
    data = event.data
    try:
        given: dict[str, Any] = data["input"]
        first_ep, first_seq, last_ep, last_seq, count = (_uint(given[name]) for name in _NUMBERS)
        run = Run(
            config_hash=_hash(data["config_hash"]),
            version=str(data["version"]),
            from_ms=_time(data["from_ms"]),
            upto_ms=_time(data["upto_ms"]),
            first=(first_ep, first_seq),
            last=(last_ep, last_seq),
            count=count,
            state_before=_hash(data["state_before"]) if data["state_before"] else "",
            state_after=_hash(data["state_after"]),
            findings=_uint(data["findings"]),
            digest=_hash(data["digest"]),
        )
    except (KeyError, TypeError) as error:
        raise RunError(
            "run.data", f"the data of event {event.subj} #{event.sseq} is malformed: {error}"
        ) from None
    if not run.from_ms <= run.upto_ms or not run.first <= run.last:
        raise RunError("run.data", f"run {event.subj} #{event.sseq} ends before it begins")
    return run


class Ends:
    """Hold where the runs in force ended, and the memory that each of them left."""

    def __init__(self) -> None:
        self._ends: list[tuple[int, str]] = []

    def has(self, end: tuple[int, str]) -> bool:
        """Tell whether a run in force ended so."""
        return any(one == end for one in reversed(self._ends))

    def follow(self, start: tuple[int, str], end: tuple[int, str]) -> None:
        """Take a run: those behind its start, or all when none ended there, are no longer in force."""
        if start not in self._ends[-1:]:
            known = self._ends.index(start) + 1 if start in self._ends else 0
            self._ends = self._ends[:known]
        self._ends.append(end)


class RunChain:
    """Follow the runs of one station: `take` its envelopes and events in the order of the log.

    With `complete` every envelope of the station is taken, from the first one on; then it is also checked that
    runs are not ahead of the readings, name the right envelopes, and that late readings are logged. `whole`: the same
    envelopes, and only what came late is checked, so that little is remembered (`members`); the ends may be kept elsewhere.
    """

    def __init__(self, *, complete: bool, whole: bool = False, ends: Ends | None = None) -> None:
        self.complete = complete
        self.last: Run | None = None
        self.runs = 0
        self._open: list[Span] = []
        # Late envelopes since the last run that no event names yet, and when the earliest reading of each was.
        self._late: dict[tuple[int, int], int] = {}
        # Late arrivals that no run has gone back to, and which envelopes were taken: first and last of each stretch.
        self._waiting: list[int] = []
        self._whole = complete or whole
        self._taken: list[list[tuple[int, int]]] = []
        self._earliest_ms: int | None = None
        self._latest_ms = 0
        self._ends = Ends() if ends is None else ends
        self._judged_ms = 0

    def members(self) -> dict[str, Any]:
        """Return what is remembered, but for the ends, as JSON-able members; for a chain that is not `complete`."""
        last = None if self.last is None else asdict(self.last)
        late = [[*place, late_ms] for place, late_ms in self._late.items()]
        return {"last": last, "runs": self.runs, "late": late, "waiting": self._waiting}

    def restore(self, members: dict[str, Any]) -> None:
        """Go on from what `members` gave."""
        last = members["last"]
        if last is not None:
            last |= {"first": tuple(last["first"]), "last": tuple(last["last"])}
            self.last = Run(**last)
        self.runs, self._waiting = members["runs"], members["waiting"]
        self._late = {(ep, seq): late_ms for ep, seq, late_ms in members["late"]}

    def ended(self, upto_ms: int, state: str) -> bool:
        """Tell whether a run in force ended there and left this memory: a run may go on from it."""
        return self._ends.has((upto_ms, state))

    @property
    def late_ms(self) -> int | None:
        """Return the earliest late reading that no run has gone back to."""
        return min(self._waiting, default=None)

    def calls_back(self, from_ms: int) -> bool:
        """Tell whether a late reading calls for a run that goes back to there."""
        return any(late_ms >= from_ms for late_ms in self._waiting)

    def take_envelope(self, span: Span) -> None:
        """Take one accepted envelope."""
        if self.last is not None and span.first_ms < self.last.upto_ms:
            self._late[span.place] = span.first_ms
        if not self._whole:
            self._stretch(span.place)
        if self.complete:
            self._open.append(span)
        earliest = self._earliest_ms
        self._earliest_ms = span.first_ms if earliest is None else min(earliest, span.first_ms)
        self._latest_ms = max(self._latest_ms, span.last_ms)

    def _stretch(self, place: tuple[int, int]) -> None:
        last = self._taken[-1][1] if self._taken else None
        if last is not None and (last[0], last[1] + 1) == place:
            self._taken[-1][1] = place
        else:
            self._taken.append([place, place])

    def take_event(self, event: Event) -> list[Fault]:
        """Take one event of the station's subject and return what does not hold; others than runs and late
        arrivals are passed over.
        """
        if event.typ == LATE:
            return self._take_late(event)
        if event.typ != RUN:
            return []
        try:
            run = parse_run(event)
        except RunError as error:
            return [Fault(error.code, error.message)]
        faults = [*self._check_order(run), *(self._check_input(run) if self.complete else ())]
        if self._late and run.state_before and (self.complete or self._whole):
            places = ", ".join(f"{ep}/{seq}" for ep, seq in sorted(self._late)[:5])
            faults.append(Fault("late.unlogged", f"late readings that no event names: envelopes {places}"))
        self._follow(run)
        self.runs += 1
        self._open = [span for span in self._open if span.last_ms >= run.upto_ms]
        self._late.clear()
        return faults

    def _follow(self, run: Run) -> None:
        """Drop the runs that this one judges anew from those in force, and what it goes back to from what waits."""
        if self.last is not None and run.from_ms < self.last.upto_ms:
            self._waiting = [late_ms for late_ms in self._waiting if late_ms < run.from_ms]
        self.last = run
        self._judged_ms = max(self._judged_ms, run.upto_ms)
        self._ends.follow((run.from_ms, run.state_before), (run.upto_ms, run.state_after))

    def _take_late(self, event: Event) -> list[Fault]:
        try:
            data = event.data
            ep, seq, seq_last, count = (_uint(data[name]) for name in ("ep", "seq", "seq_last", "envelopes"))
            from_ms, to_ms = _time(data["from_ms"]), _time(data["to_ms"])
        except (KeyError, TypeError) as error:
            return [Fault("late.data", f"the data of event {event.subj} #{event.sseq} is malformed: {error}")]
        first, last = (ep, seq), (ep, seq_last)
        named = {place: late_ms for place, late_ms in self._late.items() if first <= place <= last}
        self._late = {place: late_ms for place, late_ms in self._late.items() if place not in named}
        self._waiting.append(from_ms)
        found = (len(named), min(named.values(), default=None), self.last.upto_ms if self.last else None)
        if (count, from_ms, to_ms) == found or not (self._whole or self._has(first, last)):
            return []
        text = f"envelopes {ep}/{seq} to {seq_last} did not come late like this: {count} from {from_ms} on before {to_ms}"
        return [Fault("late.invented", text)]

    def _has(self, first: tuple[int, int], last: tuple[int, int]) -> bool:
        """Tell whether the envelopes between two places were all taken: what is not here may have come late."""
        return any(begin <= first and last <= end for begin, end in self._taken)

    def _check_order(self, run: Run) -> list[Fault]:
        last = self.last
        if not run.state_before or last is None:
            anew = run.state_before == "" and (
                not self.complete or self._earliest_ms is None or run.from_ms <= self._earliest_ms
            )
            text = "a run begins anew, but not at the station's first reading without a memory"
            return [] if anew else [Fault("run.anew", text)]
        if self.ended(run.from_ms, run.state_before):
            if run.from_ms >= last.upto_ms or self.calls_back(run.from_ms):
                return []
            return [Fault("run.back", f"a run goes back to {run.from_ms}, and no late reading calls for it")]
        faults = []
        if run.from_ms != last.upto_ms:
            text = f"a run begins at {run.from_ms}, but the one before it ended at {last.upto_ms}"
            faults.append(Fault("run.hole", text))
        if run.state_before != last.state_after:
            faults.append(Fault("run.state", "a run begins with another memory than the one before it left"))
        return faults

    def _check_input(self, run: Run) -> list[Fault]:
        faults = []
        if run.upto_ms > self._latest_ms // HOUR_MS * HOUR_MS:
            text = f"judged up to {run.upto_ms}, but the readings end at {self._latest_ms}"
            faults.append(Fault("run.ahead", text))
        covering = [
            span.place for span in self._open if span.last_ms >= run.from_ms and span.first_ms < run.upto_ms
        ]
        # Of what was judged before, the envelopes are not kept: who runs the detectors again compares them.
        whole = run.from_ms >= self._judged_ms or self.last is None
        if covering and whole and (min(covering), max(covering)) != (run.first, run.last):
            text = f"the run names envelopes {run.first} to {run.last}; its period has {min(covering)} to {max(covering)}"
            faults.append(Fault("run.input", text))
        return faults


def _uint(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("a number is not an integer >= 0")
    return value


def _time(value: object) -> int:
    if type(value) is not int:
        raise TypeError("a time is not an integer")
    return value


def _hash(value: object) -> str:
    if type(value) is not str or _HEX.fullmatch(value) is None:
        raise TypeError("a digest is not 64 lowercase hex digits")
    return value
