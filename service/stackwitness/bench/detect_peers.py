"""Let the peers judge the same stations and the same forgeries, in their own environment, by the same measures.

Rule packages have no threshold to turn: their flags are the same at every budget. Scores of PyOD get, per station, the
threshold at which the calibration part shows the budgeted number of events.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from stackwitness.bench.detect_counted import Counted
from stackwitness_detectors.bench.budgets import threshold_for
from stackwitness_detectors.bench.judging import GRACE_MS, outcome_of, quiet_from
from stackwitness_detectors.bench.metrics import Outcome, Quiet
from stackwitness_detectors.bench.replay import Alarm
from stackwitness_detectors.bench.splits import months_between
from stackwitness_detectors.bench.trials import Place, Trial, changed_rows, make
from stackwitness_detectors.bench.vus import vus_pr
from stackwitness_detectors.memory import DAY_MS, HOUR_MS, MEASURING

if TYPE_CHECKING:
    from stackwitness.bench.detect import Run

ROOM = Path("bench/.peers")
SOURCES = Path("bench/peers")
RULES = ("saqc", "ioos_qc", "pecos")
NAMES = (*RULES, "pyod_ecod", "pyod_iforest", "pyod_knn", "pyod_matrixprofile")
_MOST = 1e300  # an infinite score: above all others, but a number that can be passed
_HIGHEST = 4000  # rows of a station that may become alarms: more would be far over any budget

Scores = NDArray[np.float64]
Found = dict[str, dict[float, Counted]]


def setup(room: Path = ROOM) -> int:
    """Make the environment from the configured package index; returns pip's exit code."""
    if not (room / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(room)], check=True)
    install = [str(room / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    return subprocess.run([*install, "-r", str(SOURCES / "requirements.txt")], check=False).returncode


def judge(
    opened: Run, room: Path | None, progress: Progress, jobs: int = 1
) -> tuple[Callable[[Sequence[float]], Found], str | None]:
    """Run the peers over every station; returns what gives their figures per budget, and why they did not run."""
    if room is None:
        return lambda budgets: {}, "left out by --no-peers"
    python, worker = room / "bin" / "python", SOURCES / "worker.py"
    if not python.exists() or not worker.exists():
        return lambda budgets: {}, f"no environment in {room}: run `stackwitness bench peers-setup`"
    version = hashlib.sha256(worker.read_bytes()).hexdigest()[:12]
    bar = progress.add_task("peers", total=len(opened.places))
    tables: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}

    def one(stn: str) -> str | None:
        target, place = _target(opened, stn, version), opened.places[stn]
        if f"peers:{stn}:{version}" in opened.journal and target.exists():
            return None
        return _work(python, worker, place, [t for t in opened.trials if t.stn == stn], target)

    # A thread each: the work is done by processes of the peers' own.
    with ThreadPoolExecutor(jobs) as threads:
        wrongs = threads.map(one, opened.places)
        for stn, wrong in zip(opened.places, wrongs, strict=True):
            if wrong:
                threads.shutdown(cancel_futures=True)
                return lambda budgets: {}, wrong
            if f"peers:{stn}:{version}" not in opened.journal:
                opened.journal.add(f"peers:{stn}:{version}", {})
            with np.load(_target(opened, stn, version)) as kept:
                tables[stn] = {name: kept[name] for name in kept.files}
            failed |= {k[7:]: f"{stn}: {v}" for k, v in tables[stn].items() if k.startswith("failed.")}
            progress.advance(bar)
    ready = [name for name in NAMES if name not in failed]
    absent = "; ".join(f"{name} ({why})" for name, why in sorted(failed.items())) or None
    return lambda budgets: {name: _figures(name, opened, tables, budgets) for name in ready}, absent


def _target(opened: Run, stn: str, version: str) -> Path:
    return opened.folder / f"{stn}.{version}.peers.npz"


def _work(python: Path, worker: Path, place: Place, trials: Sequence[Trial], target: Path) -> str | None:
    source = target.with_suffix(".in.npz")
    with source.open("wb") as stream:
        np.savez(stream, **_given(place, trials))
    done = subprocess.run(
        [str(python), str(worker), str(source), str(target)], capture_output=True, text=True, check=False
    )
    source.unlink()
    return None if done.returncode == 0 else f"the worker failed: {done.stderr.strip()[-300:]}"


def _given(place: Place, trials: Sequence[Trial]) -> dict[str, Any]:
    frame, names = place.frame, place.targets()
    columns = [_measured(frame.values[n], frame.status[n]) for n in names]
    rows = [np.searchsorted(frame.at_ms, [t.from_ms, t.to_ms, t.to_ms + GRACE_MS]) for t in trials]
    pieces = []
    for t, (lo, hi, _) in zip(trials, rows, strict=True):
        forged = make(place, t)
        pieces.append(_measured(forged.values[t.channel], forged.status[t.channel])[lo:hi])
    table = np.array(rows, np.int64).reshape(-1, 3)
    return {
        "at_ms": frame.at_ms,
        "values": np.column_stack(columns),
        "cal_row": np.array(_first_row(place)),
        "trial_channel": np.array([names.index(t.channel) for t in trials], np.int64),
        "trial_lo": table[:, 0],
        "trial_hi": table[:, 1],
        "trial_end": table[:, 2],
        "forged": np.concatenate(pieces) if pieces else np.empty(0),
    }


def _measured(values: Scores, letters: NDArray[np.uint8]) -> Scores:
    return np.where(MEASURING[letters], values, np.nan)


def _first_row(place: Place) -> int:
    return int(np.searchsorted(place.frame.at_ms, place.split.calibration_ms))


class _Station:
    """Hold one peer's scores at one station, brought to one scale over its channels."""

    def __init__(
        self, place: Place, trials: Sequence[Trial], clean: Scores, trial: Scores, rules: bool
    ) -> None:
        self.place = place
        self.at_ms = place.frame.at_ms[_first_row(place) :]
        calibrating = self.at_ms < place.split.test_ms
        self.names = place.targets()
        scale = np.ones(len(self.names))
        shift = np.zeros(len(self.names))
        if not rules:
            for c, scores in enumerate(clean):
                known = scores[calibrating & np.isfinite(scores)]
                if known.size:
                    low, high = np.quantile(known, [0.5, 0.99])
                    shift[c], scale[c] = low, max(high - low, 1e-9)
        self.clean = np.nan_to_num(
            (clean - shift[:, None]) / scale[:, None], nan=-np.inf, posinf=_MOST, neginf=-np.inf
        )
        self.trials: dict[str, tuple[slice, Scores]] = {}
        begin = 0
        for t in trials:
            c = self.names.index(t.channel)
            lo, end = np.searchsorted(self.at_ms, [t.from_ms, t.to_ms + GRACE_MS])
            told = (trial[begin : begin + end - lo] - shift[c]) / scale[c]
            self.trials[t.id] = (
                slice(int(lo), int(end)),
                np.nan_to_num(told, nan=-np.inf, posinf=_MOST, neginf=-np.inf),
            )
            begin += int(end - lo)
        self.highest = self.clean.max(axis=0)

    def threshold(self, budget: float) -> float:
        """Return the threshold that keeps the calibration part at the budget."""
        split = self.place.split
        months = months_between(self.place.hours, split.calibration_ms, split.test_ms)
        part = np.flatnonzero((self.at_ms < split.test_ms) & np.isfinite(self.highest))
        part = part[np.argsort(-self.highest[part], kind="stable")[:_HIGHEST]]
        scored = [(float(self.highest[i]), int(self.at_ms[i]), int(self.at_ms[i])) for i in part]
        # Between the last score that passes and all that is higher: what lies above everything seen still speaks.
        level = threshold_for([scored], budget * months)
        return level if np.isfinite(level) else float(np.nextafter(self.highest[part].max(), np.inf))

    def quiet(self, threshold: float) -> Quiet:
        """Count the events of the clean test part."""
        rows = self.at_ms[(self.at_ms >= self.place.split.test_ms) & (self.highest >= threshold)]
        return quiet_from(self.place, [(int(t), int(t)) for t in rows])

    def detection(self, trial: Trial, threshold: float) -> Alarm | None:
        """Return the first flag in a forgery, if this channel was silent there on the clean data."""
        rows, told = self.trials[trial.id]
        if (self.clean[self.names.index(trial.channel), rows] >= threshold).any():
            return None
        flagged = np.flatnonzero(told >= threshold)
        if not flagged.size:
            return None
        at_ms = int(self.at_ms[rows][flagged[0]])
        return Alarm("", "", (), at_ms, at_ms, at_ms, 0.0)

    def vus(self, trial: Trial, labels: NDArray[np.bool_]) -> float:
        """Return VUS-PR over the hours of the test part."""
        split, rows = self.place.split, self.trials[trial.id]
        scores = self.clean[self.names.index(trial.channel)].copy()
        scores[rows[0]] = rows[1]
        floor = scores[np.isfinite(scores)].min(initial=0.0)
        hours = np.full(len(labels), floor)
        at = self.at_ms // HOUR_MS - split.test_ms // HOUR_MS
        inside = (at >= 0) & (at < len(hours)) & np.isfinite(scores)
        np.maximum.at(hours, at[inside], scores[inside])
        return vus_pr(labels, hours)


def _figures(
    name: str, opened: Run, tables: dict[str, dict[str, Any]], budgets: Sequence[float]
) -> dict[float, Counted]:
    rules = name in RULES
    stations = {
        stn: _Station(
            opened.places[stn],
            [t for t in opened.trials if t.stn == stn],
            table[f"clean.{name}"],
            table[f"trial.{name}"],
            rules,
        )
        for stn, table in tables.items()
    }
    outcomes: dict[float, list[Outcome]] = {budget: [] for budget in budgets}
    limits = {
        budget: {stn: 0.5 if rules else s.threshold(budget) for stn, s in stations.items()}
        for budget in budgets
    }
    vus = []
    for trial in opened.trials:
        place, station = opened.places[trial.stn], stations[trial.stn]
        frame = make(place, trial)
        vus.append(station.vus(trial, _labels(place, frame.at_ms[changed_rows(place.frame, frame)])))
        for budget in budgets:
            alarm = station.detection(trial, limits[budget][trial.stn])
            outcomes[budget].append(outcome_of(place, trial, frame, [alarm] if alarm else []))
    spent = sum(float(table[f"seconds.{name}"]) for table in tables.values())
    hours = sum(len(np.unique(s.at_ms // HOUR_MS)) for s in stations.values())
    hours += sum((t.to_ms - t.from_ms + DAY_MS) // HOUR_MS for t in opened.trials)
    return {
        budget: Counted(
            tuple(s.quiet(limits[budget][stn]) for stn, s in stations.items()),
            tuple(outcomes[budget]),
            spent,
            hours,
            tuple(vus),
        )
        for budget in budgets
    }


def _labels(place: Place, changed_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
    first = place.split.test_ms // HOUR_MS
    labels = np.zeros(place.split.end_ms // HOUR_MS + 1 - first, np.bool_)
    at = changed_ms // HOUR_MS - first
    labels[at[(at >= 0) & (at < len(labels))]] = True
    return labels
