"""Challenges: a calibration from the probe rises, settles and falls as this analyser always does.

A forged calibration is a constant typed in: it stands at once, without noise, without a fall; or another gas than the
filed one stands on its plateau. Readings sent beside the mark C are compared with the channel's own earlier ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note, Values
from stackwitness_detectors.daily import DailyTest, Judged
from stackwitness_detectors.memory import DAY_MS, HOUR_MS, MEASURING, Block, Memory
from stackwitness_detectors.plots import plain, rough, short

_CALIBRATING = ord("C")
_LEAST_SAMPLES = 4  # of a curve
_AFTER = 3  # samples behind it show the fall
_MOST_SAMPLES = 400
_LEAST_SWING = 0.2  # of the larger of before and plateau: else there is no edge to see
_UNSTEADY = 0.05  # of the larger of plateau and before: what moves more has not settled
_SAME_GAS = 0.1  # plateaus that near, as a share of the larger, are of one bottle
_ZERO_GAS = 0.1  # of the usual gas: a plateau below is of zero gas, all that is seen where the span was lost or fell between readings
_LEAST_EVENTS, _EVENTS, _LAG_DAYS = 8, 160, 7
_ODD = 4.0  # spreads; less is never told
# Feature -> the least spread that is believed: shares of the edge and the fall, log of minutes, log of noise, level.
_FEATURES = {"edge": 0.05, "fall": 0.05, "minutes": 0.2, "noise": 0.7, "plateau": 0.02}
_LOGARITHMIC = ("minutes", "noise")


class Challenge(DailyTest):
    """Score = how many spreads the oddest feature of the day's calibrations lies off those of the same gas before."""

    name = "challenge"
    detector = "challenge"
    family = "calibration"
    kind = "odd_challenge"
    kinds = ("calibration_gas", "status_abuse", "invented_records")
    innocent = ("gas_changed", "instrument_fault", "acquisition_hold", "recalibration")

    def __init__(self, memory: Memory, config: Config) -> None:
        super().__init__(memory, config, memory.indices("pollutant", "diluent"), config.challenge_budget)
        self.open: dict[int, list[list[float]]] = {k: [] for k in self.tested}  # [at_ms, value, marked]
        self.today: dict[int, list[dict[str, float]]] = {k: [] for k in self.tested}
        self.events: dict[int, list[list[float]]] = {k: [] for k in self.tested}
        self.following = False

    def hour(self, block: Block) -> list[Finding]:
        """Follow the marks: a calibration is whole some samples behind its last mark."""
        calibrating = block.letters == _CALIBRATING
        if not self.following and not calibrating.any():
            return []
        marked = calibrating.any(axis=0)
        for k in self.tested:
            if self.open[k] or marked[k]:
                self._follow(k, block)
        self.following = any(self.open.values())
        return []

    def _before(self, k: int, at_ms: int) -> float | None:
        """Give the last measured reading of the two hours before a time."""
        rows = self.memory.rows.view("at_ms")
        first, last = np.searchsorted(rows, [at_ms - 2 * HOUR_MS, at_ms])
        values = self.memory.rows.view("values")[first:last, k]
        known = values[np.isfinite(values)]
        return float(known[-1]) if len(known) else None

    def _follow(self, k: int, block: Block) -> None:
        for at_ms, value, letter in zip(
            block.at_ms.tolist(), block.values[:, k].tolist(), block.letters[:, k].tolist(), strict=True
        ):
            marked = letter == _CALIBRATING
            kept = self.open[k]
            if marked and kept and not kept[-1][2]:
                self._close(k)  # the next one begins before this one has settled
                kept = self.open[k]
            if not math.isfinite(value) or not (marked or MEASURING[letter]):
                continue
            if marked or kept:
                kept.append([float(at_ms), value, float(marked)])
                behind = sum(1 for sample in kept[-_AFTER:] if not sample[2])
                if behind == _AFTER or len(kept) >= _MOST_SAMPLES:
                    self._close(k)

    def _close(self, k: int) -> None:
        kept, self.open[k] = self.open[k], []
        first = next((i for i, sample in enumerate(kept) if not sample[2]), len(kept))
        found = features_of(np.array(kept), first, self._before(k, int(kept[0][0])))
        if found is not None:
            self.today[k].append(found)

    def measure(self, k: int, day: int) -> Judged | None:
        """Compare the calibrations that ended on this day with earlier ones of the same gas."""
        if day != int(self.memory.hours.view("hour")[-1]) // 24:
            return None
        new, self.today[k] = self.today[k], []
        past = np.array(self.events[k]).reshape(-1, 2 + len(_FEATURES))
        past = past[past[:, 0] <= day - _LAG_DAYS]
        best: Judged | None = None
        for event in new:
            row = [float(day), event["at_ms"], *(event.get(name, math.nan) for name in _FEATURES)]
            self.events[k] = [*self.events[k], row][-_EVENTS:]
            if len(past) < _LEAST_EVENTS:
                continue
            name, score, now, usual = oddest(np.array(row[2:]), past[:, 2:])
            if best is None or score > best.score:
                numbers: dict[str, float | int | str] = {
                    "feature": name, "now": now, "usual": usual, "plateau": event["plateau"],
                    "calibration_ms": int(event["at_ms"]), "calibrations_before": len(past),
                }  # fmt: skip
                best = Judged(max(score, 1.0), day * DAY_MS, (day + 1) * DAY_MS - 1, numbers)
        return best

    def rate(self, k: int, judged: Judged) -> float | None:
        """Leave alone what is odd by a few spreads only."""
        rate = super().rate(k, judged)
        return math.inf if rate is not None and judged.score < _ODD else rate

    def ranked(self, judged: Judged) -> tuple[str, ...]:
        """Another plateau: the slope that it sets is another one too."""
        if judged.numbers["feature"] == "plateau":
            return ("span_change", "scale", "calibration_gas")
        return self.kinds

    def describe(self, k: int, judged: Judged, longest: float) -> tuple[str, str, dict[str, Any]]:
        """Word the finding and draw it."""
        channel, n = self.memory.channels[k], judged.numbers
        say = short if n["feature"] == "plateau" else rough
        now, usual = say(float(n["now"])), say(float(n["usual"]))
        what_en, what_zh = _SAID[str(n["feature"])]
        said_en = what_en.format(now=now, usual=usual, unit=channel.unit)
        said_zh = what_zh.format(now=now, usual=usual, unit=channel.unit)
        en = (
            f"A calibration of {channel.name} is unlike the {n['calibrations_before']} before it: {said_en} "
            f"({rough(judged.score)} spreads off; most before: {rough(longest)})."
        )
        zh = (
            f"{channel.name} 的一次校准与此前 {n['calibrations_before']} 次不同:{said_zh}"
            f"(偏离 {rough(judged.score)} 倍离散度,此前最大 {rough(longest)})。"
        )
        events = [e for e in self.events[k] if e[1] <= float(n["calibration_ms"])][-60:]
        at = list(_FEATURES).index(str(n["feature"]))
        title_en, title_zh, unit, scale = _DRAWN[str(n["feature"])]
        shown = np.array([e[2 + at] for e in events], np.float64)
        shown = scale * (np.exp(shown) if n["feature"] in _LOGARITHMIC else shown)
        plot: dict[str, Any] = {
            "kind": "hold",
            "limit": None,  # of readings, not of gas
            "title_en": f"{channel.name}: {title_en} of its calibrations",
            "title_zh": f"{channel.name}:历次校准的{title_zh}",
            "marks": [int(n["calibration_ms"])],
            "series": [
                {
                    "channel": channel.name, "unit": channel.unit if unit is None else unit, "role": channel.role,
                    "t": [int(e[1]) for e in events], "v": plain(shown),
                }
            ],
        }  # fmt: skip
        return en, zh, plot

    def notes(self) -> list[Note]:
        """Say where no calibration shows: no value beside the mark, or too few."""
        few = [k for k in self.tested if len(self.events[k]) < _LEAST_EVENTS]
        return [
            Note(
                self.detector,
                self.memory.names[k],
                "calibrations",
                "fewer than 8 calibrations with values beside the mark C",
            )
            for k in few
        ]

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state."""
        names = self.memory.names
        kept = {names[k]: [self.open[k], self.today[k], self.events[k]] for k in self.tested}
        return {**super().dump(), "kept": kept}

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back."""
        super().load(tree)
        for k in self.tested:
            if self.memory.names[k] in tree["kept"]:
                self.open[k], self.today[k], self.events[k] = tree["kept"][self.memory.names[k]]
        self.following = any(self.open.values())


