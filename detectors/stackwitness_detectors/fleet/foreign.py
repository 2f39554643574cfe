"""Data from elsewhere: what another station reports now, or reported earlier, at one's own level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Values
from stackwitness_detectors.copy.evidence import rate_beyond
from stackwitness_detectors.copy.motif import Match, Own, Past, best_match
from stackwitness_detectors.daily import DAYS_PER_MONTH, DailyTest, Judged
from stackwitness_detectors.fleet.kin import BACK_HOURS, LEAST_LAG_H, Kin
from stackwitness_detectors.fleet.pictures import draw_match
from stackwitness_detectors.fleet.screen import Laid, screen, screen_same
from stackwitness_detectors.fleet.table import FleetMemory
from stackwitness_detectors.memory import HOUR_MS
from stackwitness_detectors.plots import rough, short

_WIDTHS_NOW = (6, 12, 18, 24)  # hours: over longer ones relatives go together for days by nature
_LOOKS = (0, 6, 12, 18)
_WIDTHS_THEN = (18,)  # hours: with four looks a day one window lies wholly inside any forgery of a day
_LEAST_NATS = 8.0
_TAIL_NATS = 5.0  # scale of the tail: the best of many stations, places and widths
_INNOCENT_BY = 0.2
_ROUNDED = 1e-6  # by how much the scores of all at once may differ from those of one pair


@dataclass(frozen=True)
class Asked:
    """Name a window (its end and width in hours, and what it is to itself) and the source it is compared with."""

    stop_h: int
    width: int
    own: Own
    source: int


class Foreign(DailyTest):
    """Score = nats by which another station explains a window better than the window's own course does."""

    detector = "foreign"
    family = "neighbours"
    kind = "foreign"
    innocent = ("common_source", "acquisition_hold", "substitute_data")
    same_time = True

    def __init__(self, fleet: FleetMemory, config: Config, kin: Kin, budget: float) -> None:
        self.fleet, self.kin = fleet, kin
        super().__init__(fleet, config, [k for k in fleet.targets if kin.comparable(k)], budget)

    def windows(self) -> list[tuple[int, int]]:
        """List widths (hours) and how long before the day's end windows end."""
        raise TypeError("say which windows are compared")

    def match(self, k: int, j: int, stop_h: int, width: int, own: Own) -> tuple[Match, int] | None:
        """Compare one window with one source; the match and its lag in hours."""
        raise TypeError("say what is compared with what")

    def screened(self, k: int, day: int, asked: list[Asked]) -> Values:
        """Score all pairs at once, as `match` does but for rounding, -inf where nothing can be compared."""
        raise TypeError("say how all are scored at once")

    def ask(self, k: int, day: int) -> list[Asked]:
        """List the pairs of window and source that can be compared."""
        asked = []
        for width, back in self.windows():
            own = self.kin.own(k, (day + 1) * 24 - back, width)
            if own is not None:
                choices = self.kin.choices(k, day)
                sources = choices.now if self.same_time else choices.then
                asked += [Asked((day + 1) * 24 - back, width, own, j) for j in sources]
        return asked

    def best(self, k: int, day: int) -> tuple[Match, int, Asked] | None:
        """Find the pair with the highest score, the first of equal ones: only those that may have it are compared singly."""
        asked = self.ask(k, day)
        scores = self.screened(k, day, asked) if asked else np.empty(0)
        if not np.isfinite(scores).any():
            return None
        top = float(scores.max())
        best: tuple[Match, int, Asked] | None = None
        for place in np.flatnonzero(scores >= top - _ROUNDED * max(1.0, abs(top))):
            pair = asked[place]
            found = self.match(k, pair.source, pair.stop_h, pair.width, pair.own)
            if found is not None and (best is None or found[0].score > best[0].score):
                best = found[0], found[1], pair
        return best

    def measure(self, k: int, day: int) -> Judged | None:
        """Search all windows and sources."""
        best = self.best(k, day)
        if best is None:
            return None
        match, lag, pair = best
        j, stop_h, width = pair.source, pair.stop_h, pair.width
        numbers: dict[str, float | int | str] = {
            "station": self.fleet.stn_of[j],
            "station_channel": self.fleet.channel_of[j],
            "lag_hours": lag,
            "hours": width,
            "slope": match.slope,
            "noise": match.noise,
            "correlation": match.r,
        }
        if self.same_time and match.score >= _LEAST_NATS:
            mine = self.kin.estranged(k, j, day, stop_h, width)
            other = self.kin.estranged(j, k, day, stop_h, width)
            known = mine is not None and other is not None
            apart = float(mine or 0.0) - float(other or 0.0) if known else 0.0
            if apart < -_INNOCENT_BY:
                return None  # it is the other one that has left its own plant
            if mine is not None and other is not None and apart > _INNOCENT_BY:
                numbers |= {"own_ties_lost": mine, "other_ties_lost": other}
        return Judged(match.score, (stop_h - width) * HOUR_MS, stop_h * HOUR_MS - 1, numbers)

    def rate(self, k: int, judged: Judged) -> float | None:
        """Expect exponential tails: the score is a log-likelihood ratio."""
        past = self.past[k]
        if len(past) < self.config.week_reference_days:
            return None
        if judged.score < _LEAST_NATS:
            return math.inf
        return rate_beyond(judged.score, past, len(past) / DAYS_PER_MONTH, _TAIL_NATS)

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw both courses at one level."""
        n, name = judged.numbers, self.fleet.channel_of[k]
        lag = short(float(n["lag_hours"]) / 24)
        when_en = "at the same time" if not n["lag_hours"] else f"{lag} days before"
        when_zh = "同时" if not n["lag_hours"] else f"{lag} 天前"
        off, score = rough(100 * float(n["noise"])), rough(judged.score)
        en = (
            f"Over {n['hours']} h {name} follows {n['station_channel']} of station {n['station']} {when_en} (factor in the "
            f"logarithm {short(float(n['slope']))}, what differs is {off} %), closer than its own last hours tell it: "
            f"{score} nats, the most before was {rough(longest)}."
        )
        zh = (
            f"{name} 在 {n['hours']} 小时内与站点 {n['station']} 的 {n['station_channel']} {when_zh}曲线一致"
            f"(对数斜率 {short(float(n['slope']))},差异 {off}%),比自身前几小时更能解释:{score} 奈特,此前最高 {rough(longest)}。"
        )
        if self.same_time and "own_ties_lost" not in n:
            en += " Which of the two does not report its own gas cannot be told from this alone."
            zh += "仅凭此无法判断两站中哪一站报告的不是自身烟气。"
        source = self.fleet.names.index(f"{n['station']}/{n['station_channel']}")
        title = (f"{name} and station {n['station']}", f"{name} 与站点 {n['station']}")
        of = (f"station {n['station']} {when_en}", f"站点 {n['station']}({when_zh})")
        return en, zh, draw_match(self.fleet, k, source, judged, int(n["lag_hours"]), title, of)


class SameTime(Foreign):
    """Compare with what others report at the same time."""

    name = "foreign_now"
    kinds = ("neighbour_copied", "borrowed_stack", "replay_disguised")

    def windows(self) -> list[tuple[int, int]]:
        """Take hours to a day, ending at four times of the day."""
        return [(w, back) for w in _WIDTHS_NOW for back in _LOOKS]

    def match(self, k: int, j: int, stop_h: int, width: int, own: Own) -> tuple[Match, int] | None:
        """Compare equal hours."""
        y, p = self.fleet.window(k, stop_h, width), self.fleet.window(j, stop_h, width)
        found = best_match(y, p, self.fleet.rounding[k], own) if len(y) == width else None
        return (found, 0) if found is not None else None

    def screened(self, k: int, day: int, asked: list[Asked]) -> Values:
        """Lay each window on the same hours of each source."""
        return screen_same(
            [self.fleet.window(k, pair.stop_h, pair.width) for pair in asked],
            [self.fleet.window(pair.source, pair.stop_h, pair.width) for pair in asked],
            [pair.own for pair in asked],
            self.fleet.rounding[k],
        )


class Borrowed(Foreign):
    """Compare with what others reported in the five weeks before."""

    name = "foreign_then"
    kinds = ("borrowed_stack", "neighbour_copied", "replay_disguised")
    same_time = False

    def windows(self) -> list[tuple[int, int]]:
        """Take windows that fit into a day, ending at four times of it."""
        return [(w, back) for w in _WIDTHS_THEN for back in _LOOKS]

    def match(self, k: int, j: int, stop_h: int, width: int, own: Own) -> tuple[Match, int] | None:
        """Slide over the earlier hours."""
        y = self.fleet.window(k, stop_h, width)
        past = self.fleet.window(j, stop_h - LEAST_LAG_H, BACK_HOURS)
        if len(y) < width or not np.isfinite(past).any():
            return None
        found = best_match(y, past, self.fleet.rounding[k], own)
        return None if found is None else (found, LEAST_LAG_H + len(past) - width - found.place)

    def screened(self, k: int, day: int, asked: list[Asked]) -> Values:
        """Lay each window along each source's earlier hours."""
        laid = []
        for pair in asked:
            key = ("past", pair.source, pair.stop_h)
            past = self.kin.once(day, key, lambda pair=pair: Past(self._earlier(pair)))  # type: ignore[misc]
            laid.append(Laid(self.fleet.window(k, pair.stop_h, pair.width), past, pair.own))
        return screen(laid, self.fleet.rounding[k])

    def _earlier(self, pair: Asked) -> Values:
        return self.fleet.window(pair.source, pair.stop_h - LEAST_LAG_H, BACK_HOURS)
