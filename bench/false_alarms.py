"""Count what each test says of clean stations, beside its part of the budget: is every test as quiet as it promised?

python bench/false_alarms.py FOLDER OUT.jsonl [station ...]     FOLDER: laid by bench/lay_mix.py
python bench/false_alarms.py table OUT.jsonl                    the table again

Judged from the day 120 on (half of the time where there is less): before that the tests gather their references. Every
first telling of an episode counts, also what is really odd in the data: nobody has proven it. `ratio` is findings over
the budget of the months in which the test had a channel, with the exact 95 % interval of a Poisson count.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from refusal import ended

from stackwitness.bench.detect_data import read_station
from stackwitness_client.manifest import load_manifest
from stackwitness_detectors import Context, Frame
from stackwitness_detectors.bench.budgets import count_events
from stackwitness_detectors.bench.metrics import poisson_interval
from stackwitness_detectors.bench.replay import listening
from stackwitness_detectors.bench.splits import months_between, operating_hours
from stackwitness_detectors.engine import open_engine

DAY_MS = 86_400_000
LEARNING_DAYS = 120
BUDGET = 0.25


def judge(context: Context, frame: Frame) -> dict[str, Any]:
    """Lead the detectors over one clean station; gives months, parts of the budget and first findings by test."""
    config = listening(BUDGET)
    engine = open_engine(context, None, config)
    parts: Counter[str] = Counter()
    for family in engine.families:
        if hasattr(family, "budget") and hasattr(family, "tested"):
            parts[getattr(family, "detector", family.name)] += family.budget * len(family.tested)
    start, end = int(frame.at_ms[0]), int(frame.at_ms[-1]) + 1
    from_ms = start + min(LEARNING_DAYS * DAY_MS, (end - start) // 2)
    began = time.process_time()
    with np.errstate(all="ignore"):
        engine.feed(frame)
    spent = time.process_time() - began
    told = [f for f in engine.findings if f.to_ms >= from_ms]
    hours = operating_hours(context, frame)
    return {
        "stn": context.stn,
        "months": months_between(hours, from_ms, end),
        "ms_per_hour": 1000 * spent / max(len(hours), 1),
        "parts": dict(parts),
        "events": count_events((f.from_ms, f.to_ms) for f in told),
        "findings": [
            [f.detector, f.channels, f.from_ms, f.to_ms, f.e_value, f.text_en] for f in told if not f.extends
        ],
    }


def table(stations: Iterable[dict[str, Any]]) -> str:
    """Return the table as Markdown, the loudest test first."""
    allowed: Counter[str] = Counter()
    months: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    where: dict[str, Counter[str]] = {}
    events, whole = 0, 0.0
    for told in stations:
        events, whole = events + told["events"], whole + told["months"]
        for test, part in told["parts"].items():
            if part > 0:
                allowed[test] += part * told["months"]
                months[test] += told["months"]
        for found in told["findings"]:
            counts[found[0]] += 1
            where.setdefault(found[0], Counter())[told["stn"]] += 1
    low, high = poisson_interval(events, whole)
    lines = [
        f"{events} events in {whole:.1f} station-months: {events / whole:.3f} ({low:.3f}-{high:.3f}) at {BUDGET:g}, "
        f"ratio {events / whole / BUDGET:.2f}; {sum(counts.values())} findings",
        "",
        "| test | station-months | findings | its part | ratio (95 %) | where |",
        "|---|---|---|---|---|---|",
    ]
    for test in sorted(allowed | counts, key=lambda t: (-counts[t], t)):
        low, high = poisson_interval(counts[test], allowed[test])
        ratio = counts[test] / allowed[test] if allowed[test] else float("nan")
        part = allowed[test] / months[test] if months[test] else 0.0
        places = ", ".join(f"{stn} {n}" for stn, n in where.get(test, Counter()).most_common(4))
        lines.append(
            f"| {test} | {months[test]:.1f} | {counts[test]} | {part:.4f} | {ratio:.2f} ({low:.2f}-{high:.2f}) | {places} |"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Judge the stations (all by default), keep a line of each, print the table of all kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("stations", nargs="*")
    chosen = parser.parse_args(arguments)
    folder, out, only = chosen.folder, chosen.out, chosen.stations
    if str(folder) != "table":
        for source in load_manifest(folder).stations:
            if only and source.stn not in only:
                continue
            told = judge(*read_station(source, folder))
            with out.open("a") as file:
                file.write(json.dumps(told) + "\n")
            sys.stdout.write(
                f"{told['stn']}: {len(told['findings'])} findings, {told['ms_per_hour']:.2f} ms\n"
            )
            sys.stdout.flush()
    print(table(json.loads(line) for line in out.read_text().splitlines()))


if __name__ == "__main__":
    sys.exit(ended(main, sys.argv[1:]))
