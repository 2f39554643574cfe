"""The one way in: cut readings into clock hours, lead every family over them, give findings and state.

Every family sees the same sequence of whole hours whatever the batches were, so streaming equals batch by
construction. The hour still open waits in the state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.codec import decode_state, encode_state
from stackwitness_detectors.config import DEFAULT, Config
from stackwitness_detectors.contract import (
    LARGEST,
    Context,
    DetectorError,
    Finding,
    Frame,
    Note,
    Result,
    Times,
    Values,
)
from stackwitness_detectors.memory import HOUR_MS, Block, Memory, place_of

_NORMAL = ord("N")
_FEW_OF_H = 14 * 24
_SILENT_H = 24  # a channel without a reading for a day is judged by no test of its day
_SMALLEST = 1e-30  # nothing but 0 is smaller: squares of such numbers vanish
_LATEST_MS = 7_258_118_400_000  # the year 2200: such a clock is wrong, and nothing could come after it


class Family(Protocol):
    """One family of tests: `hour` sees each closed hour when it has been remembered, `day` each closed day."""

    name: str

    def hour(self, block: Block) -> list[Finding]:
        """Judge one hour at the native step."""

    def day(self, day: int) -> list[Finding]:
        """Judge the day that has just ended (days since 1970)."""

    def notes(self) -> list[Note]:
        """Say what cannot be judged now."""

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back."""


@runtime_checkable
class Spending(Protocol):
    """A family that gives findings: it tests channels, each with a part of the budget (findings a station-month)."""

    tested: list[int]
    budget: float


def share_out(families: Iterable[object], budget: float) -> None:
    """Give what tests without a channel at this station cannot spend to the others, in proportion.

    Afterwards the parts of all tested channels add up to `budget`.
    """
    tests = [family for family in families if isinstance(family, Spending)]
    spent = sum(test.budget * len(test.tested) for test in tests)
    for test in tests:
        test.budget *= budget / spent if spent > 0 else 0.0


class Engine:
    """Lead the families of one station over its hours."""

    def __init__(self, context: Context, config: Config, families: list[Family], memory: Memory) -> None:
        self.context, self.config, self.memory, self.families = context, config, memory, families
        width = len(memory.names)
        self.last_ms = -1
        self.pending: tuple[Times, Any, Any] = (
            np.empty(0, np.int64),
            np.empty((0, width)),
            np.empty((0, width), np.uint8),
        )
        self.findings: list[Finding] = []
        self.notes: list[Note] = []

    def feed(self, frame: Frame) -> None:
        """Take readings; hours that are closed by a later reading are judged."""
        at_ms, values, letters = self._clean(frame)
        at_ms = np.concatenate([self.pending[0], at_ms])
        values = np.concatenate([self.pending[1], values])
        letters = np.concatenate([self.pending[2], letters])
        hour = at_ms // HOUR_MS
        edges = np.flatnonzero(np.diff(hour)) + 1
        start = 0
        for end in edges.tolist():
            self._close(Block(int(hour[start]), at_ms[start:end], values[start:end], letters[start:end]))
            start = end
        self.pending = (at_ms[start:], values[start:], letters[start:])

    def _close(self, block: Block) -> None:
        known = self.memory.hours.view("hour")
        if len(known) and block.hour // 24 != int(known[-1]) // 24:
            day = int(known[-1]) // 24
            for family in self.families:
                self.findings += family.day(day)
        self.memory.remember(block)
        for family in self.families:
            self.findings += family.hour(block)

    def _clean(self, frame: Frame) -> tuple[Times, Any, Any]:
        frame = check_frame(frame)
        at_ms = frame.at_ms
        sane = (at_ms >= 0) & (at_ms < _LATEST_MS)
        if not sane.all():
            reason = f"{int((~sane).sum())} readings dated before 1970 or after 2199: not judged"
            self.notes.append(Note("engine", "", "refused", reason))
        at_ms = np.where(sane, at_ms, -1)
        before = np.maximum.accumulate(np.concatenate([[self.last_ms], at_ms]))[:-1] if len(at_ms) else at_ms
        keep = at_ms > before
        if not keep[sane].all():
            late = int((~keep[sane]).sum())
            self.notes.append(
                Note("engine", "", "refused", f"{late} readings are not later than the last one: not judged")
            )
        at_ms = at_ms[keep]
        values = np.full((len(at_ms), len(self.memory.names)), np.nan)
        letters = np.full(values.shape, _NORMAL, np.uint8)
        for k, name in enumerate(self.memory.names):
            if name in frame.values:
                values[:, k] = frame.values[name][keep]
            if name in frame.status:
                letters[:, k] = frame.status[name][keep]
        letters[letters == 0] = _NORMAL
        size = np.abs(values)
        wild = (size > LARGEST) | ((size > 0) & (size < _SMALLEST))
        for k in np.flatnonzero(wild.any(axis=0)).tolist():
            reason = "infinite, absurdly large or absurdly small values: as missing"
            self.notes.append(Note("engine", self.memory.names[k], "refused", reason))
        values[wild] = np.nan
        if len(at_ms):
            self.last_ms = int(at_ms[-1])
        return at_ms, values, letters

    def standing_notes(self) -> tuple[Note, ...]:
        """Say what cannot be judged as things stand: a matter of station and state, whatever the batches were."""
        told = {note for family in self.families for note in family.notes()}
        return tuple(sorted(told | set(self._silent()) | set(self._few()) | set(self._nothing())))

    def _nothing(self) -> Iterable[Note]:
        if not self.memory.principal():
            yield Note("engine", "", "nothing", "neither pollutants nor flows nor a process are reported")

    def _silent(self) -> Iterable[Note]:
        hour, mean = self.memory.hours.view("hour"), self.memory.hours.view("mean")
        for k, name in enumerate(self.memory.names if len(hour) else ()):
            known = hour[np.isfinite(mean[:, k])]
            silent = int(hour[-1] - (known[-1] if known.size else hour[0] - 1))
            if silent >= _SILENT_H:
                yield Note(
                    "engine", name, "silent", f"no measured reading for {silent} hours", (("have", silent),)
                )

    def _few(self) -> Iterable[Note]:
        """Tell of channels that took most hours of the last fortnight out of judgement while the unit was not known to stand."""
        memory = self.memory
        hour = memory.hours.view("hour")
        rows = slice(int(np.searchsorted(hour, hour[-1] - _FEW_OF_H + 1)) if len(hour) else 0, len(hour))
        if not len(hour) or hour[-1] - hour[0] < _FEW_OF_H:
            return
        stands = memory.stands()[rows]
        ought = _FEW_OF_H - int(stands.sum())
        mean, marked = memory.hours.view("mean")[rows], memory.hours.view("marked")[rows]
        loaded = np.isfinite(mean[:, memory.indices("load")[:1]]).all(axis=1) & ~stands
        for k in memory.principal():
            judged = int((loaded & np.isfinite(mean[:, k]) & ~marked[:, k]).sum())
            if 2 * judged < ought:
                reason = f"only {judged} of {ought} hours of the last 14 days can be judged: the others not sent, marked or without a load"
                yield Note("engine", memory.names[k], "few_hours", reason, (("have", judged), ("of", ought)))

    def dump(self) -> bytes:
        """Encode everything the next batch needs."""
        return encode_state(
            {
                "last_ms": self.last_ms,
                "pending": list(self.pending),
                "memory": self.memory.dump(),
                "families": {family.name: family.dump() for family in self.families},
            }
        )

    def load(self, state: bytes) -> None:
        """Read a state back; channels are matched by name."""
        tree = decode_state(state)
        place = place_of(self.memory.names, tree["memory"]["names"])
        self.last_ms = int(tree["last_ms"])
        at_ms, values, letters = tree["pending"]
        moved = np.full((len(at_ms), len(place)), np.nan)
        marks = np.full(moved.shape, _NORMAL, np.uint8)
        moved[:, place >= 0] = values[:, place[place >= 0]]
        marks[:, place >= 0] = letters[:, place[place >= 0]]
        self.pending = (at_ms, moved, marks)
        self.memory.load(tree["memory"])
        for family in self.families:
            if family.name in tree["families"]:
                family.load(tree["families"][family.name])


