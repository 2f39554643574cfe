"""What all daily tests share: ranks inside the sample, the tail beyond it, and what becomes of a change that stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stackwitness_detectors.config import DEFAULT
from stackwitness_detectors.daily import DailyTest, Judged
from stackwitness_detectors.memory import DAY_MS, Memory
from tests.detectors.plants import CONTEXT

FIRST = 20_000  # a day


class Told(DailyTest):
    """A test whose scores are given."""

    name = detector = "told"
    kind = "odd_features"

    def __init__(self, scores: list[float], budget: float = 0.01) -> None:
        super().__init__(Memory(CONTEXT, DEFAULT), DEFAULT, [2], budget)
        self.scores = scores

    def measure(self, k: int, day: int) -> Judged | None:
        return Judged(self.scores[day - FIRST], day * DAY_MS, (day + 1) * DAY_MS - 1, {})

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        return "", "", {}

    def flagged(self) -> list[int]:
        """Give the days (counted from the first) on which an episode is open after the day's judgement."""
        open_days = []
        for number in range(len(self.scores)):
            self.day(FIRST + number)
            if self.episodes:
                open_days.append(number)
        return open_days


def noise(days: int) -> list[float]:
    return [float(x) for x in np.random.default_rng(5).uniform(1.0, 2.0, days)]


def test_a_change_that_stays_is_told_for_weeks_and_then_becomes_the_reference() -> None:
    scores = noise(120) + [50.0 + x for x in noise(120)] + [5000.0] * 3
    days = Told(scores).flagged()
    quiet_from = 120 + DEFAULT.told_days + DEFAULT.reference_lag_days + DEFAULT.quiet_days + 2
    assert set(range(120, 120 + DEFAULT.told_days)) <= set(days)
    assert not [day for day in days if quiet_from < day < 240]
    assert 240 in days


def test_a_month_of_forgery_does_not_teach_its_own_reference() -> None:
    scores = noise(120) + [50.0] * 30 + noise(60) + [50.0]
    days = Told(scores).flagged()
    assert set(range(120, 150)) <= set(days)
    assert 210 in days


@pytest.mark.parametrize("score", [1.0, 1.2, 1.5, 1.9])
def test_inside_the_sample_the_rate_is_the_rank(score: float) -> None:
    test = Told([])
    test.past[2] = noise(150)
    above = sum(x >= score for x in test.past[2])
    assert test.rate(2, Judged(score, 0, 1, {})) == pytest.approx((1 + above) / 5)


def test_beyond_the_sample_the_rate_falls_and_is_never_above_the_rank() -> None:
    test = Told([])
    test.past[2] = noise(150)
    rates = [test.rate(2, Judged(x, 0, 1, {})) or 0.0 for x in (2.0, 2.2, 3.0, 10.0)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] <= 1 / 5
