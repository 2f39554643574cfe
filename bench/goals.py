"""Measure the goals that name a forgery: each one laid as its goal says, at clean stations, beside what was promised there.

python bench/goals.py FOLDER OUT.jsonl [--tests conditional,shape] [--each 1] [station ...]     FOLDER: any data set with a manifest
python bench/goals.py table OUT.jsonl                                                          the tables again

Budget 0.25. Forgeries begin when the detectors have seen 120 days (half of the time where there is less), `--each` times at each
channel a forger would forge; a station without a limit gets one that a tenth of its readings exceed. Found: an alarm that meets the
forged interval or the day after it, by a test that says nothing there on the clean readings; of the offset with honest audit days,
before the second audit. `--tests` leads only these families (by `family`; their parts of the budget stay what they are): quicker,
and what another family finds is then missed. R2 is the model's when the forgery begins.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from refusal import ended

from stackwitness.bench.detect_data import read_station
from stackwitness_client.manifest import load_manifest
from stackwitness_detectors import Context, Frame
from stackwitness_detectors.bench.judging import GRACE_MS, heard_alarms
from stackwitness_detectors.bench.metrics import poisson_interval, wilson_interval
from stackwitness_detectors.bench.replay import Alarm, listening, rows_of
from stackwitness_detectors.bench.splits import months_between, operating_hours
from stackwitness_detectors.bench.trials import LEAST_CHANGED, Trial, changed_rows
from stackwitness_detectors.conditional import Level, Residuals
from stackwitness_detectors.contract import DetectorError
from stackwitness_detectors.engine import Engine, open_engine
from stackwitness_detectors.forge import Injection, Surroundings, assume_limits, forgeable_channels, inject
from stackwitness_detectors.memory import DAY_MS, HOUR_MS

BUDGET = 0.25
LEARNING_DAYS = 120
SOLID_R2 = 0.85  # from here on the goals of scaling hold
_CLASSES = ((SOLID_R2, "0.85 and more"), (0.6, "0.6 to 0.85"), (-9.0, "below 0.6"))
_TRIES = 40


@dataclass(frozen=True)
class Goal:
    """Name a forgery and the share of it that should be found; `audits` are days (counted from its start) with an honest one."""

    name: str
    kind: str
    strength: float
    days: int
    target: float | None
    exceeding: bool = False
    audits: tuple[int, ...] = ()


GOALS = (
    Goal("x0.9, 14 days", "scale", 0.1, 14, 0.9),
    Goal("x0.95, 30 days", "scale", 0.05, 30, 0.7),
    Goal("x0.85 above the limit only, 14 days", "limit_aware_scale", 0.15, 14, 0.85, True),
    Goal("clip 1 % below the limit, 14 days", "clip", 0.01, 14, 0.95, True),
    Goal("bunch 15 % above the limit, 14 days", "bunch", 0.15, 14, 0.95, True),
    Goal("offset of 5 % of the limit, 180 days", "offset_audited", 0.05, 180, 0.9, False, (45, 135)),
    Goal("load, flow and pollutant x0.9, 14 days", "joint_scale", 0.1, 14, None),
)
_SCALED = ("scale", "joint_scale")


@dataclass(frozen=True)
class Site:
    """Hold a station, its operating hours and which families are led there."""

    context: Context
    frame: Frame
    hours: Any
    tests: frozenset[str]

    def engine(self, context: Context, state: bytes | None) -> Engine:
        """Open the engine at the budget, without the families that are not led."""
        engine = open_engine(context, state, listening(BUDGET))
        if self.tests:
            engine.families = [f for f in engine.families if getattr(f, "family", "") in {"", *self.tests}]
        return engine

    @property
    def learned_ms(self) -> int:
        """Return where forgeries may begin."""
        start, end = int(self.frame.at_ms[0]), int(self.frame.at_ms[-1]) + 1
        return start + min(LEARNING_DAYS * DAY_MS, (end - start) // 2)


@dataclass
class Clean:
    """Gather what the clean readings gave: alarms, and the state, R2 and promise by channel before the days asked for."""

    alarms: list[Alarm] = field(default_factory=list)
    before: dict[int, tuple[bytes, dict[str, float], dict[str, float]]] = field(default_factory=dict)
    parts: Counter[str] = field(default_factory=Counter)


def place(site: Site, goal: Goal, channel: str, number: int) -> Injection:
    """Choose where a goal's forgery is laid. Raises DetectorError goals.room where it fits nowhere."""
    at_ms, stn = site.frame.at_ms, site.context.stn
    rng = np.random.default_rng(crc32(f"{goal.name} {stn} {channel} {number}".encode()))
    length = goal.days * DAY_MS
    first, last = site.learned_ms, int(at_ms[-1]) - length - 2 * DAY_MS
    limit = next(c.limit for c in site.context.channels if c.name == channel)
    reason = "too short"
    for _ in range(_TRIES if last > first else 0):
        drawn = int(at_ms[np.searchsorted(at_ms, rng.integers(first, last))])
        from_ms = drawn // HOUR_MS * HOUR_MS  # a day with readings: only before those is a state kept
        lo, hi = np.searchsorted(site.hours, [from_ms // HOUR_MS, (from_ms + length) // HOUR_MS])
        rows = slice(*np.searchsorted(at_ms, [from_ms, from_ms + length]).tolist())
        reason = "the unit stands still"
        if 2 * (hi - lo) < 24 * goal.days:
            continue
        if goal.exceeding and (
            limit is None or (site.frame.values[channel][rows] > limit).sum() < LEAST_CHANGED
        ):
            reason = "too few exceedances"
            continue
        audits = tuple((from_ms + d * DAY_MS, from_ms + (d + 1) * DAY_MS) for d in goal.audits)
        seed = int(rng.integers(2**31))
        made = Injection(goal.kind, channel, "", goal.strength, "", from_ms, from_ms + length, seed, audits)
        try:
            changed = changed_rows(site.frame, inject(site.frame, site.context, made, Surroundings()))
        except DetectorError as wrong:
            reason = wrong.code
            continue
        if changed[rows].sum() >= LEAST_CHANGED:
            return made
    raise DetectorError("goals.room", reason)


def lead(
    site: Site, engine: Engine, frame: Frame, from_ms: int, to_ms: int
) -> Iterator[tuple[int, list[Alarm]]]:
    """Lead an engine day by day; gives the day that comes, and what was said on the days before it since the last."""
    first, last = np.searchsorted(frame.at_ms, [from_ms, to_ms]).tolist()
    day = frame.at_ms[first:last] // DAY_MS
    edges = [first, *(first + np.flatnonzero(np.diff(day)) + 1).tolist(), last]
    told: list[Alarm] = []
    for lo, hi in itertools.pairwise(edges):
        if lo == hi:
            break
        start_ms = int(frame.at_ms[lo]) // DAY_MS * DAY_MS
        yield start_ms // DAY_MS, told
        known = len(engine.findings)
        with np.errstate(all="ignore"):
            engine.feed(rows_of(frame, lo, hi))
        told = [
            Alarm(f.detector, f.family, f.kinds, f.from_ms, f.to_ms, max(start_ms, f.to_ms), f.e_value)
            for f in engine.findings[known:]
        ]
    yield -1, told


def lead_clean(site: Site, wanted: Collection[int]) -> Clean:
    """Lead the detectors over the clean readings, keeping the states before the wanted days (since 1970)."""
    clean, engine = Clean(), site.engine(site.context, None)
    for test in engine.families:
        if hasattr(test, "budget") and hasattr(test, "tested"):
            clean.parts[getattr(test, "detector", test.name)] += test.budget * len(test.tested)
    residuals = next(f for f in engine.families if isinstance(f, Residuals))
    level = next(f for f in engine.families if isinstance(f, Level))
    frame = site.frame
    for day, told in lead(site, engine, frame, int(frame.at_ms[0]), int(frame.at_ms[-1]) + 1):
        clean.alarms += told
        if day in wanted:
            names = engine.memory.names
            r2 = {names[k]: model.r2 for k, model in residuals.models.items()}
            promised = {
                note.channel: dict(note.numbers)["percent"] for note in level.notes() if note.code == "below"
            }
            clean.before[day] = (engine.dump(), r2, promised)
    return clean


def try_one(site: Site, clean: Clean, goal: Goal, made: Injection) -> dict[str, Any]:
    """Judge one forgery; gives what was found, when, by which tests, and what the station had promised."""
    state, r2, promised = clean.before[made.from_ms // DAY_MS]
    forged = inject(site.frame, site.context, made, Surroundings())
    engine = site.engine(replace(site.context, visits=made.honest_ms), state)
    until = made.honest_ms[1][0] if goal.audits else made.to_ms + GRACE_MS + DAY_MS
    alarms = [
        a for _, told in lead(site, engine, forged, made.from_ms // DAY_MS * DAY_MS, until) for a in told
    ]
    heard = heard_alarms(Trial("", site.context.stn, made), alarms, clean.alarms)
    return {
        "goal": goal.name,
        "channel": made.channel,
        "from_ms": made.from_ms,
        "r2": round(r2[made.channel], 3) if made.channel in r2 else None,
        "below": promised.get(made.channel),
        "delay_h": round((heard[0].at_ms - made.from_ms) / HOUR_MS, 1) if heard else None,
        "by": sorted({a.detector for a in heard}),
    }


def judge(site: Site, each: int) -> dict[str, Any]:
    """Lay and judge all goals at one station."""
    laid: list[tuple[Goal, Injection]] = []
    skipped: Counter[str] = Counter()
    for goal in GOALS:
        for channel in forgeable_channels(site.context, site.frame):
            for number in range(each):
                try:
                    laid.append((goal, place(site, goal, channel, number)))
                except DetectorError as wrong:
                    skipped[f"{goal.name}: {wrong}"] += 1
    clean = lead_clean(site, {made.from_ms // DAY_MS for _, made in laid})
    end_ms = int(site.frame.at_ms[-1]) + 1
    return {
        "stn": site.context.stn,
        "months": months_between(site.hours, site.learned_ms, end_ms),
        "parts": dict(clean.parts),
        "clean": [[a.detector, a.from_ms, a.to_ms] for a in clean.alarms if a.to_ms >= site.learned_ms],
        "trials": [try_one(site, clean, goal, made) for goal, made in laid],
        "skipped": dict(skipped),
    }


def r2_class(r2: float | None) -> str:
    """Name the class of a model."""
    return "no model" if r2 is None else next(name for least, name in _CLASSES if r2 >= least)


def goal_table(trials: Sequence[dict[str, Any]]) -> list[str]:
    """Return the figures beside the goals, by class of model; delays are those of what was found."""
    lines = ["| goal | target | R2 | found | share (95 %) | median delay h |", "|---|---|---|---|---|---|"]
    for goal in GOALS:
        classes = defaultdict(list)
        for trial in trials:
            if trial["goal"] == goal.name:
                classes["all"].append(trial)
                classes[r2_class(trial["r2"])].append(trial)
        for name in ("all", *(name for _, name in _CLASSES), "no model"):
            if classes[name]:
                lines.append(_line(goal, name, classes[name]))
    delays = [t["delay_h"] for t in trials if _goal(t).kind in _SCALED and t["delay_h"] is not None]
    lines.append(
        f"\nMedian delay of all scalings found: {np.median(delays) if delays else float('nan'):.0f} h (goal 72)"
    )
    return lines


def _goal(trial: dict[str, Any]) -> Goal:
    return next(goal for goal in GOALS if goal.name == trial["goal"])


def _line(goal: Goal, name: str, trials: Sequence[dict[str, Any]]) -> str:
    delays = [t["delay_h"] for t in trials if t["delay_h"] is not None]
    low, high = wilson_interval(len(delays), len(trials))
    target = "-" if goal.target is None else f"{goal.target:.2f}"
    delay = f"{np.median(delays):.0f}" if delays else "-"
    share = f"{len(delays) / len(trials):.2f} ({low:.2f}-{high:.2f})"
    return f"| {goal.name} | {target} | {name} | {len(delays)} of {len(trials)} | {share} | {delay} |"


def promise_table(trials: Sequence[dict[str, Any]]) -> list[str]:
    """Return, for scalings, how many were found where the notes had promised so and where they had not."""
    lines = ["| scaling | promised | found by `level` | share (95 %) |", "|---|---|---|---|"]
    for goal in (goal for goal in GOALS if goal.kind == "scale"):
        for name, lo, hi in (
            ("detectable", 0.0, 1.0),
            ("up to 1.5 times too small", 1.0, 1.5),
            ("not detectable", 1.5, 1e9),
        ):
            there = [
                t for t in trials if t["goal"] == goal.name and t["below"] is not None
                and lo < t["below"] / (100 * goal.strength) <= hi
            ]  # fmt: skip
            hits = sum("level" in t["by"] for t in there)
            low, high = wilson_interval(hits, len(there))
            if there:
                share = f"{hits / len(there):.2f} ({low:.2f}-{high:.2f})"
                lines.append(f"| {goal.name} | {name} | {hits} of {len(there)} | {share} |")
    return lines


def clean_table(stations: Sequence[dict[str, Any]]) -> list[str]:
    """Return what each test said of the clean readings (each alarm once), beside its part of the budget."""
    allowed: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for told in stations:
        for test, part in told["parts"].items():
            allowed[test] += part * told["months"]
        counts.update(test for test, _ in {(a[0], a[1]) for a in told["clean"]})
    lines = ["| test, clean | findings | allowed | ratio (95 %) |", "|---|---|---|---|"]
    for test in sorted(counts | allowed, key=lambda name: -counts[name]):
        if allowed[test] > 0:
            low, high = poisson_interval(counts[test], allowed[test])
            ratio = f"{counts[test] / allowed[test]:.2f} ({low:.2f}-{high:.2f})"
            lines.append(f"| {test} | {counts[test]} | {allowed[test]:.2f} | {ratio} |")
    return lines


def table(stations: Sequence[dict[str, Any]]) -> str:
    """Return all tables as Markdown."""
    trials = [trial for told in stations for trial in told["trials"]]
    skipped: Counter[str] = Counter()
    for told in stations:
        skipped.update(told["skipped"])
    left = [f"- {reason}: {n}" for reason, n in skipped.most_common()]
    months = sum(told["months"] for told in stations)
    head = (
        f"{len(stations)} stations, {months:.1f} clean station-months, {len(trials)} forgeries at {BUDGET:g}"
    )
    parts = (goal_table(trials), promise_table(trials), clean_table(stations), ["Not laid:", *left])
    return "\n\n".join([head, *("\n".join(part) for part in parts)])


def main(arguments: list[str]) -> None:
    """Judge the stations (all by default), keep a line of each, print the tables of all kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder")
    parser.add_argument("out", type=Path)
    parser.add_argument("stations", nargs="*")
    parser.add_argument("--tests", default="")
    parser.add_argument("--each", type=int, default=1)
    chosen = parser.parse_args(arguments)
    if chosen.folder != "table":
        folder = Path(chosen.folder)
        for source in load_manifest(folder).stations:
            if chosen.stations and source.stn not in chosen.stations:
                continue
            context, frame = read_station(source, folder)
            context = assume_limits(context, frame)
            tests = frozenset(name for name in chosen.tests.split(",") if name)
            told = judge(Site(context, frame, operating_hours(context, frame), tests), chosen.each)
            with chosen.out.open("a") as file:
                file.write(json.dumps(told) + "\n")
            found = sum(t["delay_h"] is not None for t in told["trials"])
            sys.stdout.write(f"{told['stn']}: {found} of {len(told['trials'])}, clean {len(told['clean'])}\n")
            sys.stdout.flush()
    sys.stdout.write(table([json.loads(line) for line in chosen.out.read_text().splitlines()]) + "\n")


if __name__ == "__main__":
    sys.exit(ended(main, sys.argv[1:]))
