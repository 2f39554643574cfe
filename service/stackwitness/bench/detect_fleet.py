"""Judge a bench's stations together: the clean fleet once, and each forged station among clean neighbours."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stackwitness.bench.detect_data import open_place
from stackwitness_detectors import Finding, Frame
from stackwitness_detectors.bench.judging import GRACE_MS, overlaps
from stackwitness_detectors.bench.replay import Alarm, listening, rows_of
from stackwitness_detectors.bench.trials import Place, Trial
from stackwitness_detectors.fleet import comparable_stations, run_fleet
from stackwitness_detectors.memory import DAY_MS

_LEARNING_DAYS = 200


def fleet_key(budget: float) -> str:
    """Name the clean replay of the fleet in the journal."""
    return f"fleet:{budget:g}"


def stations_of(places: Mapping[str, Place]) -> tuple[str, ...]:
    """Name the stations that can be compared with others; none when there are fewer than two."""
    return comparable_stations([place.context for place in places.values()])


def clean_path(folder: Path, budget: float) -> Path:
    """Name the file of the clean fleet's alarms by station."""
    return folder / f"fleet.{budget:g}.json"


def state_path(folder: Path, day: int, budget: float) -> Path:
    """Name the file of the fleet's state before a day (days since 1970)."""
    return folder / f"fleet.{day}.{budget:g}.state"


def clean(
    folder: Path,
    stns: Sequence[str],
    days: Collection[int],
    budget: float,
    without: tuple[str, ...],
    plain: bool,
) -> dict[str, Any]:
    """Judge the untouched readings of all stations; keep the states before `days` and the alarms by station."""
    places = [open_place(folder / f"{stn}.npz") for stn in stns]
    config = listening(budget, without, plain).spread()
    start = min(place.split.test_ms for place in places) // DAY_MS - _LEARNING_DAYS
    end = max(place.split.end_ms for place in places) // DAY_MS + 1
    edges = sorted({day for day in days if start < day < end} | {end})
    alarms: dict[str, list[dict[str, Any]]] = {stn: [] for stn in stns}
    state: bytes | None = None
    for begin, stop in zip([start, *edges], edges, strict=False):
        frames = {p.context.stn: _between(p.frame, begin, stop) for p in places}
        result = run_fleet([p.context for p in places], state, frames, stop * DAY_MS, config)
        state = result.state
        state_path(folder, stop, budget).write_bytes(state)
        for stn, findings in result.findings.items():
            alarms[stn] += [_alarm(f).tree() for f in findings]
    clean_path(folder, budget).write_text(json.dumps(alarms))
    return {"alarms": sum(len(told) for told in alarms.values())}


def clean_alarms(folder: Path, stn: str, budget: float) -> list[dict[str, Any]]:
    """Give what the clean fleet said of a station; nothing where there is no fleet."""
    path = clean_path(folder, budget)
    told: dict[str, list[dict[str, Any]]] = json.loads(path.read_text()) if path.exists() else {}
    return told.get(stn, [])


def forged(
    folder: Path,
    trial: Trial,
    frame: Frame,
    budget: float,
    without: tuple[str, ...],
    plain: bool,
) -> list[Alarm]:
    """Judge a forged station beside its clean neighbours from the day of the forgery on; alarms that meet it."""
    day = trial.from_ms // DAY_MS
    told: dict[str, Any] = (
        json.loads(path.read_text()) if (path := clean_path(folder, budget)).exists() else {}
    )
    kept = state_path(folder, day, budget)
    if trial.stn not in told or not kept.exists():
        return []
    places = {stn: open_place(folder / f"{stn}.npz") for stn in told}
    end = min(trial.to_ms + GRACE_MS, places[trial.stn].split.end_ms) // DAY_MS + 1
    frames = {stn: _between(place.frame, day, end) for stn, place in places.items()}
    frames[trial.stn] = _between(frame, day, end)
    contexts = [place.context for place in places.values()]
    config = listening(budget, without, plain).spread()
    result = run_fleet(contexts, kept.read_bytes(), frames, end * DAY_MS, config, only=[trial.stn])
    alarms = [_alarm(f) for f in result.findings.get(trial.stn, ())]
    return [a for a in alarms if a.to_ms >= trial.from_ms and overlaps(a, trial)]


def _between(frame: Frame, day: int, end: int) -> Frame:
    first, last = (int(i) for i in np.searchsorted(frame.at_ms, [day * DAY_MS, end * DAY_MS]))
    return rows_of(frame, first, last)


def _alarm(f: Finding) -> Alarm:
    """A fleet speaks when a day is over, whatever hour of it a window ended at."""
    at_ms = (f.to_ms // DAY_MS + 1) * DAY_MS - 1
    return Alarm(f.detector, f.family, f.kinds, f.from_ms, f.to_ms, at_ms, f.e_value)
