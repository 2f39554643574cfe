"""How rare a finding is, as an e-value and in words; free of numpy, so whoever shows flags stays small."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackwitness_detectors.config import Config

if TYPE_CHECKING:
    from stackwitness_detectors.contract import Verdict

LEAST_RATE = 1e-12
_RARE = 1e-3  # once in a thousand station-months
_IMPOSSIBLE_RATE = 1e-4  # once in ten thousand station-months


def e_value(rate: float, config: Config) -> float:
    """Turn a rate into an e-value: kappa p^(kappa-1) with p = min(1, rate)."""
    p = min(1.0, max(rate, LEAST_RATE))
    return float(f"{config.kappa * p ** (config.kappa - 1.0):.6g}")


def verdict_at(told: Verdict, e: float, config: Config) -> Verdict:
    """Choose the words for evidence that has grown to `e` since `told` was said: they never become weaker."""
    rare = e >= e_value(_RARE, config)
    return "very unlikely" if told == "unusual" and rare else told


def verdict_of(rate: float, impossible: bool = False) -> Verdict:
    """Choose the words: "cannot be" only for what no real instrument does, else by rarity."""
    if impossible and rate <= _IMPOSSIBLE_RATE:
        return "cannot be"
    return "very unlikely" if rate <= _RARE else "unusual"
