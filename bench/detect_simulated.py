"""Lead the detectors over the simulated province: honest (nothing may be found), as its forgers report, and forged.

python bench/detect_simulated.py [days] [step seconds]
"""

from __future__ import annotations

import sys
import time
from collections import Counter

import numpy as np

from stackwitness_client.simulator import PROVINCE, ProvinceStation
from stackwitness_detectors import ChannelInfo, Context, DetectorError, Frame, run
from stackwitness_detectors.forge import forge

DAY_MS = 86_400_000
START_MS = 1_735_689_600_000  # 2025-01-01
FORGERIES = (
    ("freeze", 0.5), ("near_freeze", 2), ("replay_exact", 2), ("scale", 7), ("clip", 14), ("bunch", 14),
    ("missing_when_high", 14), ("status_abuse", 14), ("typed_digits", 7), ("rounded", 7), ("smoothed", 7),
    ("generated", 7), ("calibration_gas", 5),
)  # fmt: skip


def frame_of(station: ProvinceStation, days: float, step_s: int, *, honest: bool) -> tuple[Context, Frame]:
    """Simulate a station up to START_MS."""
    plant = station.reporting(START_MS, honest=honest)
    channels = station.plant().channels
    times = np.arange(START_MS - int(days * DAY_MS), START_MS, step_s * 1000, dtype=np.int64)
    values = {c.name: np.full(len(times), np.nan) for c in channels}
    letters = {c.name: np.full(len(times), ord("N"), np.uint8) for c in channels}
    for i, at_ms in enumerate(times.tolist()):
        for record in plant.readings(at_ms):
            if record.value is not None:
                values[record.name][i] = float(record.value)
            letters[record.name][i] = ord(record.status)
    infos = tuple(ChannelInfo(c.name, c.quantity, c.unit, c.role, c.limit, c.resolution) for c in channels)
    return Context(station.stn, infos), Frame(times, values, letters)


def tell(title: str, context: Context, frame: Frame) -> None:
    """Print what is found in one frame."""
    began = time.perf_counter()
    result = run(context, None, frame)
    spent = time.perf_counter() - began
    last = {f.episode: f for f in result.findings}
    print(
        f"{title:28} {spent:5.1f} s {len(result.state) / 1024:.0f} KB {dict(Counter(f.detector for f in last.values()))}"
    )
    for f in last.values():
        print(f"     {np.datetime64(f.from_ms, 'ms').astype('datetime64[h]')} e={f.e_value:.3g} {f.text_en}")


def main(arguments: list[str]) -> None:
    """Run all stations."""
    days, step_s = float(arguments[0]) if arguments else 90, int(arguments[1]) if len(arguments) > 1 else 3600
    found: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for station in PROVINCE:
        context, frame = frame_of(station, days, step_s, honest=True)
        tell(f"{station.stn} honest", context, frame)
        if station.cheats:
            context, forged = frame_of(station, days, step_s, honest=False)
            tell(f"{station.stn} {station.cheats[0].kind}", context, forged)
        channel = next(c.name for c in context.channels if c.role == "pollutant" and c.limit)
        for kind, length in FORGERIES:
            start = START_MS - 20 * DAY_MS + 7 * 3_600_000
            try:
                forged = forge(kind, frame, context, channel, start, start + int(length * DAY_MS))
            except DetectorError as wrong:
                print("    ", kind, wrong)
                continue
            hits = [
                f.detector for f in run(context, None, forged).findings if f.to_ms >= start and not f.extends
            ]
            tried[kind] += 1
            found[kind] += bool(hits)
            print(f"     {kind:18} {channel}: {hits or 'MISSED'}", flush=True)
    print({kind: f"{found[kind]}/{tried[kind]}" for kind in tried})


if __name__ == "__main__":
    main(sys.argv[1:])
