"""Word and draw the report of several data sets: all contenders, false alarms by group, kinds by seed, the probe, the goals."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from stackwitness.bench.detect_chart import INK, LINE, QUIET, draw
from stackwitness.bench.detect_counted import Counted
from stackwitness.bench.detect_report import OURS, budget_lines
from stackwitness_detectors.bench.metrics import Outcome, wilson_interval

GOAL_BUDGET = "0.25"
EASY = (
    "freeze", "near_freeze", "record_freeze", "replay_exact", "replay_shifted", "rounded", "typed_digits",
    "missing_when_high", "generated", "smoothed",
)  # fmt: skip
STILL = (
    "freeze", "near_freeze", "record_freeze", "replay_exact", "replay_shifted", "replay_disguised", "joint_replay",
    "borrowed_stack", "neighbour_copied",
)  # fmt: skip
SCALINGS = ("scale", "scale_after_rounding", "joint_scale", "limit_aware_scale")
_PROBE = ("best_rule", "fused", "with_pyod", "pyod")
_SHADES = {"best_rule": "#999999", "fused": "#e69f00", "pyod": "#cc79a7"}
_OURS = {"1": "#9cc4e4", "0.25": "#2f6fad"}


def write(report: dict[str, Any], out: Path) -> None:
    """Write report.json, report.md, report.svg and probe.svg."""
    (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    (out / "report.md").write_text(page(report))
    (out / "report.svg").write_text(draw(report))
    (out / "probe.svg").write_text(draw_probe(report["probe"]))


def share_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return how many of the trials were found, with Wilson's interval and the median delay."""
    delays = [o.delay_h for o in outcomes if o.delay_h is not None]
    return {
        "trials": len(outcomes),
        "found": len(delays),
        "interval95": list(wilson_interval(len(delays), len(outcomes))),
        "median_delay_h": float(np.median(delays)) if delays else None,
    }


def beside_probe(ours: Mapping[float, Counted], file: Path) -> list[dict[str, Any]]:
    """Give each line of the probe with our trials of that kind: all, and those of the nearest strength and length."""
    lines = []
    for told in tomllib.loads(file.read_text())["forgery"]:
        line = dict(told)
        for budget, counted in ours.items():
            alike = [o for o in counted.outcomes if o.kind == told["kind"]]
            near = [o for o in alike if (o.level, o.duration) == (told["level"], told["duration"])]
            line[f"{budget:g}"] = {"all": share_of(alike), "nearest": share_of(near)}
        lines.append(line)
    return lines


def page(report: Mapping[str, Any]) -> str:
    """Return the report as a page."""
    seeds = ", ".join(map(str, report["seeds"]))
    alike = (
        "" if report["configurations_alike"] else " THE DATA SETS WERE JUDGED BY DIFFERENT CONFIGURATIONS."
    )
    lines = [
        f"# Detectors on {report['title']}",
        "",
        f"{report['trials']} forgeries of {len(report['kinds'])} kinds at {len(report['stations'])} stations, seeds {seeds}; "
        f"detectors of version {report['code_version']}; at each budget they were asked for just that budget.{alike}",
        "",
        "![recall and false alarms](report.svg)",
        "",
        *goals(report),
        *_groups(report),
    ]
    for budget, ours in report["budgets"].items():
        lines += [*budget_lines(report, budget), *_seeds(ours), ""]
    return "\n".join([*lines, *_probe_lines(report), *_sets(report), *_tail(report)]) + "\n"


