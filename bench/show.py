"""Measure every data set of a plan with all its seeds and budgets, and write one report of all of them.

python bench/show.py run OUT [--plan bench/show.toml] [--jobs 2] [--only MANIFEST ...] [--no-peers]     goes on where it was killed
python bench/show.py report OUT            the report of what is finished: OUT/report.json, report.md, report.svg, probe.svg
python bench/show.py ablation OUT          OUT/ablation.md: each family off, no pooling, plain thresholds; goes on, too

The data lie where STACKWITNESS_DATA says (default ../shared/data beside the checkout), or in --data; the manifests in manifests/, or in
--manifests; the peers need `stackwitness bench peers-setup`.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import show_page
from lay_mix import DATA, ROOT, SPLIT, lay_part
from refusal import Refusal, ended, read_json
from show_plan import check_manifests, read_plan, settings_of

from stackwitness.bench import detect, detect_ablation, detect_counted
from stackwitness.bench.detect_peers import ROOM
from stackwitness.bench.detect_report import OURS
from stackwitness_client.manifest import load_manifest


@dataclass(frozen=True)
class Rooms:
    """Say where manifests, data and the peers' environment lie; without peers None."""

    manifests: Path
    data: Path
    peers: Path | None


def measure(plan: Mapping[str, Any], out: Path, jobs: int, only: Sequence[str], rooms: Rooms) -> None:
    """Run the data sets of the plan one after another; what is finished is not done again."""
    for part in plan["run"]:
        name = part["manifest"]
        if not only or name in only:
            with _clocked(out, name):
                detect.run(
                    rooms.manifests / name,
                    rooms.data,
                    out / f"{name}.json",
                    settings_of(plan, part),
                    tuple(plan["budgets"]),
                    tuple(part.get("stations", ())),
                    jobs,
                    rooms.peers,
                )


