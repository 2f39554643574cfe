"""Lay the stations of one part of bench/split.toml as one data set with a manifest, so that one bench judges them all.

python bench/lay_mix.py design|apart FOLDER     afterwards FOLDER is both --manifest and --data of `stackwitness bench detect`

The real data lie where STACKWITNESS_DATA says (default ../shared/data beside the checkout).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from detect_simulated import frame_of
from refusal import ended

from stackwitness.bench.detect_data import read_station
from stackwitness_client.manifest import load_manifest
from stackwitness_client.simulator import ProvinceStation
from stackwitness_detectors import Context, Frame
from stackwitness_detectors.bench.replay import rows_of

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("STACKWITNESS_DATA", ROOT / ".." / "shared" / "data"))
SPLIT = ROOT / "bench" / "split.toml"
DAY_MS = 86_400_000
_LETTERS = "NFMSDCTBHR"


def stations_of(part: str) -> Iterator[tuple[Context, Frame]]:
    """Give the stations of a part, cut to the days it names."""
    told = tomllib.loads(SPLIT.read_text())[part]
    for entry in told.get("real", []):
        for source in load_manifest(ROOT / "manifests" / entry["manifest"]).stations:
            if source.stn in entry["stations"]:
                context, frame = read_station(source, DATA)
                first = int(np.searchsorted(frame.at_ms, int(frame.at_ms[-1]) - entry["days"] * DAY_MS))
                yield context, rows_of(frame, first, len(frame.at_ms))
    for entry in told.get("simulated", []):
        for seed in entry["seeds"]:
            for industry in entry["industries"]:
                name = f"{industry}-{seed}-{entry['step_s']}".replace("_", "-")
                plant = ProvinceStation(name, industry, "", industry, 0.0, 0.0, seed)
                yield frame_of(plant, entry["days"], entry["step_s"], honest=True)


def lay(context: Context, frame: Frame, folder: Path) -> str:
    """Write a station's rows; gives its part of the manifest."""
    marked = [c.name for c in context.channels if (frame.status[c.name] != ord("N")).any()]
    with (folder / f"{context.stn}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["at", *(c.name for c in context.channels), *(f"{name} mark" for name in marked)])
        values = [frame.values[c.name].tolist() for c in context.channels]
        letters = [frame.status[name].tolist() for name in marked]
        for at, time in enumerate(frame.at_ms.astype("datetime64[ms]").astype("datetime64[s]").tolist()):
            cells = [repr(v[at]) if np.isfinite(v[at]) else "" for v in values]
            writer.writerow([time.isoformat(), *cells, *(chr(s[at]) for s in letters)])
    return _section(context, set(marked))


def _section(context: Context, marked: set[str]) -> str:
    codes = ", ".join(f'{letter} = "{letter}"' for letter in _LETTERS)
    lines = []
    for c in context.channels:
        told: dict[str, Any] = {"column": c.name, "quantity": c.quantity, "unit": c.unit, "role": c.role}
        told |= {key: value for key in ("limit", "resolution") if (value := getattr(c, key)) is not None}
        fields = ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in told.items())
        mark = f', status = {{ column = "{c.name} mark", codes = {{ {codes} }} }}' if c.name in marked else ""
        lines.append(f"  {{ {fields}{mark} }},")
    return (
        f'\n[[stations]]\nstn = "{context.stn}"\nname = "{context.stn}"\nindustry = "mixed"\nutc_offset_min = 0\n'
        f'files = ["{context.stn}.csv"]\ntime = {{ column = "at" }}\n'
        "channels = [\n" + "\n".join(lines) + "\n]\n"
    )


def lay_part(part: str, folder: Path) -> None:
    """Write all stations of a part; the manifest last, so that a folder with one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f'[dataset]\ntitle = "Stations {part}"\nagency = "bench"\n'
    for context, frame in stations_of(part):
        text += lay(context, frame, folder)
        sys.stdout.write(f"{context.stn}: {len(frame.at_ms)} rows\n")
        sys.stdout.flush()
    (folder / "stations.toml").write_text(text)


def main(arguments: list[str]) -> None:
    """Lay one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("part", choices=("design", "apart"))
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args(arguments)
    lay_part(chosen.part, chosen.folder)


if __name__ == "__main__":
    sys.exit(ended(main, sys.argv[1:]))
