"""Count what the detectors say of honest simulated plants, with exact Poisson intervals.

    python bench/detect_honest.py [seed ...]     seeds of new plants; none: the plants of the demo province

Each plant is judged hourly over 90 days and every ten minutes over 84 days, as the demo province is.
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
from detect_simulated import frame_of
from scipy.stats import chi2

from stackwitness_client.simulator import INDUSTRIES, PROVINCE, ProvinceStation
from stackwitness_detectors import run

SPANS = ((90, 3600), (84, 600))  # days, step in seconds


def interval(count: int, months: float) -> tuple[float, float]:
    """Give the exact 95 % interval of a Poisson rate (Garwood 1936)."""
    low = float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    return low / months, float(chi2.ppf(0.975, 2 * count + 2)) / 2 / months


def plants(seeds: list[int]) -> list[ProvinceStation]:
    """Give the province, or one plant of each industry for each seed."""
    if not seeds:
        return list(PROVINCE)
    return [
        ProvinceStation(f"{industry}-{seed}", industry, "", industry, 0.0, 0.0, seed)
        for seed in seeds
        for industry in INDUSTRIES
    ]


def main(arguments: list[str]) -> None:
    """Run all plants at both steps."""
    for days, step_s in SPANS:
        count, months = 0, 0.0
        detectors: Counter[str] = Counter()
        for station in plants([int(a) for a in arguments]):
            context, frame = frame_of(station, days, step_s, honest=True)
            first = [f for f in run(context, None, frame).findings if not f.extends]
            for f in first:
                print(
                    f"    {station.stn} {np.datetime64(f.from_ms, 'ms').astype('datetime64[h]')} {f.text_en}",
                    flush=True,
                )
            count += len(first)
            months += days * 24 / 720
            detectors.update(f.detector for f in first)
        low, high = interval(count, months)
        print(
            f"step {step_s} s: {count} findings in {months:.0f} station-months = {count / months:.3f}"
            f" ({low:.3f}-{high:.3f}) {dict(detectors)}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
