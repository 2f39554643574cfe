"""Rates, recalls, delays and attribution, each with the interval that belongs to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2, kstest, norm

_RESAMPLES = 2000


@dataclass(frozen=True)
class Outcome:
    """Hold what one detector made of one trial at one budget; `delay_h` None: not detected.

    `hidden` is the share of a month's mass hidden before the first flag; `kinds` ranks what it was taken for; `stated`: did
    the station's notes say before that it would be found (None: they speak of lasting shifts only, this is none).
    """

    stn: str
    kind: str
    delay_h: float | None
    hidden: float
    kinds: tuple[str, ...] = ()
    level: str = ""
    duration: str = ""
    seed: int = 0
    stated: bool | None = None


@dataclass(frozen=True)
class Quiet:
    """Hold the false alarms of one station's clean test part; `spoken_months` of its operating months are spoken of by some."""

    stn: str
    events: int
    months: float
    spoken_months: float


def poisson_interval(count: int, exposure: float) -> tuple[float, float]:
    """Return the exact 95 % interval of a Poisson rate (Garwood 1936); no exposure gives (0, inf)."""
    if exposure <= 0.0:
        return 0.0, math.inf
    low = float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    return low / exposure, float(chi2.ppf(0.975, 2 * count + 2)) / 2 / exposure


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927); no trials give (0, 1)."""
    if trials == 0:
        return 0.0, 1.0
    z = float(norm.ppf(0.975))
    share, width = hits / trials, z * z / trials
    middle = (share + width / 2) / (1 + width)
    half = z / (1 + width) * math.sqrt(share * (1 - share) / trials + width / (4 * trials))
    return max(0.0, middle - half) if hits else 0.0, min(1.0, middle + half)


def cluster_interval(outcomes: Sequence[Outcome], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean recall over kinds when stations are drawn again.

    Trials of one station share its luck. With one station: Wilson's interval over all trials.
    """
    stations = sorted({o.stn for o in outcomes})
    kinds = sorted({o.kind for o in outcomes})
    if len(stations) < 2:
        return wilson_interval(sum(o.delay_h is not None for o in outcomes), len(outcomes))
    hits, tries = np.zeros((len(stations), len(kinds))), np.zeros((len(stations), len(kinds)))
    for o in outcomes:
        at = stations.index(o.stn), kinds.index(o.kind)
        tries[at] += 1
        hits[at] += o.delay_h is not None
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(stations), np.full(len(stations), 1 / len(stations)), _RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.nanmean((draws @ hits) / (draws @ tries), axis=1)
    low, high = np.quantile(means[np.isfinite(means)], [0.025, 0.975])
    return float(low), float(high)


def rates(quiet: Sequence[Quiet], nominal: float) -> dict[str, Any]:
    """Return the false alarms: pooled with exact interval, the worst station (of those with a month or more)."""
    events, months = sum(q.events for q in quiet), sum(q.months for q in quiet)
    low, high = poisson_interval(events, months)
    judged = [q for q in quiet if q.months >= 1.0] or list(quiet)
    worst = max(judged, key=lambda q: q.events / max(q.months, 1e-9), default=None)
    rate = events / months if months > 0 else None
    return {
        "realised_rate": _round(rate),
        "realised_rate_lower95": _round(low),
        "realised_rate_upper95": _round(high),
        "realised_over_nominal": _round(rate / nominal if rate is not None else None),
        "worst_station_rate": _round(worst.events / worst.months if worst and worst.months > 0 else None),
        "worst_station": worst.stn if worst else None,
        "false_alarms": events,
        "station_months": _round(months),
        "alarmed_share": _round(sum(q.spoken_months for q in quiet) / months if months > 0 else None),
    }


def recalls(outcomes: Sequence[Outcome], seed: int = 0) -> dict[str, Any]:
    """Return recall per kind and over kinds, delays, attribution and hidden mass, with intervals."""
    kinds = sorted({o.kind for o in outcomes})
    by_kind = {kind: [o for o in outcomes if o.kind == kind] for kind in kinds}
    hits = {kind: [o for o in group if o.delay_h is not None] for kind, group in by_kind.items()}
    recall = {kind: len(hits[kind]) / len(by_kind[kind]) for kind in kinds}
    delays = {kind: [o.delay_h for o in group if o.delay_h is not None] for kind, group in hits.items()}
    found = [o for group in hits.values() for o in group]
    named = [o for o in found if o.kinds]
    return {
        "mean_recall": _round(float(np.mean(list(recall.values()))) if kinds else None),
        "mean_recall_interval95": [_round(x) for x in cluster_interval(outcomes, seed)] if kinds else None,
        "recall_by_kind": {kind: _round(share) for kind, share in recall.items()},
        "recall_by_kind_interval95": {
            kind: [_round(x) for x in wilson_interval(len(hits[kind]), len(by_kind[kind]))] for kind in kinds
        },
        "trials_by_kind": {kind: len(group) for kind, group in by_kind.items()},
        "median_delay_h_by_kind": {kind: _round(_quantile(delays[kind], 0.5)) for kind in kinds},
        "p90_delay_h_by_kind": {kind: _round(_quantile(delays[kind], 0.9)) for kind in kinds},
        "recall_of_stated": _of_stated(outcomes, True),
        "recall_of_not_stated": _of_stated(outcomes, False),
        "attribution_top1": _share(named, 1),
        "attribution_top3": _share(named, 3),
        "hidden_month_share_by_kind": {
            kind: _round(float(np.median([o.hidden for o in group]))) for kind, group in by_kind.items()
        },
    }


def rate_uniformity(by_detector: dict[str, list[float]], kappa: float) -> dict[str, float | int | None]:
    """Test the e-values of clean findings: is the rate behind them uniform up to each detector's highest?

    e = kappa p^(kappa-1) gives p back. Given a detector's largest p the others are uniform below it when p is
    honest, whatever its threshold was. Returns Kolmogorov-Smirnov's D and p, and the number of findings used.
    """
    shares: list[float] = []
    for e_values in by_detector.values():
        p = np.sort((np.array(e_values) / kappa) ** (1.0 / (kappa - 1.0)))
        shares += (p[:-1] / p[-1]).tolist() if p.size > 1 else []
    if len(shares) < 5:
        return {"ks_statistic": None, "ks_p": None, "findings": len(shares)}
    test = kstest(shares, "uniform")
    return {
        "ks_statistic": _round(float(test.statistic)),
        "ks_p": _round(float(test.pvalue)),
        "findings": len(shares),
    }


def _of_stated(outcomes: Sequence[Outcome], stated: bool) -> dict[str, Any] | None:
    """Count what was found of the lowerings of which the notes said before that they would (or would not) be."""
    group = [o for o in outcomes if o.stated is stated]
    hits = sum(o.delay_h is not None for o in group)
    interval = [_round(x) for x in wilson_interval(hits, len(group))]
    return (
        {"recall": _round(hits / len(group)), "interval95": interval, "found": hits, "trials": len(group)}
        if group
        else None
    )


def _share(found: Sequence[Outcome], top: int) -> float | None:
    return _round(sum(o.kind in o.kinds[:top] for o in found) / len(found)) if found else None


def _quantile(values: Sequence[float], q: float) -> float | None:
    return float(np.quantile(np.asarray(values, np.float64), q)) if values else None


def _round(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
