"""Read a manifest's stations into frames, and keep them as arrays where worker processes find them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from stackwitness_client.dataset import read_rows
from stackwitness_client.manifest import StationSource
from stackwitness_detectors import ChannelInfo, Context, DetectorError, Frame
from stackwitness_detectors.bench.replay import rows_of
from stackwitness_detectors.bench.splits import operating_hours, split_frame
from stackwitness_detectors.bench.trials import Place
from stackwitness_detectors.forge import assume_limits
from stackwitness_detectors.memory import DAY_MS


def read_station(source: StationSource, data: Path) -> tuple[Context, Frame]:
    """Read one station whole: values [n] per channel (NaN missing), letters [n]. Raises ManifestError."""
    names = [channel.name for channel in source.channels]
    times: list[int] = []
    cells: list[dict[str, tuple[float, str]]] = []
    for row in read_rows(source, data):
        times.append(row.at_ms)
        cells.append(
            {r.name: (float("nan") if r.value is None else float(r.value), r.status) for r in row.records}
        )
    values = {name: np.full(len(times), np.nan) for name in names}
    letters = {name: np.full(len(times), ord("N"), np.uint8) for name in names}
    for at, cell in enumerate(cells):
        for name, (value, status) in cell.items():
            values[name][at], letters[name][at] = value, ord(status)
    channels = tuple(
        ChannelInfo(c.name, c.quantity, c.unit, c.role, c.limit, c.resolution) for c in source.channels
    )
    return Context(source.stn, channels), Frame(np.array(times, np.int64), values, letters)


def newest_days(read: tuple[Context, Frame], days: int) -> tuple[Context, Frame]:
    """Cut a station to its last `days` days; 0 leaves it whole."""
    context, frame = read
    if not days or not len(frame.at_ms):
        return read
    first = int(np.searchsorted(frame.at_ms, int(frame.at_ms[-1]) - days * DAY_MS))
    return context, rows_of(frame, first, len(frame.at_ms))


def with_limits(context: Context, frame: Frame, borders: tuple[float, float], exceeded: float) -> Context:
    """Give channels to forge that name no limit the one that the share `exceeded` of what came before the test part lies above.

    A limit is the law's and no secret: whoever bends readings to it and whoever judges them know the same. A station that
    cannot be split stays as it is.
    """
    try:
        end = int(np.searchsorted(frame.at_ms, split_frame(frame, *borders).test_ms)) if exceeded else 0
    except DetectorError:
        end = 0
    return assume_limits(context, rows_of(frame, 0, end), exceeded) if end else context


def frame_hash(context: Context, frame: Frame) -> str:
    """Hash what the detectors are given (SHA-256, lowercase hex)."""
    digest = hashlib.sha256(json.dumps(asdict(context), sort_keys=True).encode())
    digest.update(frame.at_ms.tobytes())
    for name in sorted(frame.values):
        digest.update(frame.values[name].tobytes() + frame.status[name].tobytes())
    return digest.hexdigest()


def save_station(
    path: Path, context: Context, frame: Frame, borders: tuple[float, float], neighbour: str | None
) -> None:
    """Keep a station as one file of arrays; `neighbour` names another one in the same folder."""
    arrays: dict[str, Any] = {f"v{k}": frame.values[c.name] for k, c in enumerate(context.channels)}
    arrays |= {f"s{k}": frame.status[c.name] for k, c in enumerate(context.channels)}
    told = json.dumps({"context": asdict(context), "borders": borders, "neighbour": neighbour})
    with path.open("wb") as stream:
        np.savez(stream, at_ms=frame.at_ms, told=np.array(told), **arrays)


@lru_cache(maxsize=32)
def open_place(path: Path) -> Place:
    """Read a kept station back, with its parts of time and operating hours. Raises DetectorError bench.split."""
    context, frame, told = _load(path)
    first, second = told["borders"]
    near = told["neighbour"]
    neighbours = (_load(path.with_name(f"{near}.npz"))[:2],) if near else ()
    split, hours = split_frame(frame, first, second), operating_hours(context, frame)
    return Place(context, frame, split, hours, neighbours)


def _load(path: Path) -> tuple[Context, Frame, dict[str, Any]]:
    with np.load(path) as kept:
        told = json.loads(str(kept["told"]))
        channels = tuple(ChannelInfo(**c) for c in told["context"]["channels"])
        context = Context(told["context"]["stn"], channels)
        frame = Frame(
            kept["at_ms"],
            {c.name: kept[f"v{k}"] for k, c in enumerate(channels)},
            {c.name: kept[f"s{k}"] for k, c in enumerate(channels)},
        )
    return context, frame, told
