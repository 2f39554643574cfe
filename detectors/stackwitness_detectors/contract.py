"""What goes into the detectors and what comes out: plain frozen values, numpy arrays, no behaviour.

Time is int milliseconds since 1970-01-01 UTC. A missing value is NaN. A status is the ASCII code of one
letter: N normal, F stopped, M maintenance, S manually set, D fault, C calibration, T over range,
B communication fault (HJ 212), H held (analyser holds its value, as in blow-back), R substitute data
(40 CFR 75.33).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Times: TypeAlias = NDArray[np.int64]
Values: TypeAlias = NDArray[np.float64]
Letters: TypeAlias = NDArray[np.uint8]
Verdict: TypeAlias = Literal["cannot be", "very unlikely", "unusual"]
Role: TypeAlias = Literal[
    "pollutant",
    "load",
    "diluent",
    "flow",
    "temperature",
    "pressure",
    "moisture",
    "ambient",
    "process",
]

# Why something cannot be judged: `history` too little past, `unexplained` no channel explains it, `constant` it never
# moved, `companion` a channel is missing beside it, `no_limit`, `no_visits` nobody has filed them, `digits` its digits
# carry nothing, `calibrations` none has a value, `silent` no reading for a day, `refused` values that cannot be,
# `neighbours` too few are related, `below` only shifts smaller than `percent` cannot be seen, `nothing` the station
# reports nothing that is emitted and nothing of a process.
Cannot: TypeAlias = Literal[
    "history",
    "unexplained",
    "constant",
    "companion",
    "no_limit",
    "no_visits",
    "digits",
    "calibrations",
    "silent",
    "few_hours",
    "refused",
    "neighbours",
    "below",
    "nothing",
]
Why: TypeAlias = tuple[Cannot, str]


class DetectorError(Exception):
    """Tell why a call cannot be served by a stable dotted `code`; odd readings never raise, they give notes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


LARGEST = 1e15  # no concentration, flow or power is larger: such a number is a transmission error


@dataclass(frozen=True)
class ChannelInfo:
    """Describe one channel: `limit` in its unit or None, `resolution` its smallest step or None."""

    name: str
    quantity: str
    unit: str
    role: str
    limit: float | None = None
    resolution: float | None = None


@dataclass(frozen=True)
class Context:
    """Describe the station: its id, its channels, and when inspectors or auditors were there, [from, to) in ms."""

    stn: str
    channels: tuple[ChannelInfo, ...]
    visits: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Frame:
    """Hold readings of a station: `at_ms` strictly increasing int64[n], values and letters per channel."""

    at_ms: Times
    values: Mapping[str, Values]
    status: Mapping[str, Letters] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """State one implausible interval with its reasons.

    The same `episode` again with `extends` is a longer interval of a finding already given: findings come at
    the crossing, at each doubling of the length, and at the end. `e_value` is evidence against "an ordinary
    interval of this station" (mean at most 1 when there is nothing to find); `statistic` is (name, value).
    """

    detector: str
    version: str
    family: str
    kind: str
    kinds: tuple[str, ...]
    verdict: Verdict
    from_ms: int
    to_ms: int
    channels: tuple[str, ...]
    statistic: tuple[str, float]
    e_value: float
    numbers: dict[str, float | int | str]
    text_en: str
    text_zh: str
    innocent: tuple[str, ...]
    look_at_en: str
    look_at_zh: str
    plot: dict[str, Any]
    episode: str
    extends: bool


@dataclass(frozen=True, order=True)
class Note:
    """Say that a detector cannot judge a channel ("" = the whole station), and because of what.

    `numbers`: what the reason counts, as `need` and `have` (days), or `percent`, `days` and `since_ms` of a `below`.
    """

    detector: str
    channel: str
    code: Cannot
    reason: str
    numbers: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Result:
    """Give back the new state, the findings in the order they arose, and what could not be judged."""

    state: bytes
    findings: tuple[Finding, ...]
    notes: tuple[Note, ...] = ()
