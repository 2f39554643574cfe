"""`bench detect` given only a manifest of odd data: it measures what can be measured and says what cannot."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from stackwitness.bench import detect
from stackwitness.bench.detect import Settings

HEAD = """[dataset]
title = "Odd"
agency = "Test bureau"

[[stations]]
stn = "odd-1"
name = "Odd 1"
industry = "cement"
utc_offset_min = 0
files = ["odd.csv"]
channels = [
{channels}]

[stations.time]
start = "2025-01-01T00:00:00"
step_s = 3600
"""
KINDS = ("freeze", "scale", "clip", "dilution", "borrowed_stack", "typed_digits", "missing_when_high")
WAVE = [f"{50 + 20 * math.sin(i / 5) + 7 * math.sin(i / 2.3):.1f}" for i in range(24 * 40)]
ODD = {
    "constant": (["5.0"] * len(WAVE), WAVE),
    "nothing but one channel without limit or load": (WAVE,),
    "all constant": (["5.0"] * len(WAVE),),
    "empty beside full": ([""] * len(WAVE), WAVE),
    "huge and negative": ([f"{1e30 if i % 50 == 0 else -float(v):g}" for i, v in enumerate(WAVE)],),
}


def lay(folder: Path, columns: tuple[list[str], ...]) -> Path:
    names = [f"c{k}" for k in range(len(columns))]
    rows = [",".join(["at", *names])]
    rows += [",".join([str(i), *cells]) for i, cells in enumerate(zip(*columns, strict=True))]
    (folder / "odd.csv").write_text("\n".join(rows) + "\n")
    channels = "".join(
        f'  {{ column = "{name}", quantity = "nox", unit = "mg/m3", role = "pollutant" }},\n'
        for name in names
    )
    (folder / "stations.toml").write_text(HEAD.replace("{channels}", channels))
    return folder


def untimed(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: untimed(v) for k, v in node.items() if k != "seconds_per_station_hour"}
    return node


def measure(folder: Path, out: str, jobs: int = 1) -> dict[str, Any]:
    settings = Settings(KINDS, (1,), 1, (0.5, 0.75), ("gross",), ("short",))
    return detect.run(folder / "stations.toml", folder, folder / out, settings, (0.25,), jobs=jobs)


@pytest.mark.parametrize("columns", ODD.values(), ids=ODD)
def test_odd_data_are_measured(tmp_path: Path, columns: tuple[list[str], ...]) -> None:
    report = measure(lay(tmp_path, columns), "report.json")
    told = report["budgets"]["0.25"]
    assert told["station_months"] == pytest.approx(10 * 24 / 720, rel=0.2)
    assert set(told["recall_by_kind"]) | set(report["trials_that_could_not_be_made"]) == set(KINDS)
    assert "dilution" in report["why_not_made"]
    assert (tmp_path / "report.md").exists()


def test_two_processes_give_the_same_as_one(tmp_path: Path) -> None:
    lay(tmp_path, ODD["constant"])
    one, two = measure(tmp_path, "one.json"), measure(tmp_path, "two.json", jobs=2)
    assert json.dumps(untimed(one)) == json.dumps(untimed(two))
