"""What a fleet remembers: the hourly means of what its stations report, one column per station and channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import ChannelInfo, Context, Frame, Note, Times, Values
from stackwitness_detectors.copy.motif import on_log_scale
from stackwitness_detectors.memory import DAY_MS, HOUR_MS, MEASURING, Memory, place_of
from stackwitness_detectors.running import least_running

_FORGED = (("pollutant",), ("flow",), ("process", "temperature", "pressure", "moisture", "diluent"))
_LARGEST = 1e15


class FleetMemory(Memory):
    """Be the memory of one large station whose channels are "station/channel"; days are closed one by one."""

    def __init__(self, contexts: Sequence[Context], config: Config) -> None:
        nodes = [(context.stn, channel) for context in contexts for channel in watched(context)]
        channels = tuple(replace(channel, name=f"{stn}/{channel.name}") for stn, channel in nodes)
        super().__init__(Context("fleet", channels), replace(config, history_rows=1))
        self.stn_of = [stn for stn, _ in nodes]
        self.channel_of = [channel.name for _, channel in nodes]
        self.targets = [k for k, (_, channel) in enumerate(nodes) if channel.role != "load"]
        self.columns_of: dict[str, list[int]] = {}
        for k, stn in enumerate(self.stn_of):
            self.columns_of.setdefault(stn, []).append(k)
        self.load_of = {
            stn: k for k, (stn, channel) in reversed(list(enumerate(nodes))) if channel.role == "load"
        }
        self.pending: dict[str, tuple[Times, Values]] = {}
        self.next_day = -1
        self.courses = np.empty((0, len(nodes)))
        self.rounding = np.zeros(len(nodes))
        self.logarithmic = np.zeros(len(nodes), np.bool_)
        self.base = 0

    def columns(self, stn: str) -> list[int]:
        """Give the columns of a station."""
        return self.columns_of.get(stn, [])

    def take(self, frames: Mapping[str, Frame]) -> list[Note]:
        """Take readings that belong to days not yet closed; note the others."""
        notes = []
        for stn in sorted(frames):
            columns = self.columns(stn)
            if not columns:
                continue
            at_ms, rows = measured_rows(frames[stn], [self.channel_of[k] for k in columns])
            known_ms, known = self.pending.get(stn, (np.empty(0, np.int64), np.empty((0, len(columns)))))
            last_ms = max(int(known_ms[-1]) if len(known_ms) else -1, self.next_day * DAY_MS - 1)
            before = np.maximum.accumulate(np.concatenate([[last_ms], at_ms]))[:-1]
            fresh = at_ms > before
            if not fresh.all():
                notes.append(
                    Note(
                        "fleet",
                        stn,
                        "refused",
                        f"{int((~fresh).sum())} readings came after their day was judged",
                    )
                )
            self.pending[stn] = np.concatenate([known_ms, at_ms[fresh]]), np.concatenate([known, rows[fresh]])
        return notes

    def closable(self, until_ms: int) -> list[int]:
        """List the days before `until_ms` that are not closed yet; years without readings are stepped over."""
        starts = [int(at_ms[0]) // DAY_MS for at_ms, _ in self.pending.values() if len(at_ms)]
        if self.next_day < 0:
            if not starts:
                return []
            self.next_day = min(starts)
        end = until_ms // DAY_MS
        if starts and min(starts) < end:
            self.next_day = max(self.next_day, min(starts) - self.config.history_hours // 24)
            return list(range(self.next_day, end))
        return []

    def close(self, day: int) -> None:
        """Turn the readings of a day into hours; set `courses` anew: logarithms of the hours when a unit ran."""
        means = np.full((24, len(self.names)), np.nan)
        for stn, (at_ms, rows) in self.pending.items():
            first, last = np.searchsorted(at_ms, [day * DAY_MS, (day + 1) * DAY_MS])
            hour = (at_ms[first:last] - day * DAY_MS) // HOUR_MS
            for h in np.unique(hour).tolist():
                part = rows[first:last][hour == h]
                count = np.isfinite(part).sum(axis=0)
                total = np.where(np.isfinite(part), part, 0.0).sum(axis=0)
                means[h, self.columns(stn)] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
            self.pending[stn] = at_ms[last:], rows[last:]
        # Kept with seven digits, as in the state: what is judged now is what is judged from the state.
        means = means.astype(np.float32).astype(np.float64)
        for h in range(24):
            self.hours.append(day * 24 + h, means[h], False, False, np.nan, np.nan)
        self.next_day = day + 1
        self.draw()

    def draw(self) -> None:
        """Work out the courses from the remembered hours."""
        mean = self.hours.view("mean")
        hour = self.hours.view("hour")
        self.base = int(hour[0]) if len(hour) else 0
        self.courses = np.full(mean.shape, np.nan)
        for k in range(len(self.names)):
            values = np.where(self._running(self.stn_of[k], mean), mean[:, k], np.nan)
            course, self.rounding[k] = on_log_scale(values, self.channels[k].resolution or 0.0)
            # A series that is not positive comes back as it is.
            self.courses[:, k], self.logarithmic[k] = course, course is not values

    def _running(self, stn: str, mean: Values) -> NDArray[np.bool_]:
        if stn not in self.load_of:
            return np.ones(len(mean), np.bool_)
        load = mean[:, self.load_of[stn]]
        on: NDArray[np.bool_] = load > least_running(load)
        return on

    def window(self, k: int, stop_h: int, width: int) -> Values:
        """Give the `width` hours of a course before clock hour `stop_h` (since 1970), fewer where it begins later."""
        stop = stop_h - self.base
        return self.courses[max(stop - width, 0) : max(stop, 0), k]

    def block(self, columns: list[int], stop_h: int, width: int) -> Values:
        """Give that window of several courses, [n, columns]."""
        stop = stop_h - self.base
        return self.courses[max(stop - width, 0) : max(stop, 0)][:, columns]

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        return {
            "names": list(self.names),
            "next_day": self.next_day,
            "hour": self.hours.view("hour"),
            "mean": self.hours.view("mean").astype(np.float32),
            "pending": {stn: [at_ms, rows] for stn, (at_ms, rows) in self.pending.items()},
            "columns": {stn: [self.channel_of[k] for k in self.columns(stn)] for stn in self.pending},
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Fill from a tree; columns are found by name, new ones begin empty, stations that left are forgotten."""
        place = place_of(self.names, tree["names"])
        self.next_day = tree["next_day"]
        for hour, row in zip(tree["hour"].tolist(), tree["mean"].astype(np.float64), strict=True):
            moved = np.where(place >= 0, row[place], np.nan) if len(row) else np.full(len(place), np.nan)
            self.hours.append(hour, moved, False, False, np.nan, np.nan)
        for stn, (at_ms, rows) in tree["pending"].items():
            here = [self.channel_of[k] for k in self.columns(stn)]
            if here:
                old = place_of(tuple(here), tree["columns"][stn])
                padded = np.column_stack([rows, np.full(len(rows), np.nan)])
                self.pending[stn] = at_ms, padded[:, old]
        self.draw()


def watched(context: Context) -> list[ChannelInfo]:
    """Choose what of a station the fleet looks at: what a forger would forge, and the load."""
    for roles in _FORGED:
        if chosen := [c for c in context.channels if c.role in roles]:
            return [*chosen, *[c for c in context.channels if c.role == "load"][:1]]
    return []


def measured_rows(frame: Frame, names: Sequence[str]) -> tuple[Times, Values]:
    """Give times [n] and values [n, C] of some channels, NaN where nothing was measured."""
    at_ms = np.asarray(frame.at_ms, np.int64)
    rows = np.full((len(at_ms), len(names)), np.nan)
    for i, name in enumerate(names):
        if name not in frame.values:
            continue
        values = np.asarray(frame.values[name], np.float64)
        if name in frame.status:
            letters = np.asarray(frame.status[name], np.uint8)
            values = np.where(MEASURING[letters] | (letters == 0), values, np.nan)
        rows[:, i] = np.where(np.abs(values) <= _LARGEST, values, np.nan)
    return at_ms, rows
