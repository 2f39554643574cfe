"""List what the detectors say of the labelled faults of NAB and SKAB: odd is right, a word of forgery would be wrong.

python bench/odd_episodes.py [OUT.md]

NAB: two series with windows round failures. SKAB: experiments of some twenty minutes, a value a second, the labels per second. Each
is judged from its beginning, with nothing before it: where nothing is found the notes as they stood at the end of the window say
which channels could not be judged, and why. Counts at the end: windows, findings outside them, station-months. The data lie where
STACKWITNESS_DATA says (default ../shared/data beside the checkout).
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from lay_mix import DATA, ROOT

from stackwitness.bench.detect_data import read_station
from stackwitness_client.manifest import load_manifest
from stackwitness_detectors import Context, Finding, Frame, Result, run

HOUR_MS = 3_600_000
HOURS_A_MONTH = 720
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


@dataclass
class Tally:
    """Count over stations: labelled windows, those met by a finding, those whose channels all had too little past, findings outside."""

    windows: int = 0
    found: int = 0
    young: int = 0
    outside: int = 0
    stations: int = 0
    stations_found: int = 0
    stations_young: int = 0
    hours: int = 0

    def lines(self, name: str) -> list[str]:
        """Put the counts into words."""
        months = self.hours / HOURS_A_MONTH
        return [
            f"- {name}: {self.windows} labelled windows, {self.found} found as odd, {self.young} with too little past in every channel; "
            f"findings outside them: {self.outside} in {months:.1f} station-months. {self.stations} stations, {self.stations_found} with "
            f"a finding, {self.stations_young} where every channel has a note `history`."
        ]


def judge(context: Context, frame: Frame, windows: Windows, tally: Tally) -> list[str]:
    """Return a table row for each labelled window, one for what was said elsewhere, and one for what cannot be judged."""
    result = run(context, None, frame)
    told = list(
        {f.episode: f for f in result.findings}.values()
    )  # the last telling of each has its whole interval
    tally.stations, tally.stations_found = tally.stations + 1, tally.stations_found + bool(told)
    tally.stations_young += young(context, result)
    tally.hours += len(np.unique(frame.at_ms // HOUR_MS))
    lines, inside = [], set()
    for from_ms, to_ms in windows:
        met = [f for f in told if f.from_ms <= to_ms and f.to_ms >= from_ms]
        inside |= {f.episode for f in met}
        said = "; ".join(f"{f.verdict}: {f.text_en}" for f in met)
        tally.windows, tally.found = tally.windows + 1, tally.found + bool(met)
        if not met:
            then = run(context, None, until(frame, to_ms))
            tally.young += young(context, then)
            said = f"nothing; notes then: {reasons(then)}"
        lines.append(f"| {context.stn} | {_day(from_ms)} to {_day(to_ms)} | {said} |")
    other = [f for f in told if f.episode not in inside]
    tally.outside += len(other)
    if other:
        lines.append(
            f"| {context.stn} | not labelled | {'; '.join(f'{_day(f.from_ms)} {f.text_en}' for f in other)} |"
        )
    if not told and not windows:
        lines.append(f"| {context.stn} | cannot be judged | {reasons(result)} |")
    return lines + [f"| {context.stn} | WORDED AS FORGED | {word} |" for f in told for word in accusing(f)]


def until(frame: Frame, to_ms: int) -> Frame:
    """Return the readings up to `to_ms`."""
    end = int(np.searchsorted(frame.at_ms, to_ms, "right"))
    values = {name: column[:end] for name, column in frame.values.items()}
    return Frame(frame.at_ms[:end], values, {name: column[:end] for name, column in frame.status.items()})


def reasons(result: Result) -> str:
    """Count the notes by code, each with the number of channels it speaks of."""
    told = Counter(note.code for note in result.notes)
    channels = {code: len({n.channel for n in result.notes if n.code == code} - {""}) for code in told}
    counted = (f"{code} {count} (channels {channels[code]})" for code, count in told.most_common())
    least = [dict(note.numbers)["percent"] for note in result.notes if note.code == "below"]
    seen = [f"shifts below {min(least):.3g} % cannot be seen"] if least else []
    return ", ".join([*counted, *seen]) or "nothing said why"


def young(context: Context, result: Result) -> bool:
    """Tell whether the model of every channel says that it has too little past."""
    told = {
        note.channel for note in result.notes if note.code == "history" and note.detector == "conditional"
    }
    return told >= {channel.name for channel in context.channels}


def accusing(finding: Finding) -> list[str]:
    """Return the words of a finding's sentences that accuse."""
    text = f"{finding.verdict} {finding.text_en} {finding.text_zh}".lower()
    return [word for word in FORBIDDEN if word in text]


def _day(at_ms: int) -> str:
    return str(np.datetime64(at_ms, "ms").astype("datetime64[m]"))


def main(arguments: list[str]) -> None:
    """Judge all and print the table, or write it."""
    lines = ["# Labelled faults that are no forgeries", "", "| station | labelled | said |", "|---|---|---|"]
    counts = [""]
    for give in (nab, skab):
        tally = Tally()
        for context, frame, windows in give():
            lines += judge(context, frame, windows, tally)
        counts += tally.lines(give.__name__)
    lines += counts
    text = "\n".join(lines) + "\n"
    if arguments:
        Path(arguments[0]).write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