def goals(report: Mapping[str, Any]) -> list[str]:
    """Return the goals at 0.25 beside what these trials say."""
    if GOAL_BUDGET not in report["budgets"]:
        return []
    lines = ["## Goals at 0.25 false alarms a station-month", ""]
    names = ["all stations", *[name for name in report["groups"] if "stations" in name]]
    columns = [report["budgets"], *[report["groups"][name][OURS] for name in names[1:]]]
    lines += ["| goal | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for title, figure in _GOALS:
        lines.append(f"| {title} | " + " | ".join(figure(budgets[GOAL_BUDGET]) for budgets in columns) + " |")
    ratios = [
        "; ".join(f"{b}: {_n(t['realised_over_nominal'])}" for b, t in budgets.items()) for budgets in columns
    ]
    lines.append("| realised over nominal 0.7-1.3 at every budget | " + " | ".join(ratios) + " |")
    told = "Scalings where the model's R2 is 0.85 and more, and offsets before the second audit: `bench/goals.py`."
    return [*lines, "", told, ""]


def _rate(told: Mapping[str, Any]) -> str:
    return f"{_n(told['realised_rate'])} ({_n(told['realised_rate_lower95'])}-{_n(told['realised_rate_upper95'])})"


def _recall(told: Mapping[str, Any]) -> str:
    low, high = told["mean_recall_interval95"] or (None, None)
    return f"{_n(told['mean_recall'])} ({_n(low)}-{_n(high)})"


def _under(told: Mapping[str, Any]) -> str:
    low = {kind: share for kind, share in told["recall_by_kind"].items() if share < 0.8}
    return f"{len(low)} of {len(told['recall_by_kind'])}"


def _of_kinds(kinds: Sequence[str]) -> Callable[[Mapping[str, Any]], str]:
    def figure(told: Mapping[str, Any]) -> str:
        there = [kind for kind in kinds if kind in told["recall_by_kind"]]
        tried = sum(told["trials_by_kind"][kind] for kind in there)
        found = sum(round(told["recall_by_kind"][kind] * told["trials_by_kind"][kind]) for kind in there)
        low, high = wilson_interval(found, tried)
        return f"{_n(found / tried)} ({_n(low)}-{_n(high)}), {found} of {tried}" if tried else "-"

    return figure


def _delay(kinds: Sequence[str]) -> Callable[[Mapping[str, Any]], str]:
    def figure(told: Mapping[str, Any]) -> str:
        delays = [told["median_delay_h_by_kind"].get(kind) for kind in kinds]
        known = [delay for delay in delays if delay is not None]
        return f"{_n(min(known))}-{_n(max(known))}, middle {_n(float(np.median(known)))}" if known else "-"

    return figure


_GOALS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("realised rate at most 0.25, upper bound 0.35", _rate),
    ("no station above 0.5", lambda told: f"{_n(told['worst_station_rate'])} ({told['worst_station']})"),
    ("mean recall at least 0.95", _recall),
    ("no kind under 0.8: kinds that are", _under),
    (f"the easy kinds 0.995 ({', '.join(EASY)})", _of_kinds(EASY)),
    ("clip and bunch 0.95 (any number of exceedances)", _of_kinds(("clip", "bunch"))),
    ("forging only above the limit 0.85 (all strengths)", _of_kinds(("limit_aware_scale",))),
    ("offset with honest audit days 0.9 (all strengths)", _of_kinds(("offset_audited",))),
    ("median delay of freezes and copies at most 6 h, by kind", _delay(STILL)),
    ("median delay of scalings at most 72 h, by kind", _delay(SCALINGS)),
    ("attribution, first of one 0.8", lambda told: _n(told["attribution_top1"])),
    ("attribution, one of three 0.95", lambda told: _n(told["attribution_top3"])),
    ("at most 50 ms a station-hour", lambda told: _n(1000 * told["seconds_per_station_hour"])),
)


