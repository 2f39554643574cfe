"""The pieces of work of a run: a station's clean replay, one forged replay; each fit for another process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stackwitness.bench import detect_fleet
from stackwitness.bench.detect_data import open_place
from stackwitness.pool import Piece, Pool
from stackwitness_detectors import DetectorError, Frame, run
from stackwitness_detectors.bench.judging import replay_trial, trial_vus, was_stated
from stackwitness_detectors.bench.replay import alarm_of, days_of, listening, rows_of
from stackwitness_detectors.bench.trials import trial_of
from stackwitness_detectors.engine import notes_of
from stackwitness_detectors.memory import DAY_MS, HOUR_MS


def clean_key(budget: float, stn: str) -> str:
    """Name a station's clean replay in the journal."""
    return f"clean:{budget:g}:{stn}"


def trial_key(budget: float, trial: str) -> str:
    """Name a forged replay in the journal."""
    return f"trial:{budget:g}:{trial}"


def state_path(folder: Path, stn: str, day: int, budget: float) -> Path:
    """Name the file of the state before a day (days since 1970)."""
    return folder / f"{stn}.{day}.{budget:g}.state"


def keep_state(path: Path, state: bytes | None) -> None:
    """Keep the state before a day; the first byte tells a station without a past from a damaged file."""
    path.write_bytes(b"0" if state is None else b"1" + state)


def kept_state(path: Path) -> bytes | None:
    """Read such a state back. Raises DetectorError bench.state."""
    kept = path.read_bytes()
    if kept != b"0" and kept[:1] != b"1":
        raise DetectorError("bench.state", f"{path}: damaged; remove the folder and begin anew")
    return None if kept == b"0" else kept[1:]


def clean(
    folder: Path, stn: str, days: Sequence[int], budget: float, without: tuple[str, ...], plain: bool
) -> dict[str, Any]:
    """Judge a station's untouched readings; keep the states before `days`, give the alarms and the time taken."""
    place = open_place(folder / f"{stn}.npz")
    config, frame = listening(budget, without, plain), place.frame
    began = time.process_time()
    # The reference in one piece: any chunking gives the same.
    from_ms = place.split.calibration_ms // DAY_MS * DAY_MS
    state: bytes | None = None
    if head := int(np.searchsorted(frame.at_ms, from_ms)):
        state = run(place.context, None, rows_of(frame, 0, head), config).state
    alarms = []
    wanted = _days_with_readings(frame, days)
    for day in days_of(place.context, frame, state, from_ms, place.split.end_ms, config, wanted):
        for number in wanted.get(day.start_ms // DAY_MS, ()):
            keep_state(state_path(folder, stn, number, budget), day.before)
        alarms += [a.tree() for a in day.alarms]
    alarms += detect_fleet.clean_alarms(folder, stn, budget)
    spent = time.process_time() - began
    hours = len(np.unique(frame.at_ms // HOUR_MS))
    return {
        "alarms": alarms,
        "seconds_per_station_hour": float(f"{spent / max(hours, 1):.3g}"),
        "hours": hours,
    }


def _days_with_readings(frame: Frame, days: Sequence[int]) -> dict[int, list[int]]:
    """Group days by the first day at or after each that has readings: the state before it is the same."""
    found: dict[int, list[int]] = {}
    for day in sorted(set(days)):
        at = int(np.searchsorted(frame.at_ms, day * DAY_MS))
        if at < len(frame.at_ms):
            found.setdefault(int(frame.at_ms[at]) // DAY_MS, []).append(day)
    return found


def forged(
    folder: Path,
    tree: dict[str, Any],
    clean_alarms: list[dict[str, Any]],
    budget: float,
    without: tuple[str, ...],
    plain: bool,
) -> dict[str, Any]:
    """Replay one forgery from the state kept before its day; give the alarms that meet it, VUS-PR, and what notes had said."""
    trial = trial_of(tree)
    place = open_place(folder / f"{trial.stn}.npz")
    state = kept_state(state_path(folder, trial.stn, trial.from_ms // DAY_MS, budget))
    alarms, frame = replay_trial(place, trial, state, listening(budget, without, plain))
    alarms += detect_fleet.forged(folder, trial, frame, budget, without, plain)
    vus = trial_vus(place, trial, frame, [alarm_of(a) for a in clean_alarms], alarms)
    notes = notes_of(place.context, state, listening(budget, without, plain)) if state else ()
    stated = was_stated(place, trial, frame, notes)
    return {"alarms": [a.tree() for a in alarms], "vus_pr": float(f"{vus:.6g}"), "stated": stated}


def do(pieces: Sequence[Piece], pool: Pool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Do the pieces and yield each as it is finished."""
    yield from pool.do(pieces)
