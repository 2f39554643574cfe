"""Volume under the surface of precision and recall over thresholds and tolerances (Paparrizos et al., VLDB 2022).

For a tolerance l every anomaly gets a ramp of half of l at each side, sqrt(1 - distance / l). With these soft labels
true positives are their sum over what is flagged, positives the mean of the hard and the soft sum, recall at most 1 and times
the share of anomalies of which anything is flagged. The area is the sum of (recall step) x precision from the
highest threshold down; the volume its mean over the tolerances.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import Values

TOLERANCES = (0, 6, 12, 18, 24)


def soft_labels(labels: NDArray[np.bool_], tolerance: int) -> Values:
    """Return labels [n] with ramps of `tolerance` // 2 steps at both sides of each run."""
    soft: Values = labels.astype(np.float64)
    for start, end in _runs(labels):
        for distance in range(1, tolerance // 2 + 1):
            ramp = (1.0 - distance / tolerance) ** 0.5
            for at in (start - distance, end - 1 + distance):
                if 0 <= at < soft.size:
                    soft[at] = max(soft[at], ramp)
    return soft


def area_pr(labels: NDArray[np.bool_], scores: Values, tolerance: int) -> float:
    """Return the area for one tolerance; every distinct score is a threshold. 0.0 without labels."""
    if not labels.any():
        return 0.0
    soft = soft_labels(labels, tolerance)
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)
    true = np.cumsum(soft[order])[last_of_tie]
    flagged = last_of_tie + 1.0
    positives = (labels.sum() + soft.sum()) / 2.0
    # An anomaly exists for a threshold when its highest score, ramps included, reaches it.
    peaks = np.array([scores[start:end].max() for start, end in _runs(soft > 0)])
    exists = (peaks[None, :] >= scores[order][last_of_tie][:, None]).mean(axis=1)
    recall = np.minimum(true / positives, 1.0) * exists
    steps = np.diff(np.concatenate([[0.0], recall]))
    return float((steps * (true / flagged)).sum())


def vus_pr(labels: NDArray[np.bool_], scores: Values, tolerances: Sequence[int] = TOLERANCES) -> float:
    """Return the mean area over the tolerances (in steps of the series)."""
    return float(np.mean([area_pr(labels, scores, tolerance) for tolerance in tolerances]))


def _runs(marks: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
