"""Run the peers over one station's series; lives in its own environment, talks in .npz files, imports nothing of ours.

    python worker.py IN.npz OUT.npz

IN: at_ms [n], values [n, C], cal_row, trial_channel/lo/hi/end [T], forged (the forged stretches one after another).
OUT: names, `clean.NAME` [C, n - cal_row], `trial.NAME` (rows lo..end of each trial one after another), `seconds.NAME`.
Scores: higher is odder, NaN is no opinion; rule packages give 0 or 1. Each is used as its own pages show it: ranges
and steps from the reference part, six hours for a flat line, no tuning.
"""

from __future__ import annotations

import contextlib
import sys
import time
import warnings

import numpy as np
import pandas as pd

warnings.simplefilter("ignore")
DAY_MS = 86_400_000
CONTEXT_ROWS = 720
BLOCK_ROWS = 720
REFERENCE_ROWS = 20_000


def series(at_ms, y):
    return pd.Series(y, index=pd.to_datetime(at_ms, unit="ms"))


class Saqc:
    """SaQC: range, constants over six hours, univariate local outlier factor with its own threshold."""

    def fit(self, at_ms, y):
        self.low, self.high = float(np.nanmin(y)), float(np.nanmax(y))

    def score(self, at_ms, y):
        from saqc import SaQC

        data = series(at_ms, y).to_frame("y")
        checked = SaQC(data).flagRange("y", min=self.low, max=self.high).flagConstants("y", window="6h")
        if np.isfinite(y).sum() > 50:
            # Its own threshold cannot be found in a block that stands still (a unit that is off) or is mostly flagged already.
            with contextlib.suppress(ValueError, IndexError):
                checked = checked.flagUniLOF("y")
        return (checked.flags["y"].reindex(data.index).to_numpy() > 0).astype(float)


class Ioos:
    """QARTOD: gross range, spike, rate of change (3 standard deviations of the steps), flat line (6 h); only FAIL counts."""

    def fit(self, at_ms, y):
        self.low, self.high = float(np.nanmin(y)), float(np.nanmax(y))
        steps = np.diff(y)
        self.step = 3.0 * float(np.nanstd(steps))
        self.rate = self.step / (np.median(np.diff(at_ms)) / 1000.0)

    def score(self, at_ms, y):
        from ioos_qc import qartod

        # Seconds as times: the package would read bare integers as nanoseconds.
        times = pd.to_datetime(at_ms, unit="ms").to_numpy()
        flags = [
            qartod.gross_range_test(y, (self.low, self.high)),
            qartod.spike_test(y, self.step, 2 * self.step),
            qartod.rate_of_change_test(y, times, self.rate, 2 * self.rate),
            qartod.flat_line_test(y, times, 3 * 3600, 6 * 3600, 1e-9),
        ]
        return np.max([np.ma.filled(f, 0) == 4 for f in flags], axis=0).astype(float)


class Pecos:
    """Pecos: range, stagnant for six hours, abrupt increment, missing, outliers beyond 3 standard deviations."""

    def fit(self, at_ms, y):
        self.low, self.high = float(np.nanmin(y)), float(np.nanmax(y))
        self.step = 3.0 * float(np.nanstd(np.diff(y)))

    def score(self, at_ms, y):
        from pecos.monitoring import PerformanceMonitoring

        monitor = PerformanceMonitoring()
        monitor.add_dataframe(series(at_ms, y).to_frame("y"))
        monitor.check_missing()
        monitor.check_range([self.low, self.high])
        monitor.check_increment([None, 2 * self.step])
        monitor.check_delta([1e-9, None], window=6 * 3600)
        monitor.check_outlier([-3, 3], window=None)
        return (~monitor.mask["y"].to_numpy()).astype(float)