def _groups(report: Mapping[str, Any]) -> list[str]:
    lines = [
        "## False alarms on readings that nobody touched",
        "",
        "| | budget | months | events | rate (exact 95 %) | over budget | time spoken of | worst station | mean recall (95 %) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, told in {"all": {OURS: report["budgets"]}, **report["groups"]}.items():
        for budget, ours in told[OURS].items():
            lines.append(
                f"| {name} | {budget} | {_n(ours['station_months'])} | {ours['false_alarms']} | {_rate(ours)} "
                f"| {_n(ours['realised_over_nominal'])} | {_n(ours['alarmed_share'])} | {_n(ours['worst_station_rate'])} ({ours['worst_station']}) | {_recall(ours)} |"
            )
    return [*lines, ""]


def _seeds(ours: Mapping[str, Any]) -> list[str]:
    told = ours["by_seed"]
    lines = ["| | " + " | ".join(f"seed {seed}" for seed in told) + " |", "|---|" + "---|" * len(told)]
    for key in ("mean_recall", "attribution_top1", "attribution_top3"):
        lines.append(f"| {key} | " + " | ".join(_n(one[key]) for one in told.values()) + " |")
    for kind in ours["recall_by_kind"]:
        shares = " | ".join(_n(one["recall_by_kind"].get(kind)) for one in told.values())
        lines.append(f"| {kind} | {shares} |")
    return lines


def _probe_lines(report: Mapping[str, Any]) -> list[str]:
    budgets = list(report["budgets"])
    lines = [
        "## Beside the probe",
        "",
        "The probe's figures: detection per cent of its best single rule, its fused rules, those with PyOD, PyOD alone, at 1.0 promised and "
        "1.0 to 3.7 realised false alarms a station-month, on ten series of the same data, learned for two years. Ours, at stations with months "
        "of data: all strengths and lengths of the kind, and those nearest to the probe's own.",
        "",
        "![beside the probe](probe.svg)",
        "",
        "| the probe's forgery | ours | best rule | fused | with PyOD | PyOD | its delay, h | "
        + " | ".join(f"ours at {b}: all / nearest (n), delay h" for b in budgets)
        + " |",
        "|" + "---|" * (7 + len(budgets)),
    ]
    for line in report["probe"]:
        cells = [line["name"], f"{line['kind']}, {line['level']}, {line['duration']}"]
        cells[1] += f" ({line['note']})" if "note" in line else ""
        cells += [str(line[key]) for key in (*_PROBE, "delay_h")]
        lines.append(f"| {' | '.join([*cells, *(_beside(line[b]) for b in budgets)])} |")
    means = [str(round(float(np.mean([line[key] for line in report["probe"]])), 1)) for key in _PROBE]
    ours = [_mean_of(report["probe"], b) for b in budgets]
    return [*lines, f"| **mean** | | {' | '.join(means)} | | {' | '.join(ours)} |", ""]


def _beside(told: Mapping[str, Any]) -> str:
    every, near = told["all"], told["nearest"]
    return f"{_percent(every)} ({every['trials']}) / {_percent(near)} ({near['trials']}), {_n(every['median_delay_h'])}"


def _mean_of(lines: Sequence[Mapping[str, Any]], budget: str) -> str:
    shares = []
    for which in ("all", "nearest"):
        tried = [line[budget][which] for line in lines if line[budget][which]["trials"]]
        shares.append(_n(100 * float(np.mean([t["found"] / t["trials"] for t in tried])) if tried else None))
    return " / ".join(shares)


def _percent(told: Mapping[str, Any]) -> str:
    return f"{100 * told['found'] / told['trials']:.0f}" if told["trials"] else "-"


def _sets(report: Mapping[str, Any]) -> list[str]:
    groups = {
        name: told[OURS][GOAL_BUDGET] for name, told in report["groups"].items() if GOAL_BUDGET in told[OURS]
    }
    lines = [f"## Recall by kind at {GOAL_BUDGET}, by group and data set (trials)", ""]
    lines += ["| kind | " + " | ".join(groups) + " |", "|---|" + "---|" * len(groups)]
    for kind in report["kinds"]:
        cells = [
            f"{_n(told['recall_by_kind'].get(kind))} ({told['trials_by_kind'].get(kind, 0)})"
            for told in groups.values()
        ]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return [*lines, ""]


def _tail(report: Mapping[str, Any]) -> list[str]:
    lines = ["## What was not done, and the time it took", ""]
    lines += [f"- {stn} left out: {why}" for stn, why in report["stations_left_out"].items()]
    for name, reasons in report["not_made"].items():
        lines += [f"- {name}: {kind} not made everywhere: {why}" for kind, why in reasons.items()]
    lines += [f"- {name}: peers not run: {why}" for name, why in report["peers_not_run"].items()]
    lines += [
        f"- {name}: {wall:g} h, {used:g} h of processor" for name, (wall, used) in report["hours"].items()
    ]
    return lines


def draw_probe(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return an SVG: for each forgery of the probe its figures as marks, ours at the nearest strength as dots with intervals."""
    left, width, step, top = 330, 560, 30, 92
    bottom = top + step * len(lines)
    height = bottom + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="960" height="{height}" viewBox="0 0 960 {height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(20, 26, "Found of each forgery, beside the first probe on these data", INK, size=16),
        _text(
            20,
            46,
            "The probe promised 1 false alarm a station-month and raised 1.0 to 3.7. Ours: trials of the nearest strength and length, 95 % interval.",
            QUIET,
        ),
    ]
    at = 20
    for name, colour in [
        *((f"ours at {b}", c) for b, c in _OURS.items()),
        *((k.replace("_", " "), c) for k, c in _SHADES.items()),
    ]:
        parts += [f'<circle cx="{at + 5}" cy="64" r="5" fill="{colour}"/>', _text(at + 15, 68, name, INK)]
        at += 130
    for percent in (0, 25, 50, 75, 100):
        x = left + width * percent / 100
        parts += [f'<line x1="{x}" y1="{top - 6}" x2="{x}" y2="{bottom}" stroke="{LINE}"/>']
        parts.append(_text(x, bottom + 18, f"{percent} %", QUIET, "middle"))
    for row, line in enumerate(lines):
        y = top + step * row + 12
        parts.append(_text(left - 12, y + 4, line["name"], INK, "end"))
        for key, colour in _SHADES.items():
            x = left + width * line[key] / 100
            parts.append(f'<rect x="{x - 2:.1f}" y="{y - 8}" width="4" height="16" fill="{colour}"/>')
        for number, (budget, colour) in enumerate(_OURS.items()):
            near = line.get(budget, {}).get("nearest", {"trials": 0})
            if near["trials"]:
                parts += _dot(left, width, y - 4 + 8 * number, near, colour)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _dot(left: float, width: float, y: float, near: Mapping[str, Any], colour: str) -> list[str]:
    low, high = (left + width * share for share in near["interval95"])
    x = left + width * near["found"] / near["trials"]
    return [
        f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="{colour}" stroke-width="2"/>',
        f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{colour}"/>',
    ]


def _text(x: float, y: float, text: str, colour: str, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y}" fill="{colour}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'


def _n(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
