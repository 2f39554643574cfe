"""What a station remembers between batches: its latest rows as sent, and its hours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import ChannelInfo, Context, Letters, Times, Values
from stackwitness_detectors.running import least_running, steady_hours

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# What is judged: what is emitted, or at a station that reports nothing of that, how the process goes.
EMITTED = ("pollutant", "flow")
PROCESS = ("process", "temperature", "pressure", "moisture", "diluent")
# A mean of less than 45 minutes is no valid hour (HJ 75 6.3.2); what counts in the report is judged, else one marked sample an hour
# would buy silence.
_VALID_SHARE = 0.75
MEASURING = np.isin(np.arange(256), [ord("N"), ord("T")])


class Table:
    """Keep the last `cap` rows of a few columns; appending is cheap, views are in time order."""

    def __init__(self, cap: int, columns: dict[str, tuple[str, int]]) -> None:
        self.cap = cap
        self._start = self._end = 0
        self._columns: dict[str, NDArray[Any]] = {
            name: np.zeros((2 * cap, width) if width >= 0 else 2 * cap, dtype, order="F")
            for name, (dtype, width) in columns.items()
        }

    def __len__(self) -> int:
        return self._end - self._start

    def append(self, *row: Any) -> None:
        """Add one row, values in the order of the columns."""
        if self._end == 2 * self.cap:
            for column in self._columns.values():
                column[: self.cap] = column[self.cap :].copy()
            self._start, self._end = self._start - self.cap, self.cap
        for column, value in zip(self._columns.values(), row, strict=True):
            column[self._end] = value
        self._end += 1
        self._start = max(self._start, self._end - self.cap)

    def view(self, name: str) -> NDArray[Any]:
        """Give a column, oldest row first; writing into it changes the table."""
        return self._columns[name][self._start : self._end]

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        return {name: self.view(name) for name in self._columns}

    def load(self, tree: dict[str, Any], place: NDArray[np.int64] | None = None) -> None:
        """Fill from a tree; `place` gives, per column of a matrix, its old position or -1 when it is new."""
        for name, column in self._columns.items():
            old = tree[name]
            self._start, self._end = 0, len(old)
            if column.ndim == 2 and place is not None:
                blank = np.nan if column.dtype.kind == "f" else 0
                moved = np.full((len(old), column.shape[1]), blank, column.dtype)
                moved[:, place >= 0] = old[:, place[place >= 0]]
                old = moved
            column[: len(old)] = old


@dataclass(frozen=True)
class Block:
    """Hold the rows of one clock hour: times [k], values [k, C] (NaN missing), letters [k, C]."""

    hour: int
    at_ms: Times
    values: Values
    letters: Letters

    def measured(self) -> Values:
        """Give the values, NaN where the mark says the instrument was not measuring. Nobody writes into them."""
        return self._measured

    @cached_property
    def _measured(self) -> Values:
        return np.where(MEASURING[self.letters], self.values, np.nan)


class Memory:
    """Keep rows and hours of a station; channels stand in the order of the context."""

    def __init__(self, context: Context, config: Config) -> None:
        self.context = context
        self.config = config
        self.channels: tuple[ChannelInfo, ...] = context.channels
        self.names = tuple(channel.name for channel in self.channels)
        self._steady: tuple[int, int, NDArray[np.bool_]] | None = None
        width = len(self.names)
        self.rows = Table(config.history_rows, {"at_ms": ("<i8", -1), "values": ("<f8", width)})
        self.hours = Table(
            config.history_hours,
            {
                "hour": ("<i8", -1),
                "mean": ("<f8", width),  # of the measured samples
                "marked": (
                    "|b1",
                    width,
                ),  # so many samples carry another mark than N or T that the hour is no valid one
                "claimed": ("|b1", width),  # a freeze or copy explains this hour: no model may learn from it
                "expected": ("<f8", width),  # what the conditional model says, in the channel's unit
                "residual": ("<f8", width),  # reported against expected: log ratio, or difference (see there)
            },
        )

    def remember(self, block: Block) -> None:
        """Add one hour."""
        measured = block.measured()
        for at_ms, row in zip(block.at_ms, measured, strict=True):
            self.rows.append(at_ms, row)
        present = np.isfinite(measured)
        count = present.sum(axis=0)
        total = np.where(present, measured, 0.0).sum(axis=0)
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        marked = MEASURING[block.letters].mean(axis=0) < _VALID_SHARE
        self.hours.append(block.hour, mean, marked, False, np.nan, np.nan)

    def claim(self, channel: int | None, from_ms: int, to_ms: int) -> None:
        """Mark the hours of an interval as explained (`channel` None: all channels)."""
        hour = self.hours.view("hour")
        first, last = np.searchsorted(hour, [from_ms // HOUR_MS, to_ms // HOUR_MS + 1])
        self.hours.view("claimed")[first:last, slice(None) if channel is None else channel] = True

    def steady(self) -> NDArray[np.bool_]:
        """Tell for each remembered hour whether the unit runs and did not start within the two hours before.

        Without a load channel every hour counts.
        """
        hour = self.hours.view("hour")
        known = (len(hour), int(hour[-1]) if len(hour) else -1)
        if self._steady is None or self._steady[:2] != known:
            self._steady = (*known, self._operating(hour))
        return self._steady[2]

    def _operating(self, hour: NDArray[np.int64]) -> NDArray[np.bool_]:
        loads = self.indices("load")
        if not loads:
            return np.ones(len(hour), np.bool_)
        return steady_hours(hour, self.hours.view("mean")[:, loads[0]])

    def stands(self) -> NDArray[np.bool_]:
        """Tell for each remembered hour whether a load was measured that says that the unit stands."""
        loads = self.indices("load")
        load = self.hours.view("mean")[:, loads[0]] if loads else np.full(len(self.hours), np.nan)
        stands: NDArray[np.bool_] = load <= least_running(load)
        return stands

    def indices(self, *roles: str) -> list[int]:
        """Give the positions of the channels that play one of the roles."""
        return [k for k, channel in enumerate(self.channels) if channel.role in roles]

    def principal(self) -> list[int]:
        """Give the positions of the channels to be judged: pollutants and flows, or without any the process."""
        return self.indices(*EMITTED) or self.indices(*PROCESS)

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        return {"names": list(self.names), "rows": self.rows.dump(), "hours": self.hours.dump()}

    def load(self, tree: dict[str, Any]) -> None:
        """Fill from a tree; channels are found by name, new ones begin empty."""
        place = place_of(self.names, tree["names"])
        self.rows.load(tree["rows"], place)
        self.hours.load(tree["hours"], place)


def place_of(names: tuple[str, ...], old: list[str]) -> NDArray[np.int64]:
    """Give the old position of each name, or -1."""
    where = {name: k for k, name in enumerate(old)}
    return np.array([where.get(name, -1) for name in names], np.int64)
