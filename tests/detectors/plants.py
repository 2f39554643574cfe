"""A small plant for tests of detectors: seeded, with load, oxygen, weather and two pollutants that follow them."""

from __future__ import annotations

import numpy as np

from stackwitness_detectors import ChannelInfo, Context, Finding, Frame, run

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_704_067_200_000  # 2024-01-01, a day boundary
LIMIT = 92.0

CONTEXT = Context(
    "t1",
    (
        ChannelInfo("load", "load", "MW", "load", None, 0.1),
        ChannelInfo("o2", "oxygen", "%", "diluent", None, 0.01),
        ChannelInfo("nox", "NOx", "mg/m3", "pollutant", LIMIT, 0.1),
        ChannelInfo("so2", "SO2", "mg/m3", "pollutant", None, 0.01),
        ChannelInfo("temp", "air temperature", "Cel", "ambient", None, 0.1),
    ),
)


def wander(rng: np.random.Generator, n: int, memory: float) -> np.ndarray:
    """Give an AR(1) path of standard deviation 1."""
    path, noise = np.empty(n), rng.standard_normal(n) * np.sqrt(1 - memory**2)
    level = 0.0
    for i in range(n):
        level = memory * level + noise[i]
        path[i] = level
    return path


def plant(days: float, step_ms: int = HOUR_MS, seed: int = 1) -> Frame:
    """Simulate an honest plant."""
    rng = np.random.default_rng(seed)
    n = int(days * DAY_MS / step_ms)
    at_ms = START_MS + np.arange(n, dtype=np.int64) * step_ms
    per_hour = HOUR_MS / step_ms
    memory = 0.9 ** (1 / per_hour)
    day = 2 * np.pi * (at_ms % DAY_MS) / DAY_MS
    load = np.clip(300 + 60 * np.sin(day) + 30 * wander(rng, n, memory), 120, 420)
    o2 = 6.5 - 0.008 * (load - 300) + 0.15 * wander(rng, n, memory)
    temp = 10 + 6 * np.sin(day - 1) + 4 * wander(rng, n, memory ** (1 / 30))
    nox = 80 * (load / 300) ** 0.8 * np.exp(0.05 * (o2 - 6.5) + 0.05 * wander(rng, n, memory))
    so2 = 30 * (load / 300) ** 0.5 * np.exp(0.08 * wander(rng, n, memory))
    values = {
        "load": np.round(load, 1),
        "o2": np.round(o2, 2),
        "nox": np.round(nox, 1),
        "so2": np.round(so2, 2),
        "temp": np.round(temp, 1),
    }
    letters = {name: np.full(n, ord("N"), np.uint8) for name in values}
    return Frame(at_ms, {k: np.asarray(v, np.float64) for k, v in values.items()}, letters)


def with_values(frame: Frame, **changed: np.ndarray) -> Frame:
    """Give the frame with some channels replaced."""
    return Frame(frame.at_ms, {**frame.values, **changed}, frame.status)


def part(frame: Frame, first: int, last: int) -> Frame:
    """Give some rows of a frame."""
    return Frame(
        frame.at_ms[first:last],
        {name: v[first:last] for name, v in frame.values.items()},
        {name: s[first:last] for name, s in frame.status.items()},
    )


def found(frame: Frame, context: Context = CONTEXT) -> list[Finding]:
    """Judge a frame in one batch."""
    return list(run(context, None, frame).findings)
