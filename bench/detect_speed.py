"""Print what the detectors cost: ms a station-hour by step, a station-year of minutes anew, stations within the hour.

python bench/detect_speed.py [days of minutes]      default 30; a year is what 365 / days times as much takes

Simulated plants of five channels (load, oxygen, two pollutants, weather), processor time, one process. A station-hour
"live" is one hour more for a station that is known: state read, one hour judged, state written.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from stackwitness_detectors import Frame, run
from tests.detectors.plants import CONTEXT, HOUR_MS, part, plant

CORES = 2


def judge(frame: Frame, state: bytes | None = None) -> tuple[float, bytes]:
    """Give processor seconds and the state."""
    began = time.process_time()
    result = run(CONTEXT, state, frame)
    return time.process_time() - began, result.state


def live(frame: Frame, hours: int) -> float:
    """Give processor seconds for each of the last hours, one call an hour."""
    rows = len(frame.at_ms) // (int(frame.at_ms[-1] - frame.at_ms[0]) // HOUR_MS + 1)
    start = len(frame.at_ms) - hours * rows
    _, state = judge(part(frame, 0, start))
    spent = 0.0
    for at in range(start, len(frame.at_ms), rows):
        seconds, state = judge(part(frame, at, at + rows), state)
        spent += seconds
    return spent / hours


def main(arguments: list[str]) -> None:
    """Measure and print."""
    minute_days = float(arguments[0]) if arguments else 30.0
    judge(plant(60))  # imports
    print(f"load average {os.getloadavg()[0]:.1f}")
    costs = {}
    for name, days, step_ms in (
        ("hours", 200.0, HOUR_MS), ("ten minutes", 60.0, HOUR_MS // 6), ("minutes", minute_days, HOUR_MS // 60),
    ):  # fmt: skip
        seconds, state = judge(plant(days, step_ms, seed=11))
        costs[name] = seconds / (24 * days)
        print(
            f"{name}: {1000 * costs[name]:.2f} ms a station-hour over {days:g} days, state {len(state) / 1024:.0f} KB"
        )
    print(f"a station-year of minutes anew: {costs['minutes'] * 8760:.0f} s (limit 120 s)")
    seconds = live(plant(120, HOUR_MS // 6, seed=12), 48)
    print(f"live, ten minutes: {1000 * seconds:.1f} ms a station-hour with its state read and written")
    print(
        f"1,000 stations take {1000 * seconds / CORES / 60:.1f} min of each hour on {CORES} cores, without the database"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
