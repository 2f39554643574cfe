"""`stackwitness bench detect`: read what the command line gave as text, then measure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from stackwitness.bench import detect, detect_ablation
from stackwitness.bench.detect_peers import ROOM
from stackwitness_client.errors import ManifestError
from stackwitness_detectors import DetectorError
from stackwitness_detectors.forge import DURATIONS, LEVELS

_LEAST_BUDGET, _MOST_BUDGET = 1e-4, 100.0


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
        if out.suffix != ".json" or out.is_dir():
            raise DetectorError("bench.out", f"--out names the report, a file *.json, not {out}")
        where = (manifest, data, out, settings, read_budgets(budget), names(stations), jobs)
        if ablation:
            detect_ablation.run(*where, scheduler=scheduler)
        else:
            detect.run(*where, ROOM if peers else None, scheduler=scheduler, attacks=attacks)
    except (ManifestError, DetectorError) as wrong:
        print(wrong, file=sys.stderr)
        return 2
    except OSError as wrong:
        print(f"the report cannot be written: {wrong}", file=sys.stderr)
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
    """Return the settings that decide the outcome. Raises DetectorError bench.split, bench.numbers, bench.choice."""
    borders, seeds = numbers(split), numbers(seed)
    if len(borders) != 2:
        raise DetectorError("bench.split", "--split takes two numbers")
    if not all(number.is_integer() and 0 <= number < 2**32 for number in seeds):
        raise DetectorError("bench.numbers", f"{seed!r} is no list of whole numbers from 0 to 4294967295")
    if not isfinite(exceeded):
        raise DetectorError("bench.numbers", "--exceeded is no share")
    return detect.Settings(
        detect.all_kinds(kinds),
        tuple(dict.fromkeys(int(number) for number in seeds)),
        trials,
        (borders[0], borders[1]),
        chosen(strengths, LEVELS, "--strengths"),
        chosen(durations, DURATIONS, "--durations"),
        names(without),
        plain,
        days,
        exceeded,
    )


def numbers(text: str) -> tuple[float, ...]:
    """Read finite numbers joined by commas. Raises DetectorError bench.numbers."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(isfinite(number) for number in found):
        raise DetectorError("bench.numbers", f"{text!r} is no list of numbers")
    return found


def read_budgets(text: str) -> tuple[float, ...]:
    """Read false alarms a station-month, each once. Raises DetectorError bench.numbers, bench.budget."""
    found = {f"{budget:g}": budget for budget in numbers(text)}
    if not all(_LEAST_BUDGET <= budget <= _MOST_BUDGET for budget in found.values()):
        between = f"{_LEAST_BUDGET:g} to {_MOST_BUDGET:g} false alarms a station-month"
        raise DetectorError("bench.budget", f"--budget takes {between}, not {text}")
    return tuple(found.values())


def chosen(text: str, known: Sequence[str], option: str) -> tuple[str, ...]:
    """Read some of the known names, at least one, each once. Raises DetectorError bench.choice."""
    found = tuple(dict.fromkeys(names(text)))
    if not found or set(found) - set(known):
        raise DetectorError("bench.choice", f"{option} takes some of {', '.join(known)}, not {text!r}")
    return found


def names(text: str) -> tuple[str, ...]:
    """Read names joined by commas; none when empty."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
