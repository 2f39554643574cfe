"""Lead the detectors over a station day by day, keep states, and go on from a kept state with forged readings."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from stackwitness_detectors.config import DEFAULT, Config
from stackwitness_detectors.contract import Context, DetectorError, Finding, Frame
from stackwitness_detectors.engine import open_engine
from stackwitness_detectors.memory import DAY_MS

POOLING = "pooled_laws"


@dataclass(frozen=True)
class Alarm:
    """Hold what counts of a finding; `at_ms` is when the engine gave it."""

    detector: str
    family: str
    kinds: tuple[str, ...]
    from_ms: int
    to_ms: int
    at_ms: int
    e_value: float

    def tree(self) -> dict[str, Any]:
        """Give it as JSON takes it."""
        return asdict(self)


def alarm_of(tree: dict[str, Any]) -> Alarm:
    """Read an alarm back."""
    return Alarm(**{**tree, "kinds": tuple(tree["kinds"])})


def listening(
    rate: float, without: Collection[str] = (), plain: bool = False, config: Config = DEFAULT
) -> Config:
    """Return the configuration whose tests together may give `rate` findings a station-month.

    `without` names tests (`copy` for `copy_budget`) that are off; the others share the whole budget. `pooled_laws` among
    them leaves each channel to its own past. `plain` takes
    the highest value of the reference as threshold in place of rates. Raises DetectorError bench.without for a
    test that does not exist.
    """
    off: dict[str, float | bool] = {f"{name}_budget": 0.0 for name in without if name != POOLING}
    if POOLING in without:
        off[POOLING] = False
    if missing := off.keys() - {f.name for f in fields(config)}:
        raise DetectorError("bench.without", f"no such test: {', '.join(sorted(missing))}")
    return replace(config, budget=rate, plain_thresholds=plain, **off)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Day:
    """Hold one day of a replay: the state before it (where it was wanted) and the alarms given on it."""

    start_ms: int
    before: bytes | None
    alarms: tuple[Alarm, ...]


def days_of(
    context: Context,
    frame: Frame,
    state: bytes | None,
    from_ms: int,
    to_ms: int,
    config: Config,
    wanted: Collection[int] = (),
) -> Iterator[Day]:
    """Yield the days (UTC) with readings in [from_ms, to_ms); `before` is given for `wanted` days (since 1970).

    One engine is led through all days: any chunking gives the same, and states need not be written and read. Within a day `at_ms` is the end of what a finding speaks of, at least the start of the day: exact for tests
    that speak at the end of an hour or a day.
    """
    first, last = (int(i) for i in np.searchsorted(frame.at_ms, [from_ms, to_ms]))
    day = frame.at_ms[first:last] // DAY_MS
    edges = [first, *(first + np.flatnonzero(np.diff(day)) + 1).tolist(), last]
    engine = open_engine(context, state, config)
    for lo, hi in itertools.pairwise(edges):
        if hi <= lo:
            return
        number = int(frame.at_ms[lo]) // DAY_MS
        before = engine.dump() if number in wanted else None
        known = len(engine.findings)
        with np.errstate(all="ignore"):
            engine.feed(rows_of(frame, lo, hi))
        spoke = int(frame.at_ms[hi - 1])
        told = tuple(_alarm(f, int(frame.at_ms[lo]), spoke) for f in engine.findings[known:])
        yield Day(number * DAY_MS, before, told)


def rows_of(frame: Frame, lo: int, hi: int) -> Frame:
    """Return some rows of a frame."""
    return Frame(
        frame.at_ms[lo:hi],
        {name: values[lo:hi] for name, values in frame.values.items()},
        {name: letters[lo:hi] for name, letters in frame.status.items()},
    )


def _alarm(f: Finding, first_ms: int, last_ms: int) -> Alarm:
    at_ms = max(first_ms, min(f.to_ms, last_ms))
    return Alarm(f.detector, f.family, f.kinds, f.from_ms, f.to_ms, at_ms, f.e_value)
