"""The adaptive attacker: legal, hides what it must, better than chance, against today's detectors as well."""

from __future__ import annotations

import numpy as np
import pytest

from stackwitness_detectors import Frame
from stackwitness_detectors.forge import ForgeError, attack, forge, frontier, score_by_run
from stackwitness_detectors.forge.evolve import evolve
from tests.detectors.gasworks import CONTEXT, FRAME, FROM_MS, TO_MS
from tests.detectors.plants import DAY_MS

INSIDE = (FRAME.at_ms >= FROM_MS) & (FRAME.at_ms < TO_MS)
NORMAL = INSIDE & (FRAME.status["nox"] == ord("N")) & np.isfinite(FRAME.values["nox"])


def lowness(forged: Frame) -> float:
    """Score how much the quiet half of the readings was lowered: selective attacks are the answer."""
    quiet = NORMAL & (FRAME.values["nox"] < np.median(FRAME.values["nox"][NORMAL]))
    return float(np.mean(np.abs(forged.values["nox"] - FRAME.values["nox"])[quiet]))


def test_the_search_finds_a_narrow_valley_and_keeps_to_its_budget() -> None:
    asked = []

    def cost(x: np.ndarray) -> float:
        asked.append(x)
        return float(((x - 0.3) ** 2).sum() + 20 * (x[0] - x[1]) ** 2)

    best, least = evolve(cost, 4, 300, seed=1)
    assert len(asked) == 300
    assert all(((x >= 0) & (x <= 1)).all() for x in asked)
    assert least < 0.01 < min(cost(x) for x in asked[:100])
    assert np.allclose(best, evolve(cost, 4, 300, seed=1)[0])


def test_the_search_ends_when_it_is_good_enough() -> None:
    asked = []
    _, least = evolve(lambda x: asked.append(x) or float(x.sum()), 3, 200, seed=0, enough=1.0)
    assert least <= 1.0
    assert len(asked) < 200


def test_an_attack_is_legal_hides_its_target_and_beats_plain_scaling() -> None:
    found = attack(FRAME, CONTEXT, "nox", FROM_MS, TO_MS, lowness, 10.0, budget=60, seed=2)
    assert found.legal
    assert 9.5 <= found.hidden_percent <= 20.0
    assert found.evaluations <= 60
    assert found.frame.values["nox"][NORMAL].max() <= 80.0
    outside = ~INSIDE
    assert np.array_equal(found.frame.values["nox"][outside], FRAME.values["nox"][outside], equal_nan=True)
    steps = found.frame.values["nox"][NORMAL] / 0.1
    assert np.allclose(steps, np.round(steps), atol=1e-6)
    plain = forge("scale", FRAME, CONTEXT, "nox", FROM_MS, TO_MS, 0.1)
    assert found.score < 0.7 * lowness(plain)
    again = attack(FRAME, CONTEXT, "nox", FROM_MS, TO_MS, lowness, 10.0, budget=60, seed=2)
    assert (again.score, again.style) == (found.score, found.style)


def test_the_frontier_tells_what_is_hidden_at_half_detection() -> None:
    places = [(FROM_MS + i * 3 * DAY_MS, FROM_MS + (i + 1) * 3 * DAY_MS) for i in range(3)]

    def score_at(from_ms: int, to_ms: int):  # type: ignore[no-untyped-def]
        rows = NORMAL & (FRAME.at_ms >= from_ms) & (FRAME.at_ms < to_ms)
        return lambda f: 1.0 - float(f.values["nox"][rows].sum() / FRAME.values["nox"][rows].sum())

    known = frontier(FRAME, CONTEXT, "nox", places, score_at, 0.15, (5.0, 10.0, 20.0, 40.0), budget=6)
    assert known.detected[-1] == 1.0
    assert known.hidden_at_half is not None
    assert 0.0 < known.hidden_at_half <= 20.0
    blind = frontier(FRAME, CONTEXT, "nox", places[:1], lambda *_: lambda f: 0.0, 1.0, (5.0, 30.0), budget=4)
    assert blind.hidden_at_half is None


def test_it_plays_against_the_detectors_of_today() -> None:
    recent = FRAME.at_ms >= FROM_MS - 30 * DAY_MS  # enough for the detectors of freezes
    frame = Frame(
        FRAME.at_ms[recent],
        {n: v[recent] for n, v in FRAME.values.items()},
        {n: s[recent] for n, s in FRAME.status.items()},
    )
    to_ms = FROM_MS + 3 * DAY_MS
    score = score_by_run(CONTEXT, frame, FROM_MS, to_ms, after_days=1)
    frozen = forge("freeze", frame, CONTEXT, "nox", FROM_MS, to_ms)
    assert score(frozen) > 1.0
    found = attack(frame, CONTEXT, "nox", FROM_MS, to_ms, score, 12.0, budget=3, seed=0)
    assert found.legal
    assert found.score < score(frozen)


@pytest.mark.parametrize("target", [0.0, 95.0, 200.0])
def test_an_absurd_target_is_refused(target: float) -> None:
    with pytest.raises(ForgeError) as caught:
        attack(FRAME, CONTEXT, "nox", FROM_MS, TO_MS, lowness, target)
    assert caught.value.code == "forge.needs"
