"""The conditional model: ridge regression on squares and products of standardised covariates, robust to outliers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.contract import Values
from stackwitness_detectors.quantiles import ABSURD, median, quantile

_RIDGE = 0.01  # of the number of hours: about 40 shared terms on 1,000 hours stay stable
_HUBER = 2.5  # residual spreads beyond which an hour loses weight (start-up, fault)
_FOLDS = 5


@dataclass(frozen=True)
class Model:
    """Hold one fitted model: covariate positions, their centre, spread and range, the terms' weights."""

    covariates: NDArray[np.int64]
    centre: Values
    spread: Values
    low: Values
    high: Values
    term_mean: Values
    term_scale: Values
    weights: Values
    base: float
    logarithmic: bool
    floor: float
    r2: float
    residual_spread: float
    hours: int

    def predict(self, x: Values) -> Values:
        """Expect the (transformed) value for rows of all covariates [n, F]; missing ones count as ordinary."""
        return terms_of(self._standard(x), self.term_mean, self.term_scale) @ self.weights + self.base

    def _standard(self, x: Values) -> Values:
        return standardise(x, self.centre, self.spread, self.low, self.high)

    def transform(self, y: Values) -> Values:
        """Give the scale on which the model works."""
        return np.log(np.maximum(y, self.floor)) if self.logarithmic else y

    def restore(self, y: Values) -> Values:
        """Give the channel's own unit."""
        return np.exp(y) if self.logarithmic else y

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        return asdict(self)


def standardise(x: Values, centre: Values, spread: Values, low: Values, high: Values) -> Values:
    """Centre and scale, clipped to the range of the reference so that squares do not run away; what is absurd counts as missing."""
    far = np.abs(x) > ABSURD * np.maximum(np.abs(low), np.abs(high))
    z = np.where(far, np.nan, np.clip(x, low, high) - centre) / spread
    return np.where(np.isfinite(z), z, 0.0)


def raw_terms(z: Values) -> Values:
    """Give z, all squares and products, and the cubes."""
    pairs = [(i, j) for i in range(z.shape[1]) for j in range(i, z.shape[1])]
    products = [z[:, i] * z[:, j] for i, j in pairs]
    return np.column_stack([z, *products, z**3])


def terms_of(z: Values, mean: Values, scale: Values) -> Values:
    """Give the standardised terms."""
    return np.ascontiguousarray((raw_terms(z) - mean) / scale)


def fit_model(
    x: Values, y: Values, covariates: NDArray[np.int64], folds: int = _FOLDS
) -> tuple[Model, Values]:
    """Fit rows [n, F] and values [n]; give the model and the residuals, held out in `folds` blocks of time.

    With `folds` 0 the residuals are those of the fit itself, widened for the terms it spent.
    """
    positive = y[y > 0]
    logarithmic = positive.size >= 0.95 * y.size
    floor = quantile(positive, 0.01) / 2 if logarithmic else 0.0
    target = np.log(np.maximum(y, floor)) if logarithmic else y
    centre = np.nanmedian(x, axis=0)
    low, high = np.nanquantile(x, 0.005, axis=0), np.nanquantile(x, 0.995, axis=0)
    # Within that range: one absurd reading must not make all others look alike.
    spread = np.nanstd(np.clip(x, low, high), axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    raw = raw_terms(standardise(x, centre, spread, low, high))
    mean, scale = raw.mean(axis=0), raw.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    terms = np.ascontiguousarray((raw - mean) / scale)
    weights, base = _ridge(terms, target)
    widened = math.sqrt(len(y) / max(len(y) - terms.shape[1], 1))
    held_out = (target - terms @ weights - base) * widened
    for fold in np.array_split(np.arange(len(y)), folds) if folds else []:
        train = np.ones(len(y), np.bool_)
        train[fold] = False
        w, b = _ridge(terms[train], target[train])
        held_out[fold] = target[fold] - terms[fold] @ w - b
    variance = float(target.var())
    r2 = 1.0 - float(np.mean(held_out**2)) / variance if variance > 0 else 0.0
    model = Model(
        covariates, centre, spread, low, high, mean, scale, weights, base, bool(logarithmic), floor, r2,
        float(np.std(held_out)), len(y),
    )  # fmt: skip
    return model, held_out


def _ridge(terms: Values, target: Values) -> tuple[Values, float]:
    """Solve twice: the second time with hours far off weighted down."""
    count = terms.shape[1]
    whole = np.column_stack([terms, np.ones(len(target))])
    gram, side, total = whole.T @ whole, whole.T @ target, float(len(target))
    solution = _solve(gram, side, total)
    off = np.abs(target - whole @ solution)
    scale = _HUBER * 1.4826 * median(off)
    if scale > 0:
        far = off > scale
        # What the far hours lose is taken off the sums: they are few.
        lost = 1.0 - scale / off[far]
        less = whole[far] * lost[:, None]
        gram, side = gram - less.T @ whole[far], side - less.T @ target[far]
        solution = _solve(gram, side, total - float(lost.sum()))
    return np.ascontiguousarray(solution[:count]), float(solution[count])


def _solve(gram: Values, side: Values, total: float) -> Values:
    """Solve the normal equations with a ridge on all but the last term, which is constant."""
    ridge = np.full(len(side), _RIDGE * total)
    ridge[-1] = 0.0
    solution: Values = np.asarray(np.linalg.solve(gram + np.diag(ridge), side), np.float64)
    return solution
