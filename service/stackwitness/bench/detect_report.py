"""Assemble the report from finished pieces: report.json, and beside it Markdown and a picture."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwitness.bench.detect_ablation import leave_out
from stackwitness.bench.detect_attack import lines_of
from stackwitness.bench.detect_chart import draw, seeds_of
from stackwitness.bench.detect_counted import Counted, Table, figures
from stackwitness.bench.detect_work import clean_key, trial_key
from stackwitness_detectors import CODE_VERSION, config_hash
from stackwitness_detectors.bench.judging import GRACE_MS, heard_alarms, outcome_of, quiet_of
from stackwitness_detectors.bench.metrics import rate_uniformity
from stackwitness_detectors.bench.replay import Alarm, alarm_of, listening
from stackwitness_detectors.bench.trials import make
from stackwitness_detectors.config import DEFAULT
from stackwitness_detectors.forge import LEVELS

if TYPE_CHECKING:
    from stackwitness.bench.detect import Run

OURS = "stackwitness"


def assemble(
    opened: Run, budgets: Sequence[float], rivals: Any, absent: str | None, title: str
) -> tuple[dict[str, Any], Table]:
    """Return the report (budgets of ours, the same keys per peer, what was done), and what was counted for it."""
    settings = opened.settings
    report: dict[str, Any] = {
        "title": title,
        "code_version": CODE_VERSION,
        "config_hash": {
            f"{b:g}": config_hash(listening(b, settings.without, settings.plain)) for b in budgets
        },
        "without": list(settings.without),
        "plain_thresholds": settings.plain,
        "seeds": list(settings.seeds),
        "kinds": list(settings.kinds),
        "trials": len(opened.trials),
        "trials_that_could_not_be_made": dict(sorted(opened.skipped.items())),
        "why_not_made": dict(sorted(opened.reasons.items())),
        "stations": sorted(opened.places),
        "stations_left_out": opened.left_out,
        "split": list(settings.split),
        "grace_h": GRACE_MS / 3_600_000,
        "budgets": {},
        "peers": {},
    }
    ours: dict[float, Counted] = {}
    for budget in budgets:
        ours[budget], more = _ours(opened, budget)
        report["budgets"][f"{budget:g}"] = figures(ours[budget], budget, settings.seeds) | more
    table: dict[str, Mapping[float, Counted]] = {OURS: ours} | rivals(budgets)
    for name, told in table.items():
        if name != OURS:
            report["peers"][name] = {f"{b:g}": figures(told[b], b, settings.seeds) for b in budgets}
    if absent:
        report["peers_not_run"] = absent
    return report, table


def _ours(opened: Run, budget: float) -> tuple[Counted, dict[str, Any]]:
    journal, places = opened.journal, opened.places
    pieces = {stn: journal[clean_key(budget, stn)] for stn in sorted(places)}
    clean = {stn: [alarm_of(a) for a in piece["alarms"]] for stn, piece in pieces.items()}
    outcomes, vus, replayed = [], [], []
    by_level: Counter[tuple[str, bool]] = Counter()
    for trial in opened.trials:
        piece, place = journal[trial_key(budget, trial.id)], places[trial.stn]
        told, frame = [alarm_of(a) for a in piece["alarms"]], make(place, trial)
        vus.append(piece["vus_pr"])
        replayed.append((trial, told))
        heard = heard_alarms(trial, told, clean[trial.stn])
        outcomes.append(outcome_of(place, trial, frame, heard, piece["stated"]))
        by_level[(trial.made.level, bool(heard))] += 1
    spent = sum(t["seconds_per_station_hour"] * t["hours"] for t in pieces.values())
    quiet = tuple(quiet_of(places[stn], alarms) for stn, alarms in clean.items())
    hours = sum(t["hours"] for t in pieces.values())
    return Counted(quiet, tuple(outcomes), spent, hours, tuple(vus)), {
        "recall_by_strength": _by_level(by_level),
        "e_value_calibration": _uniformity(opened, clean),
        "false_alarms_by_detector": _by_detector(opened, clean),
        "left_out": leave_out(places, clean, replayed, budget),
    }


def _by_level(counts: Counter[tuple[str, bool]]) -> dict[str, float]:
    levels = [level for level in LEVELS if (level, True) in counts or (level, False) in counts]
    return {
        level: round(counts[(level, True)] / (counts[(level, True)] + counts[(level, False)]), 4)
        for level in levels
    }


def _tested(opened: Run, clean: Mapping[str, list[Alarm]]) -> list[Alarm]:
    return [a for stn, alarms in clean.items() for a in alarms if opened.places[stn].split.tests(a.at_ms)]


def _by_detector(opened: Run, clean: Mapping[str, list[Alarm]]) -> dict[str, int]:
    return dict(sorted(Counter(a.detector for a in _tested(opened, clean)).items()))


def _uniformity(opened: Run, clean: Mapping[str, list[Alarm]]) -> dict[str, Any]:
    groups: dict[str, list[float]] = {}
    for a in _tested(opened, clean):
        groups.setdefault(a.detector, []).append(a.e_value)
    return rate_uniformity(groups, DEFAULT.kappa)


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
        f"{report['trials']} forgeries of {len(report['kinds'])} kinds at {len(report['stations'])} stations, "
        f"{seeds_of(report)}; at each budget the detectors were asked for just that budget."
        + (f" Off: {', '.join(report['without'])}." if report["without"] else "")
        + (" Plain thresholds in place of rates." if report["plain_thresholds"] else ""),
        "",
        f"![recall and false alarms]({picture})",
        "",
    ]
    for budget, ours in report["budgets"].items():
        lines += [*budget_lines(report, budget), *_left_out(ours), "", *lines_of(ours)]
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


def budget_lines(report: Mapping[str, Any], budget: str) -> list[str]:
    """Return heading and both tables of one budget: ours beside the peers."""
    contenders = {OURS: report["budgets"][budget]}
    contenders |= {name: told[budget] for name, told in report["peers"].items()}
    return [
        f"## At {budget} false alarms a station-month",
        "",
        *summary_lines(contenders),
        "",
        *kind_lines(contenders),
        "",
        *stated_lines(report["budgets"][budget]),
    ]


def stated_lines(ours: Mapping[str, Any]) -> list[str]:
    """Return what was found of the lowerings that the notes had called detectable, and of the others."""
    lines = []
    for key, words in (("recall_of_stated", "detectable"), ("recall_of_not_stated", "not detectable")):
        if told := ours.get(key):
            low, high = told["interval95"]
            lines.append(
                f"Lasting lowerings that the notes before had called {words} there: {told['found']} of {told['trials']} found, "
                f"{_n(told['recall'])} ({_n(low)}-{_n(high)})."
            )
    return [*lines, ""] if lines else []


def summary_lines(contenders: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return the table of contenders at one budget: rates, recall, attribution, VUS-PR, time."""
    lines = [
        "| | realised rate (95 %) | time spoken of | worst station | months | mean recall (95 %) | top-1 | top-3 | VUS-PR | ms a station-hour |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, c in contenders.items():
        low, high = c["mean_recall_interval95"] or (None, None)
        lines.append(
            f"| {name} | {_n(c['realised_rate'])} ({_n(c['realised_rate_lower95'])}-{_n(c['realised_rate_upper95'])}) "
            f"| {_n(c['alarmed_share'])} | {_n(c['worst_station_rate'])} | {_n(c['station_months'])} | {_n(c['mean_recall'])} ({_n(low)}-{_n(high)}) "
            f"| {_n(c['attribution_top1'])} | {_n(c['attribution_top3'])} | {_n(c['mean_vus_pr'])} "
            f"| {_n(1000 * c['seconds_per_station_hour'])} |"
        )
    return lines


def kind_lines(contenders: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return the table of kinds at one budget: recall of ours with delay and hidden mass, recall of the others."""
    ours = contenders[OURS]
    rivals = [name for name in contenders if name != OURS]
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


def _left_out(ours: dict[str, Any]) -> list[str]:
    lines = [
        f"Without a family or test (all: recall {_n(ours['mean_recall'])}, rate {_n(ours['realised_rate'])}):",
        "",
        "| left out | mean recall | found by nothing else | realised rate | kinds that lose most |",
        "|---|---|---|---|---|",
    ]
    for name, c in ours["left_out"].items():
        most = sorted(c["kinds_lost"].items(), key=lambda item: -item[1])[:4]
        told = ", ".join(f"{kind} {lost:.2g}" for kind, lost in most) or "-"
        lines.append(
            f"| {name} | {_n(c['mean_recall'])} | {_n(c['only'])} | {_n(c['realised_rate'])} | {told} |"
        )
    return lines


def _n(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
