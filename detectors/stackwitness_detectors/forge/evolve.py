"""Search a unit cube for the least of a costly function: random places first, then an evolution strategy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stackwitness_detectors.contract import Values


def evolve(
    cost: Callable[[Values], float], size: int, budget: int, seed: int, enough: float = -np.inf
) -> tuple[Values, float]:
    """Return the best place found in [0, 1]^size and its cost, after at most `budget` evaluations.

    The search ends early at a cost of at most `enough`.

    A third of the budget is drawn evenly (the centre first); the rest follows a covariance matrix adaptation
    with weighted recombination (Hansen 2016: the rank-mu part), the step by the rule of success.
    """
    rng = np.random.default_rng(seed)
    drawn = max(1, budget // 3)
    places = np.vstack([np.full((1, size), 0.5), rng.random((drawn - 1, size))])
    costs = _costs(cost, places, enough)
    best = int(np.argmin(costs))
    mean, least, winner = places[best].copy(), float(costs[best]), places[best].copy()
    brood = 4 + int(3 * np.log(max(size, 2)))
    parents = brood // 2
    weights = np.log(parents + 0.5) - np.log(np.arange(1, parents + 1))
    weights /= weights.sum()
    rate = min(0.5, parents / (size + 2.0) ** 2 * 4.0)
    covariance, step = np.eye(size), 0.25
    left = budget - drawn
    while left > 0 and least > enough:
        root = np.linalg.cholesky(covariance + 1e-9 * np.eye(size))
        moves = rng.standard_normal((min(brood, left), size)) @ root.T
        places = _reflected(mean + step * moves)
        costs = _costs(cost, places, enough)
        left -= len(places)
        order = np.argsort(costs, kind="stable")[:parents]
        share = weights[: order.size] / weights[: order.size].sum()
        travelled = (places[order] - mean) / step
        mean = share @ places[order]
        covariance = (1.0 - rate) * covariance + rate * (travelled.T * share) @ travelled
        better = float(costs[order[0]]) < least
        step = float(np.clip(step * (1.2 if better else 0.85), 0.02, 0.5))
        if better:
            least, winner = float(costs[order[0]]), places[order[0]].copy()
    return winner, least


def _costs(cost: Callable[[Values], float], places: Values, enough: float) -> Values:
    """Return the costs in turn; after one that is enough the others are not asked for."""
    costs = np.full(len(places), np.inf)
    for i, place in enumerate(places):
        costs[i] = cost(place)
        if costs[i] <= enough:
            break
    return costs


def _reflected(places: Values) -> Values:
    folded = np.abs(places) % 2.0
    return np.where(folded > 1.0, 2.0 - folded, folded)
