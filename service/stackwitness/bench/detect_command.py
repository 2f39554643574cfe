"""`stackwitness bench detect`: read what the command line gave as text, then measure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from stackwitness.bench import detect, detect_ablation
from stackwitness.bench.detect_peers import ROOM
from stackwitness_client.errors import ManifestError
from stackwitness_detectors import DetectorError


def run_arguments(
    *,
    budget: str,
    split: str,
    stations: str,
    out: Path,
    peers: bool,
    ablation: bool,
    attacks: int,
    jobs: int,
    scheduler: str,
    manifest: Path,
    data: Path,
    **given: Any,
) -> int:
    """Measure and write the report, or with `ablation` the table of variants; returns an exit code (2: refused)."""
    try:
        settings = read_settings(split, **given)
        where = (manifest, data, out, settings, numbers(budget), names(stations), jobs)
        if ablation:
            detect_ablation.run(*where, scheduler=scheduler)
        else:
            detect.run(*where, ROOM if peers else None, scheduler=scheduler, attacks=attacks)
    except (ManifestError, DetectorError) as wrong:
        print(wrong, file=sys.stderr)
        return 2
    print(out.with_suffix(".md"))
    return 0


def read_settings(
    split: str,
    *,
    kinds: str,
    strengths: str,
    durations: str,
    without: str,
    seed: str,
    trials: int,
    plain: bool,
    days: int,
    exceeded: float,
) -> detect.Settings:
    """Return the settings that decide the outcome. Raises DetectorError bench.split, bench.numbers."""
    borders, seeds = numbers(split), numbers(seed)
    if len(borders) != 2:
        raise DetectorError("bench.split", "--split takes two numbers")
    if not all(number.is_integer() for number in seeds):
        raise DetectorError("bench.numbers", f"{seed!r} is no list of whole numbers")
    return detect.Settings(
        detect.all_kinds(kinds),
        tuple(int(number) for number in seeds),
        trials,
        (borders[0], borders[1]),
        names(strengths),
        names(durations),
        names(without),
        plain,
        days,
        exceeded,
    )


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers joined by commas. Raises DetectorError bench.numbers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as wrong:
        raise DetectorError("bench.numbers", f"{text!r} is no list of numbers") from wrong


def names(text: str) -> tuple[str, ...]:
    """Read names joined by commas; none when empty."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
