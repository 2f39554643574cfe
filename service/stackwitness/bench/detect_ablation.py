"""What each family and each test is worth: recall and false alarms when its findings are left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwitness_detectors.bench.judging import heard_alarms, quiet_of
from stackwitness_detectors.bench.metrics import rates
from stackwitness_detectors.bench.replay import POOLING, Alarm
from stackwitness_detectors.bench.trials import Place, Trial
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import DetectorError

if TYPE_CHECKING:
    from stackwitness.bench.detect import Settings

# Tests of one family; what stands in none is a family by itself.
GROUPS = {
    "freeze": ("freeze", "near_freeze"),
    "copy": ("copy", "pieces", "likeness"),
    "conditional": ("level", "exceedances", "correlation"),
    "physics": ("oxygen_line", "flow_to_load", "saturation", "common_mode"),
    "shape": ("digits", "density", "comb", "heap", "ceiling", "equal_means"),
    "availability": ("availability", "marked_high", "lines", "idle"),
    "dynamics": ("dynamics", "response"),
    "calibration": ("pulse", "challenge"),
    "config_change": ("implied", "range"),
    "PyOD (second opinion)": ("second_opinion",),
}

Told = Sequence[tuple[Trial, list[Alarm]]]


def leave_out(
    places: Mapping[str, Place], clean: Mapping[str, list[Alarm]], told: Told, budget: float
) -> dict[str, dict[str, Any]]:
    """Return per family, and per test where a family has several, the figures without it.

    The rest keeps the parts of the budget it had: `--without` measures what it would do with the whole. `only`
    is the share of forgeries that nothing else finds.
    """
    heard = [a for _, alarms in told for a in alarms] + [a for alarms in clean.values() for a in alarms]
    tests: dict[str, set[str]] = {}
    for a in heard:
        tests.setdefault(a.family, set()).add(a.detector)
    names = sorted(tests) + sorted(d for group in tests.values() if len(group) > 1 for d in group)
    whole = _recall(clean, told, "")
    table = {}
    for name in names:
        kept = {stn: _but(alarms, name) for stn, alarms in clean.items()}
        without = _recall(kept, told, name)
        quiet = rates([quiet_of(places[stn], alarms) for stn, alarms in kept.items()], budget)
        table[name] = {
            "mean_recall": _mean(without),
            "only": round(_mean(whole) - _mean(without), 6),
            "realised_rate": quiet["realised_rate"],
            "kinds_lost": {
                kind: round(whole[kind] - without[kind], 4)
                for kind in whole
                if whole[kind] - without[kind] > 0
            },
        }
    return table


def _but(alarms: Sequence[Alarm], name: str) -> list[Alarm]:
    return [a for a in alarms if name not in (a.family, a.detector)]


def _recall(clean: Mapping[str, list[Alarm]], told: Told, name: str) -> dict[str, float]:
    hits: dict[str, list[bool]] = {}
    for trial, alarms in told:
        heard = heard_alarms(trial, _but(alarms, name), clean[trial.stn])
        hits.setdefault(trial.kind, []).append(bool(heard))
    return {kind: sum(group) / len(group) for kind, group in sorted(hits.items())}


def _mean(by_kind: Mapping[str, float]) -> float:
    return round(sum(by_kind.values()) / max(len(by_kind), 1), 6)


def variants() -> dict[str, tuple[str, ...]]:
    """Return what is left out in turn: a name, and the tests that are then off; the whole comes first."""
    tests = [f.name.removesuffix("_budget") for f in fields(Config) if f.name.endswith("_budget")]
    named = {name: tuple(t for t in group if t in tests) for name, group in GROUPS.items()}
    grouped = {test for group in GROUPS.values() for test in group}
    alone = {test: (test,) for test in tests if test not in grouped}
    return {"": ()} | {name: group for name, group in (named | alone).items() if group}


def run(
    manifest: Path,
    data: Path,
    out: Path,
    settings: Settings,
    budgets: tuple[float, ...],
    stations: tuple[str, ...] = (),
    jobs: int = 1,
    *,
    scheduler: str = "",
    only: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Measure the whole, the whole without each family (the others share the budget), and plain thresholds.

    `only` names the variants wanted beside the whole (without any: all).
    Writes `out` (JSON) and one table beside it (.md); each variant's own report and journal lie in `out`'s folder
    `.ablation`, so that a run that was killed goes on. Raises DetectorError bench.without (no such variant) and what
    `detect.run` raises.
    """
    from stackwitness.bench import detect

    folder = out.with_suffix(".ablation")
    folder.mkdir(parents=True, exist_ok=True)
    asked = {name: replace(settings, without=(*settings.without, *off)) for name, off in variants().items()}
    asked["pooling over channels"] = replace(settings, without=(*settings.without, POOLING))
    asked["plain thresholds, no e-values"] = replace(settings, plain=True)
    if unknown := set(only) - set(asked):
        raise DetectorError(
            "bench.without",
            f"no variant: {', '.join(sorted(unknown))}; there are {', '.join(filter(None, asked))}",
        )
    told: dict[str, Any] = {}
    for name, one in asked.items():
        if name and only and name not in only:
            continue
        file = folder / f"{''.join(c if c.isalnum() else '_' for c in name) or 'whole'}.json"
        report = detect.run(manifest, data, file, one, budgets, stations, jobs, scheduler=scheduler)
        told[name] = {"without": list(one.without), "plain": one.plain, "budgets": report["budgets"]}
    out.write_text(json.dumps({"title": report["title"], "variants": told}, indent=2) + "\n")
    out.with_suffix(".md").write_text(table(report["title"], report["trials"], told))
    return told


def table(title: str, trials: int, told: Mapping[str, Any]) -> str:
    """Return the variants as a page with one table."""
    lines = [
        f"# What each family is worth: {title}",
        "",
        f"{trials} forgeries. Each line is a run of its own: what is off gives its part of the budget to the others. "
        "Without pooling `level` and `exceedances` judge every window by the channel's own past; the tails of the other tests "
        "keep their bounds, which were learned at several stations too.",
        "",
        "| budget | off | mean recall (95 %) | against all | realised rate (95 %) | clean time spoken of | kinds that lose most | kinds that gain most |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for budget in told[""]["budgets"]:
        whole = told[""]["budgets"][budget]
        lines += [_row(budget, name, one["budgets"][budget], whole) for name, one in told.items()]
    return "\n".join(lines) + "\n"


def _row(budget: str, name: str, one: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    low, high = one["mean_recall_interval95"] or (0.0, 1.0)
    change = {kind: share - whole["recall_by_kind"][kind] for kind, share in one["recall_by_kind"].items()}
    return (
        f"| {budget} | {name or 'nothing'} | {one['mean_recall']:.3g} ({low:.3g}-{high:.3g}) "
        f"| {one['mean_recall'] - whole['mean_recall']:+.3g} "
        f"| {one['realised_rate']:.3g} ({one['realised_rate_lower95']:.3g}-{one['realised_rate_upper95']:.3g}) "
        f"| {one['alarmed_share']:.1%} "
        f"| {_most({k: -c for k, c in change.items()})} | {_most(change)} |"
    )


def _most(change: Mapping[str, float]) -> str:
    most = sorted(((c, kind) for kind, c in change.items() if c > 0), reverse=True)[:4]
    return ", ".join(f"{kind} {c:.2g}" for c, kind in most) or "-"
