"""What an adaptive attacker gets away with: for each share of the mass to hide, how often even the best attack is found.

The attacker may ask the detectors as often as `EVALUATIONS` before the forgery is made: nobody who forges knows more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stackwitness.bench.detect_data import open_place
from stackwitness.bench.detect_work import clean_key, kept_state, state_path
from stackwitness.pool import Piece
from stackwitness_detectors import DetectorError, Frame
from stackwitness_detectors.bench.judging import GRACE_MS
from stackwitness_detectors.bench.replay import Alarm, alarm_of, days_of, listening
from stackwitness_detectors.forge import attack, hidden_mass
from stackwitness_detectors.forge.attacker import half_hidden
from stackwitness_detectors.memory import DAY_MS

if TYPE_CHECKING:
    from stackwitness.bench.detect import Run

TARGETS_PERCENT = (5.0, 10.0, 20.0, 40.0)
EVALUATIONS = 20
LENGTH_MS = 5 * DAY_MS


def pieces_of(opened: Run, budget: float, count: int) -> list[Piece]:
    """Return the attacks still to be made: at each station `count` places where a forgery was planned."""
    settings, journal = opened.settings, opened.journal
    found: list[Piece] = []
    for stn in opened.places:
        clean = journal[clean_key(budget, stn)]["alarms"]
        for trial in [t for t in opened.trials if t.stn == stn][:count]:
            for target in TARGETS_PERCENT:
                name = _key(budget, target, trial.id)
                where = (stn, trial.channel, trial.from_ms, target)
                how = (budget, settings.without, settings.plain, settings.seeds[0])
                if name not in journal:
                    found.append((name, attack_once, (opened.folder, *where, clean, *how)))
    return found


def _key(budget: float, target: float, trial: str) -> str:
    return f"attack:{budget:g}:{target:g}:{trial}"


def attack_once(
    folder: Path,
    stn: str,
    channel: str,
    from_ms: int,
    target: float,
    clean: Sequence[dict[str, Any]],
    budget: float,
    without: tuple[str, ...],
    plain: bool,
    seed: int,
) -> dict[str, Any]:
    """Search the least suspicious way to hide `target` % in five days; tell whether it is found, and what was hidden."""
    place, config = open_place(folder / f"{stn}.npz"), listening(budget, without, plain)
    to_ms = min(from_ms + LENGTH_MS, place.split.end_ms)
    state = kept_state(state_path(folder, stn, from_ms // DAY_MS, budget))
    loud = {a.detector for a in map(alarm_of, clean) if a.from_ms < to_ms + GRACE_MS and a.to_ms >= from_ms}

    def heard(forged: Frame) -> list[Alarm]:
        end_ms = min(to_ms + GRACE_MS + DAY_MS, place.split.end_ms)
        days = days_of(place.context, forged, state, from_ms // DAY_MS * DAY_MS, end_ms, config)
        told = [a for one in days for a in one.alarms if a.detector not in loud and a.to_ms >= from_ms]
        return [a for a in told if a.from_ms < to_ms + GRACE_MS]

    def score(forged: Frame) -> float:
        return max((1.0 + float(np.log10(max(a.e_value, 1.0))) for a in heard(forged)), default=0.0)

    try:
        best = attack(
            place.frame, place.context, channel, from_ms, to_ms, score, target, EVALUATIONS, seed, 0.5
        )
    except DetectorError as wrong:
        return {"impossible": str(wrong)}
    if not best.legal:
        return {"impossible": "no legal way was found"}
    alarms = heard(best.frame)
    until_ms = min([to_ms, *(max(a.at_ms, from_ms) for a in alarms)])
    whole = hidden_mass(place.frame, best.frame, place.context, from_ms, to_ms)[channel]
    part = hidden_mass(place.frame, best.frame, place.context, from_ms, max(until_ms, from_ms + 1))[channel]
    hidden = 100.0 * (part.before - part.after) / whole.before if whole.before > 0 else 0.0
    return {
        "found": bool(alarms),
        "hidden_percent": round(float(best.hidden_percent), 4),
        "until_found_percent": round(float(hidden), 4),
    }


def figures(opened: Run, budget: float, count: int) -> dict[str, Any]:
    """Return, per target, how many attacks could be made and were found, and what they hid before that."""
    rows: dict[str, Any] = {}
    trials = [t for stn in opened.places for t in [t for t in opened.trials if t.stn == stn][:count]]
    for target in TARGETS_PERCENT:
        made = [opened.journal[_key(budget, target, t.id)] for t in trials]
        legal = [one for one in made if "impossible" not in one]
        rows[f"{target:g}"] = {
            "attacks": len(made),
            "impossible": len(made) - len(legal),
            "found": sum(one["found"] for one in legal),
            "hidden_percent": _mean([one["hidden_percent"] for one in legal]),
            "until_found_percent": _mean([one["until_found_percent"] for one in legal]),
        }
    # What cannot be made legally counts as found, as the attacker's own page says.
    found = [(r["found"] + r["impossible"]) / max(r["attacks"], 1) for r in rows.values()]
    hidden = [
        t if r["hidden_percent"] is None else r["hidden_percent"]
        for t, r in zip(TARGETS_PERCENT, rows.values(), strict=True)
    ]
    half = half_hidden(hidden, found)
    return {"targets_percent": rows, "hidden_percent_at_half": None if half is None else round(half, 4)}


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def lines_of(ours: Mapping[str, Any]) -> list[str]:
    """Return the table of the attacker as Markdown; nothing when it did not play."""
    if (told := ours.get("attacker")) is None:
        return []
    half = told["hidden_percent_at_half"]
    words = f"more than {TARGETS_PERCENT[-1]:g}" if half is None else f"{half:.3g}"
    lines = [
        f"An adaptive attacker who may ask these detectors {EVALUATIONS} times hides {words} % of five days' mass where he is found every second time:",
        "",
        "| to hide, % | attacks | cannot be made | found | hidden, % | hidden before found, % |",
        "|---|---|---|---|---|---|",
    ]
    for target, r in told["targets_percent"].items():
        shown = ["-" if r[k] is None else f"{r[k]:.3g}" for k in ("hidden_percent", "until_found_percent")]
        lines.append(
            f"| {target} | {r['attacks']} | {r['impossible']} | {r['found']} | {shown[0]} | {shown[1]} |"
        )
    return [*lines, ""]
