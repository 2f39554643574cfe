"""What was counted for each contender and budget, trial by trial: kept beside a report, so that several reports make one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stackwitness_detectors.bench.metrics import Outcome, Quiet, rates, recalls

KINDS_KEPT = 3


@dataclass(frozen=True)
class Counted:
    """Hold one contender's clean stations and trials at one budget, its processor time and the hours that took it."""

    quiet: tuple[Quiet, ...]
    outcomes: tuple[Outcome, ...]
    seconds: float
    hours: int
    vus: tuple[float, ...] = ()


Table = Mapping[str, Mapping[float, Counted]]


def figures(counted: Counted, budget: float, seeds: Sequence[int]) -> dict[str, Any]:
    """Return what a report says of a contender at a budget: rates, recalls, each seed's mean recall, VUS-PR, time."""
    return {
        **rates(counted.quiet, budget),
        **recalls(counted.outcomes, seeds[0]),
        "by_seed": {str(seed): _of_seed(counted.outcomes, seed) for seed in seeds},
        "mean_vus_pr": float(f"{np.mean(counted.vus):.6g}") if counted.vus else None,
        "seconds_per_station_hour": float(f"{counted.seconds / max(counted.hours, 1):.3g}"),
    }


def _of_seed(outcomes: Sequence[Outcome], seed: int) -> dict[str, Any]:
    told = recalls([o for o in outcomes if o.seed == seed], seed)
    return {
        key: told[key] for key in ("mean_recall", "recall_by_kind", "attribution_top1", "attribution_top3")
    }


def joined(tables: Sequence[Table]) -> dict[str, dict[float, Counted]]:
    """Put tables of several data sets together; contenders and budgets that one of them lacks are left out."""
    found: dict[str, dict[float, Counted]] = {}
    for name in tables[0]:
        if all(name in table for table in tables):
            budgets = [b for b in tables[0][name] if all(b in table[name] for table in tables)]
            found[name] = {b: _sum([table[name][b] for table in tables]) for b in budgets}
    return found


def _sum(parts: Sequence[Counted]) -> Counted:
    return Counted(
        tuple(q for part in parts for q in part.quiet),
        tuple(o for part in parts for o in part.outcomes),
        sum(part.seconds for part in parts),
        sum(part.hours for part in parts),
        tuple(v for part in parts for v in part.vus),
    )


def at_stations(table: Table, stns: Iterable[str]) -> dict[str, dict[float, Counted]]:
    """Keep what was counted at some stations. Time and VUS-PR are of all."""
    kept = set(stns)
    return {
        name: {
            budget: replace(
                counted,
                quiet=tuple(q for q in counted.quiet if q.stn in kept),
                outcomes=tuple(o for o in counted.outcomes if o.stn in kept),
            )
            for budget, counted in told.items()
        }
        for name, told in table.items()
    }


def path_of(out: Path) -> Path:
    """Name the file beside a report."""
    return out.with_suffix(".counted.json")


def save(table: Table, out: Path) -> None:
    """Write what was counted beside the report `out`."""
    tree = {
        name: {f"{budget:g}": _tree(counted) for budget, counted in told.items()}
        for name, told in table.items()
    }
    path_of(out).write_text(json.dumps(tree) + "\n")


def load(out: Path) -> dict[str, dict[float, Counted]]:
    """Read what was counted for the report `out`."""
    tree = json.loads(path_of(out).read_text())
    return {
        name: {float(budget): _counted(part) for budget, part in told.items()} for name, told in tree.items()
    }


def _tree(counted: Counted) -> dict[str, Any]:
    outcomes = [asdict(replace(o, kinds=o.kinds[:KINDS_KEPT])) for o in counted.outcomes]
    return {**asdict(counted), "outcomes": outcomes}


def _counted(tree: Mapping[str, Any]) -> Counted:
    return Counted(
        tuple(Quiet(**q) for q in tree["quiet"]),
        tuple(Outcome(**{**o, "kinds": tuple(o["kinds"])}) for o in tree["outcomes"]),
        tree["seconds"],
        tree["hours"],
        tuple(tree["vus"]),
    )