def features(at_ms, y):
    """Give nine features of the last 24 hours per row; NaN rows where fewer than half of the values are there."""
    step = max(int(np.median(np.diff(at_ms))), 1)
    width = int(np.clip(DAY_MS // step, 6, 2000))
    s = pd.Series(y)
    rolled, moved = s.rolling(width, min_periods=width // 2), s.diff()
    columns = [
        rolled.mean(), rolled.std(), rolled.min(), rolled.max(), s,
        s - rolled.mean(), moved.abs().rolling(width, min_periods=width // 2).mean(),
        (moved == 0).astype(float).rolling(width, min_periods=1).mean(),
        s.rolling(width, min_periods=width // 2).median(),
    ]  # fmt: skip
    return np.column_stack([c.to_numpy(float) for c in columns])


class Tabular:
    """PyOD's tabular detectors as they come, on the features."""

    def __init__(self, make):
        self.make = make

    def fit(self, at_ms, y):
        x = features(at_ms, y)
        x = x[np.isfinite(x).all(axis=1)][-REFERENCE_ROWS:]
        self.middle, self.spread = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
        self.detector = self.make()
        self.detector.fit((x - self.middle) / self.spread)

    def score(self, at_ms, y):
        x = features(at_ms, y)
        whole = np.isfinite(x).all(axis=1)
        told = np.full(len(y), np.nan)
        if whole.any():
            told[whole] = self.detector.decision_function((x[whole] - self.middle) / self.spread)
        return told


class Profile:
    """PyOD's matrix profile (discords) over a block and what went before; it sees the block's later rows too."""

    def fit(self, at_ms, y):
        step = max(int(np.median(np.diff(at_ms))), 1)
        self.width = int(np.clip(DAY_MS // step, 6, 288))

    def score(self, at_ms, y):
        from pyod.models.ts_matrix_profile import MatrixProfile

        filled = pd.Series(y).interpolate(limit_direction="both").to_numpy()
        if len(filled) < 4 * self.width or not np.isfinite(filled).all():
            return np.full(len(y), np.nan)
        return np.asarray(MatrixProfile(window_size=self.width).fit(filled).decision_scores_, float)


def contestants():
    from pyod.models.ecod import ECOD
    from pyod.models.iforest import IForest
    from pyod.models.knn import KNN

    return {
        "saqc": Saqc(),
        "ioos_qc": Ioos(),
        "pecos": Pecos(),
        "pyod_ecod": Tabular(ECOD),
        "pyod_iforest": Tabular(lambda: IForest(random_state=0)),
        "pyod_knn": Tabular(KNN),
        "pyod_matrixprofile": Profile(),
    }


def score_rows(peer, at_ms, y, lo, hi):
    """Score rows [lo, hi) in blocks, each with the rows before it."""
    told = []
    for first in range(lo, hi, BLOCK_ROWS):
        last, start = min(first + BLOCK_ROWS, hi), max(0, first - CONTEXT_ROWS)
        told.append(peer.score(at_ms[start:last], y[start:last])[first - start :])
    return np.concatenate(told) if told else np.empty(0)


def judge(peer, given):
    at_ms, values, cal = given["at_ms"], given["values"], int(given["cal_row"])
    lows, highs, ends = given["trial_lo"], given["trial_hi"], given["trial_end"]
    edges = np.concatenate([[0], np.cumsum(highs - lows)])
    clean, trials = [], [np.empty(0)] * len(lows)
    for c in range(values.shape[1]):
        y = values[:, c]
        peer.fit(at_ms[:cal], y[:cal])
        clean.append(score_rows(peer, at_ms, y, cal, len(y)))
        for t in np.flatnonzero(given["trial_channel"] == c):
            forged = y.copy()
            forged[lows[t] : highs[t]] = given["forged"][edges[t] : edges[t + 1]]
            trials[t] = score_rows(peer, at_ms, forged, int(lows[t]), int(ends[t]))
    return np.array(clean), np.concatenate(trials) if trials else np.empty(0)


def main(source, target):
    given = dict(np.load(source))
    told = {}
    for name, peer in contestants().items():
        began = time.process_time()
        try:
            told[f"clean.{name}"], told[f"trial.{name}"] = judge(peer, given)
        except Exception as wrong:
            told[f"failed.{name}"] = np.array(f"{type(wrong).__name__}: {wrong}"[:300])
            print(name, repr(wrong), file=sys.stderr)
        told[f"seconds.{name}"] = np.array(time.process_time() - began)
    with open(target, "wb") as stream:
        np.savez_compressed(stream, **told)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
