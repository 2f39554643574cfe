"""The readings of one station as columns, kept in the order of the log."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emdi.columns import Columns
from emdi.runs import Span
from stackwitness.detection.queries import Series


@dataclass(frozen=True)
class Part:
    """One envelope's readings: channel numbers, Unix ms, values (NaN missing), status letters."""

    which: NDArray[np.int32]
    at_ms: NDArray[np.int64]
    values: NDArray[np.float64]
    status: NDArray[np.uint8]


class Leaves:
    """Take envelopes in the order of the log; give the readings of a period as the detectors saw them."""

    def __init__(self) -> None:
        self.count = 0
        self._names: dict[str, int] = {}
        self._parts: list[Part] = []
        self._places: list[tuple[int, int]] = []
        self._bounds = np.empty((0, 2), np.int64)  # earliest and latest reading of each envelope

    @property
    def earliest_ms(self) -> int | None:
        """The earliest reading taken."""
        return int(self._bounds[: self.count, 0].min()) if self.count else None

    @property
    def latest_ms(self) -> int | None:
        """The latest reading taken."""
        return int(self._bounds[: self.count, 1].max()) if self.count else None

    def take(self, span: Span, columns: Columns) -> None:
        """Take the next envelope's readings."""
        own = [self._names.setdefault(name, len(self._names)) for name, _ in columns.series]
        letters = np.frombuffer("".join(columns.statuses).encode("ascii"), np.uint8)
        self._parts.append(
            Part(
                np.asarray(own, np.int32)[np.asarray(columns.which, np.int64)],
                np.asarray(columns.at_ms, np.int64),
                np.asarray(columns.values, np.float64),
                letters,
            )
        )
        self._places.append(span.place)
        if self.count == len(self._bounds):
            self._bounds = np.concatenate([self._bounds, np.empty((max(64, self.count), 2), np.int64)])
        self._bounds[self.count] = span.first_ms, span.last_ms
        self.count += 1

    def series(self, from_ms: int, upto_ms: int) -> list[Series]:
        """Return the readings of [from_ms, upto_ms) per channel, by time; of several the first in the log."""
        parts = [self._parts[k] for k in self._reaching(from_ms, upto_ms - 1)]
        if not parts:
            return []
        which = np.concatenate([part.which for part in parts])
        at_ms = np.concatenate([part.at_ms for part in parts])
        values = np.concatenate([part.values for part in parts])
        status = np.concatenate([part.status for part in parts])
        inside = (at_ms >= from_ms) & (at_ms < upto_ms)
        found = []
        for name, number in self._names.items():
            own = np.flatnonzero(inside & (which == number))
            times, first = np.unique(at_ms[own], return_index=True)
            chosen = own[first]
            if chosen.size:
                letters = status[chosen].tobytes().decode("ascii")
                found.append(Series(name, times.tolist(), values[chosen].tolist(), letters))
        return found

    def covering(self, from_ms: int, upto_ms: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Return first and last (ep, seq) of the envelopes that reach into [from_ms, upto_ms)."""
        places = [self._places[k] for k in self._reaching(from_ms, upto_ms - 1)]
        return (min(places), max(places)) if places else None

    def source(self, from_ms: int, to_ms: int) -> tuple[int, int, int]:
        """Return (ep, first seq, last seq) of the latest epoch with readings around [from_ms, to_ms]; zeros
        without any.
        """
        places = [self._places[k] for k in self._reaching(from_ms, to_ms)]
        if not places:
            return 0, 0, 0
        ep = max(places)[0]
        seqs = [seq for one, seq in places if one == ep]
        return ep, min(seqs), max(seqs)

    def holds(self, first: tuple[int, int], last: tuple[int, int]) -> bool:
        """Tell whether the envelopes taken begin at or before `first` and end at or behind `last`."""
        return bool(self._places) and min(self._places) <= first and last <= max(self._places)

    def _reaching(self, from_ms: int, to_ms: int) -> list[int]:
        bounds = self._bounds[: self.count]
        found: list[int] = np.flatnonzero((bounds[:, 1] >= from_ms) & (bounds[:, 0] <= to_ms)).tolist()
        return found
