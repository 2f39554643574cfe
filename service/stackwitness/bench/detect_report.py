"""Assemble the report from finished pieces: report.json, and beside it Markdown and a picture."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stackwitness.bench.detect_chart import draw
from stackwitness_detectors import CODE_VERSION, config_hash
from stackwitness_detectors.bench.budgets import thresholds_for
from stackwitness_detectors.bench.judging import GRACE_MS, first_detection, outcome_of, quiet_of
from stackwitness_detectors.bench.metrics import rate_uniformity, rates, recalls
from stackwitness_detectors.bench.replay import Alarm, alarm_of, listening
from stackwitness_detectors.bench.splits import months_between
from stackwitness_detectors.bench.trials import make
from stackwitness_detectors.forge import LEVELS

if TYPE_CHECKING:
    from stackwitness.bench.detect import Run

Rivals = Mapping[str, Mapping[float, dict[str, Any]]]


def assemble(
    opened: Run, budgets: Sequence[float], rivals: Any, absent: str | None, title: str
) -> dict[str, Any]:
    """Return the report: budgets of ours, the same keys per peer, and what was done."""
    clean = {
        stn: [alarm_of(a) for a in opened.journal[f"clean:{stn}"]["alarms"]] for stn in sorted(opened.places)
    }
    thresholds = _thresholds(opened, clean, budgets)
    settings = opened.settings
    report: dict[str, Any] = {
        "title": title,
        "code_version": CODE_VERSION,
        "config_hash": config_hash(listening(settings.listen)),
        "seed": settings.seed,
        "kinds": list(settings.kinds),
        "trials": len(opened.trials),
        "trials_that_could_not_be_made": dict(sorted(opened.skipped.items())),
        "why_not_made": dict(sorted(opened.reasons.items())),
        "stations": sorted(opened.places),
        "stations_left_out": opened.left_out,
        "split": list(settings.split),
        "grace_h": GRACE_MS / 3_600_000,
        "thresholds": (
            f"the families listen at {settings.listen:g} findings a station-month together; the e-value from "
            "which a finding is an alarm is set on the calibration part, pooled over stations"
            if settings.listen > 0
            else f"as shipped: a budget of {listening(0.0).budget:.3g} a station-month, the same at every budget"
        ),
        "budgets": {},
        "peers": {},
    }
    ours = _ours(opened, clean, thresholds)
    for budget in budgets:
        report["budgets"][f"{budget:g}"] = ours[budget]
    for name, found in rivals(budgets).items():
        report["peers"][name] = {f"{budget:g}": found[budget] for budget in budgets}
    if absent:
        report["peers_not_run"] = absent
    return report


def _thresholds(
    opened: Run, clean: Mapping[str, list[Alarm]], budgets: Sequence[float]
) -> dict[float, float]:
    if opened.settings.listen <= 0:
        return dict.fromkeys(budgets, 0.0)
    months = sum(
        months_between(p.hours, p.split.calibration_ms, p.split.test_ms) for p in opened.places.values()
    )
    calibration = [
        [a for a in alarms if opened.places[stn].split.calibrates(a.at_ms)] for stn, alarms in clean.items()
    ]
    kappa = listening(opened.settings.listen).kappa
    return thresholds_for(calibration, months, budgets, kappa)


def _ours(
    opened: Run, clean: Mapping[str, list[Alarm]], thresholds: Mapping[float, float]
) -> dict[float, dict[str, Any]]:
    outcomes: dict[float, list[Any]] = {budget: [] for budget in thresholds}
    by_level: dict[float, Counter[tuple[str, bool]]] = {budget: Counter() for budget in thresholds}
    vus = []
    for trial in opened.trials:
        piece, place = opened.journal[f"trial:{trial.id}"], opened.places[trial.stn]
        told, frame = [alarm_of(a) for a in piece["alarms"]], make(place, trial)
        vus.append(piece["vus_pr"])
        for budget, threshold in thresholds.items():
            alarm = first_detection(trial, told, clean[trial.stn], threshold)
            outcomes[budget].append(outcome_of(place, trial, frame, alarm))
            by_level[budget][(trial.made.level, alarm is not None)] += 1
    timing = [opened.journal[f"clean:{stn}"] for stn in clean]
    spent = sum(t["seconds_per_station_hour"] * t["hours"] for t in timing) / sum(t["hours"] for t in timing)
    found: dict[float, dict[str, Any]] = {}
    for budget, threshold in thresholds.items():
        quiet = [quiet_of(opened.places[stn], alarms, threshold) for stn, alarms in clean.items()]
        found[budget] = {
            **rates(quiet, budget),
            "e_value_threshold": threshold if np.isfinite(threshold) else None,
            **recalls(outcomes[budget], opened.settings.seed),
            "recall_by_strength": _by_level(by_level[budget]),
            "mean_vus_pr": float(f"{np.mean(vus):.6g}") if vus else None,
            "e_value_calibration": _uniformity(opened, clean, threshold),
            "false_alarms_by_detector": _by_detector(opened, clean, threshold),
            "seconds_per_station_hour": float(f"{spent:.3g}"),
        }
    return found


def _by_level(counts: Counter[tuple[str, bool]]) -> dict[str, float]:
    levels = [level for level in LEVELS if (level, True) in counts or (level, False) in counts]
    return {
        level: round(counts[(level, True)] / (counts[(level, True)] + counts[(level, False)]), 4)
        for level in levels
    }


def _tested(opened: Run, clean: Mapping[str, list[Alarm]], threshold: float) -> list[Alarm]:
    return [
        a
        for stn, alarms in clean.items()
        for a in alarms
        if opened.places[stn].split.tests(a.at_ms) and a.e_value >= threshold
    ]


def _by_detector(opened: Run, clean: Mapping[str, list[Alarm]], threshold: float) -> dict[str, int]:
    return dict(sorted(Counter(a.detector for a in _tested(opened, clean, threshold)).items()))


def _uniformity(opened: Run, clean: Mapping[str, list[Alarm]], threshold: float) -> dict[str, Any]:
    groups: dict[str, list[float]] = {}
    for a in _tested(opened, clean, threshold):
        groups.setdefault(a.detector, []).append(a.e_value)
    return rate_uniformity(groups, listening(opened.settings.listen).kappa)


def write(report: dict[str, Any], out: Path) -> None:
    """Write report.json, report.md and report.svg."""
    out.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    out.with_suffix(".md").write_text(markdown(report, out.with_suffix(".svg").name))
    out.with_suffix(".svg").write_text(draw(report))


def markdown(report: dict[str, Any], picture: str) -> str:
    """Return the report as a page."""
    lines = [
        f"# Detectors on: {report['title']}",
        "",
        f"{report['trials']} forgeries of {len(report['kinds'])} kinds at {len(report['stations'])} stations, seed "
        f"{report['seed']}; {report['thresholds']}.",
        "",
        f"![recall and false alarms]({picture})",
        "",
    ]
    for budget, ours in report["budgets"].items():
        contenders = {"stackwitness": ours} | {name: p[budget] for name, p in report["peers"].items()}
        lines += [
            f"## At {budget} false alarms a station-month",
            "",
            *_summary(contenders),
            "",
            *_kinds(contenders),
            "",
        ]
    if report["stations_left_out"]:
        lines += [f"Left out: {'; '.join(f'{k}: {v}' for k, v in report['stations_left_out'].items())}.", ""]
    if report["trials_that_could_not_be_made"]:
        told = "; ".join(
            f"{kind} {count} ({report['why_not_made'][kind]})"
            for kind, count in report["trials_that_could_not_be_made"].items()
        )
        lines += [f"Trials that could not be made: {told}.", ""]
    if "peers_not_run" in report:
        lines += [f"peers not run: {report['peers_not_run']}", ""]
    return "\n".join(lines)


def _summary(contenders: Mapping[str, dict[str, Any]]) -> list[str]:
    lines = [
        "| | realised rate (95 %) | worst station | months | mean recall (95 %) | top-1 | top-3 | VUS-PR | ms a station-hour |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, c in contenders.items():
        low, high = c["mean_recall_interval95"] or (None, None)
        lines.append(
            f"| {name} | {_n(c['realised_rate'])} ({_n(c['realised_rate_lower95'])}-{_n(c['realised_rate_upper95'])}) "
            f"| {_n(c['worst_station_rate'])} | {_n(c['station_months'])} | {_n(c['mean_recall'])} ({_n(low)}-{_n(high)}) "
            f"| {_n(c['attribution_top1'])} | {_n(c['attribution_top3'])} | {_n(c['mean_vus_pr'])} "
            f"| {_n(1000 * c['seconds_per_station_hour'])} |"
        )
    return lines


def _kinds(contenders: Mapping[str, dict[str, Any]]) -> list[str]:
    ours = contenders["stackwitness"]
    rivals = [name for name in contenders if name != "stackwitness"]
    head = ["kind", "trials", "recall (95 %)", "median delay, h", "hidden, share of a month", *rivals]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for kind, recall in ours["recall_by_kind"].items():
        low, high = ours["recall_by_kind_interval95"][kind]
        cells = [
            kind,
            str(ours["trials_by_kind"][kind]),
            f"{_n(recall)} ({_n(low)}-{_n(high)})",
            _n(ours["median_delay_h_by_kind"][kind]),
            _n(ours["hidden_month_share_by_kind"][kind]),
            *(_n(contenders[name]["recall_by_kind"].get(kind)) for name in rivals),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _n(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
