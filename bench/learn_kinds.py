"""Count which tests speak of which forgeries at the design stations, for `attribution.rank_kinds`.

python bench/learn_kinds.py [--add] [--to FILE] REPORT.jsonl ...     journals of `stackwitness bench detect`; of the stations only those of the design count

With --add the counts are added to those of the table. Writes detectors/stackwitness_detectors/attribution_table.py, or FILE. Prints how often the true kind is first, and among the first three,
when each forgery is ranked by what the others taught, and which kinds are taken for which.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from refusal import Refusal, ended

from stackwitness_detectors import attribution_table as table
from stackwitness_detectors.attribution import rank_kinds, sign_of
from stackwitness_detectors.bench.judging import heard_alarms
from stackwitness_detectors.bench.replay import Alarm, alarm_of
from stackwitness_detectors.bench.trials import trial_of

TABLE = Path(table.__file__)
SPLIT = Path(__file__).parent / "split.toml"
# Simulated plants of the design before there was a split.
_EARLIER_SEEDS = (7, 8, 12, 13, 14, 15, 41, 42, 43, 44, 9002, 9003, 9004)
Heard = tuple[str, list[Alarm]]


def teaches(stn: str) -> bool:
    """Tell whether a station is of the design: what is kept apart, or waits, teaches nothing."""
    told = tomllib.loads(SPLIT.read_text())["design"]
    if any(stn in entry["stations"] for entry in told["real"]):
        return True
    seeds = {*_EARLIER_SEEDS, *(seed for entry in told["simulated"] for seed in entry["seeds"])}
    industries = {name.replace("_", "-") for entry in told["simulated"] for name in entry["industries"]}
    return any(f"{stn}-".startswith(f"{name}-{seed}-") for name in industries for seed in seeds)


def heard_of(journal: Path) -> Iterator[Heard]:
    """Give the kind of each trial of a journal, and the alarms that count as found. Raises Refusal for what is no journal."""
    pieces = _pieces(journal)
    clean = {
        name.split(":", 2)[2]: [alarm_of(a) for a in found["alarms"]]
        for name, found in pieces.items()
        if name.startswith("clean:0.25:")
    }
    for trial in map(trial_of, pieces["plan"]["trials"]):
        if teaches(trial.stn) and (found := pieces.get(f"trial:0.25:{trial.id}")) is not None:
            yield trial.kind, heard_alarms(trial, [alarm_of(a) for a in found["alarms"]], clean[trial.stn])


def _pieces(journal: Path) -> dict[str, Any]:
    try:
        entries = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
        pieces = {entry["what"]: entry["found"] for entry in entries}
    except (ValueError, KeyError, TypeError) as wrong:
        raise Refusal(
            f"{journal}: no journal of `stackwitness bench detect`, or one that is being written"
        ) from wrong
    if "plan" not in pieces:
        raise Refusal(f"{journal}: no journal of `stackwitness bench detect`: it holds no plan")
    return pieces


def learn(trials: Sequence[Heard]) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Count the trials of each kind, and of them those in which a sign was given."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for kind, alarms in trials:
        for sign in {sign_of(alarm) for alarm in alarms}:
            counts[sign][kind] += 1
    tried = Counter(kind for kind, _ in trials)
    return dict(sorted(tried.items())), {
        sign: dict(sorted(by.items())) for sign, by in sorted(counts.items())
    }


def added(
    tried: dict[str, int], counts: dict[str, dict[str, int]]
) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Add counts to those of the table."""
    whole = Counter(table.TRIALS) + Counter(tried)
    signs = {
        sign: Counter(table.COUNTS.get(sign, {})) + Counter(counts.get(sign, {}))
        for sign in {*table.COUNTS, *counts}
    }
    return dict(sorted(whole.items())), {sign: dict(sorted(by.items())) for sign, by in sorted(signs.items())}


def ranked_by_others(
    trials: Sequence[Heard], tried: dict[str, int], counts: dict[str, dict[str, int]]
) -> Iterator[tuple[str, list[Alarm], tuple[str, ...]]]:
    """Give each found forgery: its kind, its alarms, and the kinds as all that the others taught ranks them."""
    kept = table.TRIALS, table.COUNTS
    table.TRIALS, table.COUNTS = tried, counts
    try:
        for kind, alarms in trials:
            if alarms:
                _count(tried, counts, kind, alarms, -1)
                ranked = rank_kinds(alarms)
                _count(tried, counts, kind, alarms, +1)
                yield kind, alarms, ranked
    finally:
        table.TRIALS, table.COUNTS = kept


def _count(
    tried: dict[str, int], counts: dict[str, dict[str, int]], kind: str, alarms: list[Alarm], step: int
) -> None:
    tried[kind] += step
    for sign in {sign_of(alarm) for alarm in alarms}:
        counts[sign][kind] += step


def crossed(trials: Sequence[Heard], tried: dict[str, int], counts: dict[str, dict[str, int]]) -> None:
    """Rank each found forgery by what the others taught; print shares and confusions."""
    first: Counter[tuple[str, str]] = Counter()
    own, top1, top3, found = [0, 0], 0, 0, 0
    for kind, alarms, ranked in ranked_by_others(trials, tried, counts):
        found, top1, top3 = found + 1, top1 + (ranked[0] == kind), top3 + (kind in ranked[:3])
        earliest = min(alarms, key=lambda a: (a.at_ms, -a.e_value)).kinds
        own[0] += kind == earliest[0]
        own[1] += kind in earliest[:3]
        if ranked[0] != kind:
            first[kind, ranked[0]] += 1
    if not found:
        print(f"0 of {len(trials)} found")
        return
    print(f"{found} of {len(trials)} found; first {top1 / found:.3f}, among three {top3 / found:.3f}")
    print(f"by the earliest finding alone: {own[0] / found:.3f}, {own[1] / found:.3f}")
    for (kind, taken), count in sorted(first.items(), key=lambda pair: (pair[0][0], -pair[1])):
        print(f"  {kind} taken for {taken}: {count}")


def write(tried: dict[str, int], counts: dict[str, dict[str, int]], to: Path = TABLE) -> None:
    """Write the table as a module."""
    lines = ["TRIALS: Mapping[str, int] = {", *(f'    "{k}": {n},' for k, n in tried.items()), "}", ""]
    lines += ["COUNTS: Mapping[str, Mapping[str, int]] = {"]
    lines += [f'    "{sign}": {json.dumps(by)},' for sign, by in counts.items()]
    head = TABLE.read_text().split("# fmt: off")[0].split("TRIALS:")[0]
    to.write_text(head + "\n".join(["# fmt: off", *lines, "}", "# fmt: on"]) + "\n")


def main(arguments: list[str]) -> None:
    """Learn from journals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("journals", type=Path, nargs="+")
    parser.add_argument("--add", action="store_true")
    parser.add_argument("--to", type=Path, default=TABLE)
    chosen = parser.parse_args(arguments)
    trials = [heard for journal in chosen.journals for heard in heard_of(journal)]
    if not trials:
        raise Refusal("no trial at a station of the design: nothing to learn")
    tried, counts = learn(trials)
    if chosen.add:
        tried, counts = added(tried, counts)
    crossed(trials, tried, counts)
    write(tried, counts, chosen.to)


if __name__ == "__main__":
    sys.exit(ended(main, sys.argv[1:]))