def features_of(samples: Values, first: int, before: float | None) -> dict[str, float] | None:
    """Give edge, fall, log minutes to 90 %, log noise and plateau of a curve; None where it has no plateau.

    `samples` [n, 3]: at_ms, value, marked; the first `first` are marked. Shares are of the step from `before` to the
    plateau; of few samples, or without a step, there is only the plateau.
    """
    at_ms, v = samples[:first, 0], samples[:first, 1]
    half = v[
        first // 2 : max(first - 1, first // 2 + 1)
    ]  # the last marked sample may already belong to the fall
    plateau = float(np.median(half))
    if first < 2 or float(np.ptp(half)) > _UNSTEADY * max(abs(plateau), abs(before or 0.0)):
        return None
    found = {"at_ms": float(at_ms[0]), "plateau": plateau}
    if first < _LEAST_SAMPLES or before is None:
        return found
    swing = plateau - before
    if abs(swing) < _LEAST_SWING * max(abs(plateau), abs(before)) or swing == 0:
        return found
    reached = (v - before) / swing
    found["edge"] = float(np.clip(reached[0], -1.0, 2.0))
    step_ms = float(np.median(np.diff(at_ms)))
    at = int(np.argmax(reached >= 0.9)) if (reached >= 0.9).any() else first
    found["minutes"] = math.log((at * step_ms + 0.5 * step_ms) / 60_000.0)
    found["noise"] = math.log(max(float(np.std(half)) / abs(swing), 1e-5))
    behind = samples[first:, 1]
    if len(behind) == _AFTER and behind[-1] != plateau:
        found["fall"] = float(np.clip((behind[0] - behind[-1]) / (plateau - behind[-1]), -1.0, 2.0))
    return found


