"""A small seeded bench on two simulated kilns; `python -m tests.bench.slice` writes what it measures as the new floor.

The whole report stays in bench/results/slice.json, for `bench/score_table.py`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from stackwitness.bench import detect
from stackwitness.bench.detect import Settings
from tests.support.dataset import write_plant

FLOOR = Path(__file__).with_name("floor.json")
BUDGET = 0.25
DAYS = 95
KINDS = (
    "freeze", "near_freeze", "manual_jitter", "replay_exact", "joint_replay", "borrowed_stack", "rounded", "typed_digits",
    "dilution", "smoothed", "invented_records", "calibration_gas", "scale",
)  # fmt: skip


def lay(folder: Path) -> Path:
    """Write two kilns of one kind and a manifest that names both."""
    texts = []
    for number, seed in enumerate((7, 8), 1):
        part = folder / f"k{number}"
        part.mkdir()
        manifest, _ = write_plant(part, days=DAYS, seed=seed)
        text = (
            manifest.read_text()
            .replace("mill-1", f"mill-{number}")
            .replace("A simulated mill", "Two simulated kilns")
            .replace("plant.csv", f"k{number}/plant.csv")
        )
        texts.append(text if number == 1 else text[text.index("[[stations]]") :])
    (folder / "stations.toml").write_text("\n".join(texts))
    return folder / "stations.toml"


def measure(folder: Path) -> dict[str, Any]:
    """Run the bench at the shipped budget; gives the figures that may not get worse."""
    settings = Settings(KINDS, (1,), 1, (0.7, 0.71), ("gross",), ("medium",))
    told = detect.run(lay(folder), folder, folder / "slice.json", settings, (BUDGET,))["budgets"][
        f"{BUDGET:g}"
    ]
    return {
        "false_alarms": told["false_alarms"],
        "station_months": round(told["station_months"], 3),
        "alarmed_share": told["alarmed_share"],
        "recall_by_kind": told["recall_by_kind"],
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as room:
        FLOOR.write_text(json.dumps(measure(Path(room)), indent=2) + "\n")
        kept = Path("bench/results/slice.json")
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(Path(room, "slice.json").read_bytes())
    sys.stdout.write(FLOOR.read_text())
