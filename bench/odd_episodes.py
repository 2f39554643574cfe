"""List what the detectors say of the labelled faults of NAB and SKAB: odd is right, a word of forgery would be wrong.

python bench/odd_episodes.py [OUT.md]

NAB: two series with windows round failures. SKAB: experiments of some twenty minutes, a value a second, the labels per second. Each
is judged from its beginning, with nothing before it: what cannot be judged for want of a past is said so, by test. The data lie
where STACKWITNESS_DATA says (default ../shared/data beside the checkout).
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from lay_mix import DATA, ROOT

from stackwitness.bench.detect_data import read_station
from stackwitness_client.manifest import load_manifest
from stackwitness_detectors import Context, Finding, Frame, run

Windows = list[tuple[int, int]]
FORBIDDEN = ("forged", "forgery", "fraud", "faked", "manipulated", "伪造", "造假", "作弊")
_NAB = {
    "nab-machine": "machine_temperature_system_failure.csv",
    "nab-ambient": "ambient_temperature_system_failure.csv",
}


def nab() -> Iterator[tuple[Context, Frame, Windows]]:
    """Give the two series with their labelled windows (ms, ends included)."""
    told = json.loads((DATA / "nab" / "windows.json").read_text())
    for source in load_manifest(ROOT / "manifests" / "nab").stations:
        spans = [tuple(_ms(at) for at in window) for window in told[_NAB[source.stn]]]
        yield *read_station(source, DATA), [(a, b) for a, b in spans]


def skab() -> Iterator[tuple[Context, Frame, Windows]]:
    """Give each experiment with the spans that are labelled as anomalous."""
    table = pq.read_table(DATA / "skab" / "skab.parquet", columns=["file", "datetime", "anomaly"])
    files, labels = np.array(table["file"].to_pylist()), table["anomaly"].to_pylist()
    times = [_ms(str(at)) for at in table["datetime"].to_pylist()]
    for source in load_manifest(ROOT / "manifests" / "skab").stations:
        file = source.name.removeprefix("Testbed, ")
        rows = np.flatnonzero(files == file).tolist()
        marked = sorted(times[row] for row in rows if labels[row])
        yield *read_station(source, DATA), _spans(marked)


def _spans(marked: list[int], gap_ms: int = 30_000) -> Windows:
    spans: Windows = []
    for at in marked:
        if spans and at - spans[-1][1] <= gap_ms:
            spans[-1] = (spans[-1][0], at)
        else:
            spans.append((at, at))
    return spans


def _ms(text: str) -> int:
    return int(np.datetime64(text.replace(" ", "T"), "ms").astype(np.int64))


def judge(context: Context, frame: Frame, windows: Windows) -> list[str]:
    """Return a table row for each labelled window, one for what was said elsewhere, and one for what cannot be judged."""
    result = run(context, None, frame)
    told = list(
        {f.episode: f for f in result.findings}.values()
    )  # the last telling of each has its whole interval
    lines, inside = [], set()
    for from_ms, to_ms in windows:
        met = [f for f in told if f.from_ms <= to_ms and f.to_ms >= from_ms]
        inside |= {f.episode for f in met}
        said = "; ".join(f"{f.verdict}: {f.text_en}" for f in met) or "nothing"
        lines.append(f"| {context.stn} | {_day(from_ms)} to {_day(to_ms)} | {said} |")
    other = [f for f in told if f.episode not in inside]
    if other:
        lines.append(
            f"| {context.stn} | not labelled | {'; '.join(f'{_day(f.from_ms)} {f.text_en}' for f in other)} |"
        )
    if not told:
        why = Counter(note.code for note in result.notes)
        reasons = ", ".join(f"{code} {count}" for code, count in why.most_common())
        lines.append(f"| {context.stn} | cannot be judged | {reasons or 'nothing said why'} |")
    return lines + [f"| {context.stn} | WORDED AS FORGED | {word} |" for f in told for word in accusing(f)]


def accusing(finding: Finding) -> list[str]:
    """Return the words of a finding's sentences that accuse."""
    text = f"{finding.verdict} {finding.text_en} {finding.text_zh}".lower()
    return [word for word in FORBIDDEN if word in text]


def _day(at_ms: int) -> str:
    return str(np.datetime64(at_ms, "ms").astype("datetime64[m]"))


def main(arguments: list[str]) -> None:
    """Judge all and print the table, or write it."""
    lines = ["# Labelled faults that are no forgeries", "", "| station | labelled | said |", "|---|---|---|"]
    for give in (nab, skab):
        for context, frame, windows in give():
            lines += judge(context, frame, windows)
    text = "\n".join(lines) + "\n"
    if arguments:
        Path(arguments[0]).write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