def oddest(event: Values, past: Values) -> tuple[str, float, float, float]:
    """Give the feature furthest off, how many spreads, its value and the usual one, in words' units."""
    names = list(_FEATURES)
    plateau = float(event[-1])
    # Three bear it out: one large plateau alone must not make others look like zero.
    zero = max(_ZERO_GAS * float(np.sort(np.abs(past[:, -1]))[-3:][0]), 1e-12)
    size = np.maximum(np.abs(past[:, -1]), max(abs(plateau), zero))
    near = np.abs(past[:, -1] - plateau) <= _SAME_GAS * size
    if near.sum() < 3:
        if abs(plateau) <= zero:
            return "plateau", 0.0, plateau, plateau
        closest = float(past[int(np.argmin(np.abs(past[:, -1] - plateau))), -1])
        away = abs(plateau - closest) / max(abs(closest), abs(plateau), 1e-12)
        return "plateau", away / _FEATURES["plateau"], plateau, closest
    best = ("plateau", 0.0, plateau, plateau)
    for i, name in enumerate(names):
        known = past[near, i][np.isfinite(past[near, i])]
        if len(known) < 3 or not math.isfinite(event[i]):
            continue
        middle = float(np.median(known))
        least = _FEATURES[name] * (max(abs(middle), zero) if name == "plateau" else 1.0)
        spread = max(1.4826 * float(np.median(np.abs(known - middle))), least, 1e-12)
        off = abs(float(event[i]) - middle) / spread
        if off > best[1]:
            shown = np.exp if name in _LOGARITHMIC else float
            best = (name, off, float(shown(event[i])), float(shown(middle)))
    return best


# Feature -> what is drawn of it, its unit (None: the channel's), and by how much it is multiplied.
_DRAWN: dict[str, tuple[str, str, str | None, float]] = {
    "edge": ("first readings, as shares of the step,", "首个读数占阶跃之比", "%", 100.0),
    "fall": ("first readings after the gas, as shares of the step,", "停气后首个读数占阶跃之比", "%", 100.0),
    "minutes": ("minutes to 90 %", "达到 90 % 的时间", "min", 1.0),
    "noise": ("noise on the plateau, as shares of the step,", "平台噪声占阶跃之比", "%", 100.0),
    "plateau": ("plateaus", "平台值", None, 1.0),
}
_SAID = {
    "edge": (
        "the first reading had already covered {now} of the step, usually {usual}",
        "首个读数已达阶跃的 {now},通常为 {usual}",
    ),
    "fall": (
        "{now} of the step was left in the first reading after the gas, usually {usual}",
        "停气后首个读数仍余阶跃的 {now},通常为 {usual}",
    ),
    "minutes": (
        "it took {now} min to 90 %, usually {usual} min",
        "达到 90% 用时 {now} 分钟,通常 {usual} 分钟",
    ),
    "noise": (
        "the plateau moved by {now} of the step, usually by {usual}",
        "平台波动为阶跃的 {now},通常为 {usual}",
    ),
    "plateau": (
        "its plateau was {now} {unit}, the nearest before {usual} {unit}",
        "平台值为 {now} {unit},此前最接近的为 {usual} {unit}",
    ),
}
