"""How a channel moves, hour by hour: sums at the native step from which windows of any length are made up."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import Finding, Note, Values
from stackwitness_detectors.memory import HOUR_MS, Block, Memory, Table, place_of
from stackwitness_detectors.quantiles import ABSURD, WILD, median
from stackwitness_detectors.running import RUNNING, usual_top

_HOURS = 24 * 60
_LEAST_LEVEL = 0.1  # of the usual level: near nought a relative spread says nothing


class Course:
    """Keep per hour and tested channel: samples, mean, squares about the mean, squared steps between samples.

    It finds nothing itself. A step is the difference of two samples at most an hour apart; `equal` counts
    steps of exactly nought.
    """

    name = "course"

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.tested = memory.principal()
        width = len(self.tested)
        names = ("count", "within", "squares", "pairs", "equal")
        self.table = Table(
            _HOURS,
            {
                "hour": ("<i8", -1),
                "mean": ("<f8", width),
                **dict.fromkeys(names, ("<f4", width)),
                "load": ("<f8", -1),
            },
        )
        loads = memory.indices("load")
        self.load_at = loads[0] if loads else None
        self.last_ms = 0
        self.last: Values = np.full(width, np.nan)
        self.level: dict[int, tuple[float, float]] = {}
        self.made: dict[tuple[int, int, int, int, int, float], dict[str, Values]] = {}

    def hour(self, block: Block) -> list[Finding]:
        """Add the sums of one hour."""
        self.made = {}
        wild = [WILD * abs(self.level[k][0]) if k in self.level else 0.0 for k in self.tested]
        values = block.measured()[:, self.tested]
        values = np.where(np.abs(values) > np.where(np.array(wild) > 0, wild, np.inf), np.nan, values)
        present = np.isfinite(values)
        count = present.sum(axis=0)
        mean = np.where(count > 0, np.where(present, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
        within = np.where(present, (values - mean) ** 2, 0.0).sum(axis=0)
        steps, far = np.empty_like(values), np.empty(len(values), np.bool_)
        steps[0], far[0] = values[0] - self.last, block.at_ms[0] - self.last_ms > HOUR_MS
        steps[1:], far[1:] = values[1:] - values[:-1], block.at_ms[1:] - block.at_ms[:-1] > HOUR_MS
        steps[far] = np.nan
        known = np.isfinite(steps)
        squares = np.where(known, steps, 0.0) ** 2
        load = np.nan
        if self.load_at is not None:
            loads = block.values[:, self.load_at]
            there = np.isfinite(loads)
            if there.any():
                load = float(np.where(there, loads, 0.0).sum() / np.count_nonzero(there))
        self.table.append(
            block.hour, mean, count, within, squares.sum(axis=0), known.sum(axis=0),
            (known & (squares == 0)).sum(axis=0), load,
        )  # fmt: skip
        self.last_ms, self.last = int(block.at_ms[-1]), values[-1].copy()
        return []

    def day(self, day: int) -> list[Finding]:
        """Nothing is judged here; the usual levels are taken anew."""
        self.made = {}
        for k in self.tested:
            self.settle(k)
        return []

    def settle(self, k: int) -> None:
        """Take the channel's usual level and the usual highest load anew (once a day)."""
        use = self.usable(k, slice(0, len(self.table)))
        load = self.table.view("load")
        if use.any():
            usual = median(self.table.view("mean")[use, self.tested.index(k)])
            self.level[k] = (usual, max(usual_top(load), 1e-9))

    def usable(self, k: int, rows: slice) -> NDArray[np.bool_]:
        """Tell for kept hours whether the channel was measured, unexplained, and the unit running."""
        mean, load = self.table.view("mean")[rows, self.tested.index(k)], self.table.view("load")[rows]
        behind = len(self.memory.hours) - len(self.table)
        claimed = self.memory.hours.view("claimed")[behind + rows.start : behind + rows.stop, k]
        use: NDArray[np.bool_] = np.isfinite(mean) & ~claimed
        if self.load_at is not None:
            use &= ~(load <= RUNNING * self.level.get(k, (0.0, 0.0))[1])
        return use

    def windows(self, k: int, width: int, ends: NDArray[np.int64], step: float) -> dict[str, Values]:
        """Give windows, made up once for all tests of the hour; see `_windows`."""
        key = (k, width, int(ends[0]), int(ends[-1]), len(ends), step)
        if key not in self.made:
            self.made[key] = self._windows(k, width, ends, step)
        return self.made[key]

    def _windows(self, k: int, width: int, ends: NDArray[np.int64], step: float) -> dict[str, Values]:
        """Make up windows of `width` hours that end with the clock hours `ends`.

        Returns arrays [len(ends)]: hours used, log spread and log step relative to the level, share of equal
        steps, log of the load's relative spread. `step` is the resolution, below which nothing counts.
        """
        j, table, hour = self.tested.index(k), self.table, self.table.view("hour")
        first, last = np.searchsorted(hour, ends - width + 1), np.searchsorted(hour, ends + 1)
        rows = slice(int(first.min()), int(last.max()))
        first, last = first - rows.start, last - rows.start
        usual, top = self.level.get(k, (0.0, 1.0))
        use = self.usable(k, rows)

        load = table.view("load")[rows]
        loaded = use & (load <= ABSURD * top)
        load = np.where(loaded, load, 0.0)
        off = np.where(use, table.view("mean")[rows, j] - usual, 0.0)
        # Single precision as the columns are kept.
        kept = np.empty((len(use), 4), np.float32)
        for place, name in enumerate(("count", "pairs", "squares", "equal")):
            kept[:, place] = np.where(use, table.view(name)[rows, j], 0.0)
        count = kept[:, 0]
        made = np.empty((len(use), 6))
        made[:, 0], made[:, 1] = use, count * off
        made[:, 2] = np.where(use, table.view("within")[rows, j], 0.0) + count * off**2
        made[:, 3], made[:, 4], made[:, 5] = load, load**2, loaded
        late = np.minimum(first + 1, last)
        counted, paired, squared, level_steps = _between(kept, first, late, last)
        hours, moved, within, loads, squared_loads, known = _between(made, first, first, last)
        n = np.maximum(counted, 1e-9)
        m = moved / n
        variance = np.maximum(within / n - m**2, 0.0)
        level = np.maximum(np.abs(usual + m), _LEAST_LEVEL * abs(usual)) + 1e-12
        # The steps of the first hour lead into the window from outside.
        steps = squared / np.maximum(paired, 1e-9)
        least = step**2 / 4
        known = np.maximum(known, 1e-9)
        mean_load = loads / known
        load_spread = np.sqrt(np.maximum(squared_loads / known - mean_load**2, 0.0)) / top
        return {
            "hours": hours,
            "pairs": paired,
            "spread": 0.5 * np.log(variance + least + 1e-24) - np.log(level),
            "step": 0.5 * np.log(steps + least + 1e-24) - np.log(level),
            "equal": level_steps / np.maximum(paired, 1e-9),
            "load": np.log(load_spread + 0.005),
            "level": usual + m,
        }

    def notes(self) -> list[Note]:
        """Nothing to say."""
        return []

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        names = [self.memory.names[k] for k in self.tested]
        level = {self.memory.names[k]: list(pair) for k, pair in self.level.items()}
        return {
            "names": names, "table": self.table.dump(), "last_ms": self.last_ms, "last": self.last, "level": level,
        }  # fmt: skip

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back; channels are matched by name."""
        place = place_of(tuple(self.memory.names[k] for k in self.tested), tree["names"])
        self.table.load(tree["table"], place)
        self.last_ms = tree["last_ms"]
        self.last = np.where(place >= 0, tree["last"][place], np.nan)
        here = {self.memory.names[k]: k for k in self.tested}
        self.level = {here[n]: (pair[0], pair[1]) for n, pair in tree["level"].items() if n in here}


def _between(columns: NDArray[Any], first: Any, late: Any, last: Any) -> Values:
    """Sum columns [n, c] from `first` (all but the first column: from `late`) up to `last`: arrays [c, windows]."""
    path = np.zeros((len(columns) + 1, columns.shape[1]))
    path[1:] = np.cumsum(columns, axis=0, dtype=np.float64)
    summed: Values = path[last] - path[late]
    summed[:, 0] = path[last, 0] - path[first, 0]
    return summed.T