def check_frame(frame: Frame) -> Frame:
    """Return the frame as int64[n], float64[n] and uint8[n]. Raises DetectorError frame.type, frame.shape, frame.status."""
    at_ms = np.asarray(frame.at_ms)
    if at_ms.ndim != 1 or (at_ms.size and at_ms.dtype.kind not in "iu"):
        raise DetectorError("frame.type", "at_ms must be whole milliseconds, one for each row")
    values: dict[str, Values] = {}
    for name, given in frame.values.items():
        try:
            values[name] = np.asarray(given, np.float64)
        except (TypeError, ValueError) as wrong:
            raise DetectorError("frame.type", f"the values of {name} are no numbers: {wrong}") from wrong
    letters = {name: np.asarray(given) for name, given in frame.status.items()}
    for name, marks in letters.items():
        if marks.size and (marks.dtype.kind not in "iu" or marks.min() < 0 or marks.max() > 255):
            raise DetectorError("frame.status", f"the marks of {name} must be codes of one letter each")
    columns: Iterable[tuple[str, NDArray[Any]]] = (*values.items(), *letters.items())
    for name, column in columns:
        if column.shape != at_ms.shape:
            message = f"{name} has the shape {column.shape} where at_ms has {at_ms.shape}"
            raise DetectorError("frame.shape", message)
    marks_of = {name: marks.astype(np.uint8) for name, marks in letters.items()}
    return Frame(at_ms.astype(np.int64), values, marks_of)


def open_engine(context: Context, state: bytes | None, config: Config = DEFAULT) -> Engine:
    """Make the engine of one station, going on from `state`. Raises DetectorError for a state that is not ours."""
    from stackwitness_detectors.families import families_of

    config = config.spread()
    memory = Memory(context, config)
    families = families_of(memory, config)
    share_out(families, config.parts)
    engine = Engine(context, config, families, memory)
    if state is not None:
        try:
            engine.load(state)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as wrong:
            # Whole and of this version, yet not what `dump` writes: only who writes states by hand comes here.
            raise DetectorError("state.damaged", f"the stored state is not ours: {wrong!r}") from wrong
    return engine


def run(context: Context, state: bytes | None, frame: Frame, config: Config = DEFAULT) -> Result:
    """Judge the readings of `frame` after those already in `state`.

    The same readings in any chunking give the same findings and the same final state, byte for byte. Odd
    readings give notes, never errors; DetectorError is raised for a state that is not ours (state.*) and for arrays
    that are no readings of one station (frame.*), before anything is judged.
    """
    engine = open_engine(context, state, config)
    with np.errstate(all="ignore"):
        engine.feed(frame)
        notes = {*engine.notes, *engine.standing_notes()}
    return Result(engine.dump(), tuple(engine.findings), tuple(sorted(notes)))


def notes_of(context: Context, state: bytes, config: Config = DEFAULT) -> tuple[Note, ...]:
    """Say what could not be judged when `state` was left: `run` gave the same notes, beside those about its readings.

    Raises DetectorError for a state that is not ours.
    """
    engine = open_engine(context, state, config)
    with np.errstate(all="ignore"):
        return engine.standing_notes()
