"""Moving away from the others: a level that falls, or a course that goes its own way, against most neighbours.

Each neighbour is asked alone and their median counts: one forged neighbour accuses nobody and clears nobody. With
two neighbours both must agree; with one nothing can be said about who of the two has moved.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Note, Values
from stackwitness_detectors.daily import DailyTest, Judged
from stackwitness_detectors.fleet.kin import Kin, correlation
from stackwitness_detectors.fleet.pictures import draw_expected
from stackwitness_detectors.fleet.table import FleetMemory
from stackwitness_detectors.memory import DAY_MS
from stackwitness_detectors.plots import rough

_LEAST_PEERS = 2
_LEAST_SHARE = 0.5  # of the window's hours
_LEAST_LOSS = 0.5  # Fisher z


class Apart(DailyTest):
    """Ask each related neighbour the same question, and take the verdict of the majority."""

    family = "neighbours"
    innocent = ("local_cause", "treatment_change", "recalibration", "instrument_fault")

    def __init__(self, fleet: FleetMemory, config: Config, kin: Kin, budget: float, days: int) -> None:
        self.fleet, self.kin, self.days = fleet, kin, days
        super().__init__(fleet, config, [k for k in fleet.targets if kin.comparable(k)], budget)
        self.others: list[Apart] = []

    def ask(self, y: Values, p: Values, usual_y: Values, usual_p: Values) -> tuple[float, float] | None:
        """Give score and effect against one neighbour: now (hours of the window) and in the reference."""
        raise TypeError("say what a neighbour is asked")

    def measure(self, k: int, day: int) -> Judged | None:
        """Ask all related neighbours about the window that ends with the day."""
        stop_h, width = (day + 1) * 24, 24 * self.days
        y, usual = self.fleet.window(k, stop_h, width), self.kin.reference(k, day)
        answers = []
        for j in self.kin.peers(k, day):
            answer = self.ask(y, self.fleet.window(j, stop_h, width), usual, self.kin.reference(j, day))
            if answer is not None:
                answers.append((*answer, j))
        if len(answers) < _LEAST_PEERS:
            return None
        answers.sort()
        # Of an even number the weaker of the two in the middle: most must agree.
        score, effect, j = answers[(len(answers) - 1) // 2]
        numbers: dict[str, float | int | str] = {
            "neighbours": len(answers),
            "effect": effect,
            "station": self.fleet.stn_of[j],
            "station_channel": self.fleet.channel_of[j],
            "hours": int(np.isfinite(y).sum()),
        }
        return Judged(score, (day - self.days + 1) * DAY_MS, (day + 1) * DAY_MS - 1, numbers)

    def muted(self, k: int, day: int) -> bool:
        """Leave alone what another window has said already."""
        return any(self.memory.names[k] in other.episodes for other in self.others)

    def drawn(self, k: int, judged: Judged) -> dict[str, Any]:
        """Draw the channel beside what the neighbour in the middle leads one to expect."""
        n = judged.numbers
        j = self.fleet.names.index(f"{n['station']}/{n['station_channel']}")
        return draw_expected(self.fleet, k, j, judged)

    def notes(self) -> list[Note]:
        """Say which channels have too few neighbours to ask."""
        fleet, day = self.fleet, self.fleet.next_day - 1
        return [
            Note(
                self.detector,
                fleet.names[k],
                "neighbours",
                "fewer than two related neighbours to compare with",
            )
            for k in fleet.targets
            if len(self.kin.peers(k, day)) < _LEAST_PEERS
        ]


class Loosened(Apart):
    """Score = loss of Fisher z of the correlation with a neighbour."""

    detector = "apart_from_neighbours"
    kind = "apart_from_neighbours"
    kinds = (
        "generated",
        "replay_disguised",
        "replay_exact",
        "borrowed_stack",
        "resampled",
        "bootstrap",
        "smoothed",
    )

    def __init__(self, fleet: FleetMemory, config: Config, kin: Kin, budget: float, days: int) -> None:
        super().__init__(fleet, config, kin, budget, days)
        self.name = f"loosened_{days}d"

    def ask(self, y: Values, p: Values, usual_y: Values, usual_p: Values) -> tuple[float, float] | None:
        """Compare the correlation now with that of the reference, allowing for a narrower range now."""
        if (np.isfinite(y) & np.isfinite(p)).sum() < _LEAST_SHARE * 24 * self.days:
            return None
        usual = correlation(usual_y, usual_p, 240)
        spread, before = float(np.nanstd(p)), float(np.nanstd(usual_p))
        if usual <= 0 or spread <= 0 or before <= 0:
            return None
        # Thorndike's restriction of range: a calm window correlates less by nature.
        narrow = min(spread / before, 1.0)
        expected = usual * narrow / math.sqrt(1 - usual**2 + (usual * narrow) ** 2)
        r = correlation(y, p, 12)
        lost = math.atanh(min(expected, 0.999)) - math.atanh(max(min(r, 0.999), -0.999))
        return lost, expected - r

    def rate(self, k: int, judged: Judged) -> float | None:
        """Ask for a loss worth speaking of beside rarity."""
        if judged.score < _LEAST_LOSS:
            return math.inf if len(self.past[k]) >= self.config.week_reference_days else None
        return super().rate(k, judged) if len(self.past[k]) >= self.config.week_reference_days else None

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        n, name = judged.numbers, self.fleet.channel_of[k]
        lost = rough(float(n["effect"]))
        en = (
            f"Over {n['hours']} h {name} no longer goes with most of its {n['neighbours']} related neighbours: its correlation "
            f"is {lost} below the usual one (loss in Fisher z {rough(judged.score)}, largest before {rough(longest)})."
        )
        zh = (
            f"{name} 在 {n['hours']} 小时内不再与 {n['neighbours']} 个相关站点中的多数同步:相关系数比平时低 {lost}"
            f"(Fisher z 下降 {rough(judged.score)},此前最大 {rough(longest)})。"
        )
        return en, zh, self.drawn(k, judged)