@contextmanager
def _clocked(out: Path, name: str) -> Iterator[None]:
    """Write down the time taken, also of a run that is broken off."""
    began, used = time.monotonic(), _processor_s()
    try:
        yield
    finally:
        line = {
            "what": name,
            "hours": (time.monotonic() - began) / 3600,
            "processor_hours": (_processor_s() - used) / 3600,
        }
        with (out / "hours.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        sys.stdout.write(f"{name}: {line['hours']:.2f} h, {line['processor_hours']:.2f} h of processor\n")
        sys.stdout.flush()


def _processor_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def merge(plan: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Put the finished reports together as one, and write it with page and pictures."""
    names = [part["manifest"] for part in plan["run"]]
    files = {name: out / f"{name}.json" for name in names if (out / f"{name}.json").exists()}
    if not files:
        raise Refusal(f"no finished report in {out}")
    reports = {name: read_json(file) for name, file in files.items()}
    tables = {name: detect_counted.load(file) for name, file in files.items()}
    whole = detect_counted.joined(list(tables.values()))
    brief = {part["manifest"] for part in plan["run"] if part.get("brief")}
    stns = sorted({stn for name, r in reports.items() if name not in brief for stn in r["stations"]})
    groups: dict[str, detect_counted.Table] = {
        **{name: detect_counted.at_stations(whole, part) for name, part in parts_of(stns).items()},
        **{reports[name]["title"]: table for name, table in tables.items()},
    }
    report = _report(plan, reports, whole)
    report["groups"] = {name: _figures(table, plan["seeds"]) for name, table in groups.items()}
    # The probe learned for two years: beside it stand stations with a past to learn from, where there are any.
    long = detect_counted.at_stations(whole, stns) if stns else whole
    report["probe"] = show_page.beside_probe(long[OURS], ROOT / "bench" / "probe.toml")
    report["hours"] = _hours(out, names)
    show_page.write(report, out)
    return report


def parts_of(stns: Sequence[str]) -> dict[str, list[str]]:
    """Part stations by bench/split.toml; parts without a station are left out."""
    split = tomllib.loads(SPLIT.read_text())
    design, apart = (
        {stn for entry in split[part]["real"] for stn in entry["stations"]} for part in ("design", "apart")
    )
    parts = {
        "stations with months of data": list(stns),
        "stations of the design": [stn for stn in stns if stn in design],
        "stations apart": [stn for stn in stns if stn in apart],
        "stations never used": [stn for stn in stns if stn not in design | apart],
    }
    return {name: part for name, part in parts.items() if part}


def _hours(out: Path, names: Sequence[str]) -> dict[str, list[float]]:
    """Sum wall and processor hours by part; the time of a run that was killed hard is not in it."""
    spent = {name: [0.0, 0.0] for name in names}
    file = out / "hours.jsonl"
    for line in file.read_text().splitlines() if file.exists() else []:
        told = json.loads(line)
        if told["what"] in spent:
            spent[told["what"]][0] += told["hours"]
            spent[told["what"]][1] += told["processor_hours"]
    return {name: [round(x, 3) for x in both] for name, both in spent.items()}


def _figures(table: detect_counted.Table, seeds: Sequence[int]) -> dict[str, Any]:
    return {
        name: {
            f"{budget:g}": detect_counted.figures(counted, budget, seeds) for budget, counted in told.items()
        }
        for name, told in table.items()
    }


def _report(
    plan: Mapping[str, Any], reports: Mapping[str, dict[str, Any]], whole: detect_counted.Table
) -> dict[str, Any]:
    """Return the figures of all together, in the form of a single report."""
    every = list(reports.values())
    figures = _figures(whole, plan["seeds"])
    return {
        "title": f"{len(every)} data sets: {', '.join(reports)}",
        "code_version": every[0]["code_version"],
        "config_hash": every[0]["config_hash"],
        "configurations_alike": all(r["config_hash"] == every[0]["config_hash"] for r in every),
        "seeds": list(plan["seeds"]),
        "kinds": every[0]["kinds"],
        "trials": sum(r["trials"] for r in every),
        "stations": [stn for r in every for stn in r["stations"]],
        "stations_left_out": {stn: why for r in every for stn, why in r["stations_left_out"].items()},
        "not_made": {name: r["why_not_made"] for name, r in reports.items()},
        "peers_not_run": {name: r["peers_not_run"] for name, r in reports.items() if "peers_not_run" in r},
        "budgets": figures.pop(OURS),
        "peers": figures,
    }


def ablate(plan: Mapping[str, Any], out: Path, jobs: int) -> None:
    """Lay the stations of the ablation and run its variants."""
    if "ablation" not in plan:
        raise Refusal("the plan names no ablation")
    told = plan["ablation"]
    folder = out / "mix"
    if not (folder / "stations.toml").exists():
        lay_part(told["part"], folder)
    known = {source.stn for source in load_manifest(folder).stations}
    if missing := set(told["stations"]) - known:
        raise Refusal(f"not in the mix: {', '.join(sorted(missing))}; there are {', '.join(sorted(known))}")
    with _clocked(out, "ablation"):
        detect_ablation.run(
            folder,
            folder,
            out / "ablation.json",
            settings_of(plan, told),
            tuple(told["budgets"]),
            tuple(told["stations"]),
            jobs,
            only=tuple(told.get("variants", ())),
        )


def main(arguments: Sequence[str]) -> None:
    """Measure, or write the report again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("deed", choices=("run", "report", "ablation"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--plan", type=Path, default=ROOT / "bench" / "show.toml")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--manifests", type=Path, default=ROOT / "manifests")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    chosen = parser.parse_args(arguments)
    plan = read_plan(chosen.plan)
    if unknown := sorted(set(chosen.only) - {part["manifest"] for part in plan["run"]}):
        raise Refusal(f"not in the plan: {', '.join(unknown)}")
    if chosen.deed == "run":
        check_manifests(plan, chosen.manifests)
    if chosen.deed != "report":
        chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.deed == "ablation":
        ablate(plan, chosen.out, chosen.jobs)
        return
    if chosen.deed == "run":
        rooms = Rooms(chosen.manifests, chosen.data, ROOT / ROOM if chosen.peers else None)
        measure(plan, chosen.out, chosen.jobs, chosen.only, rooms)
    merge(plan, chosen.out)
    print(chosen.out / "report.md")


if __name__ == "__main__":
    sys.exit(ended(main, sys.argv[1:]))
