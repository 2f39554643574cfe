"""Write the score table of docs/detectors.md from reports of `stackwitness bench detect` or of `bench/show.py`.

python bench/score_table.py [report.json ...]     reports replace those of the same title in bench/scores.json; without
any the table is written again from what is kept there. Of the groups of a report of many data sets ours is shown, at 0.25.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refusal import Refusal, ended, read_json
from show_page import goals

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "bench" / "scores.json"
PAGE = ROOT / "docs" / "detectors.md"
BEGIN, END = "<!-- scores: written by bench/score_table.py -->", "<!-- end of scores -->"
OURS, SHOWN = "stackwitness", "0.25"
_FIGURES = (
    "realised_rate", "realised_rate_lower95", "realised_rate_upper95", "alarmed_share", "worst_station_rate", "station_months",
    "mean_recall", "mean_recall_interval95", "recall_by_kind", "attribution_top1", "attribution_top3",
    "seconds_per_station_hour",
)  # fmt: skip


def slim(report: dict[str, Any]) -> dict[str, Any]:
    """Keep the figures of the table, for each budget and contender."""
    contenders = {OURS: report["budgets"], **report["peers"]}
    return {
        "seeds": report["seeds"],
        "trials": report["trials"],
        "stations": len(report["stations"]),
        "scores": {name: _slim_budgets(budgets) for name, budgets in contenders.items()},
        "goals": [line for line in goals(report) if line.startswith("|")] if "groups" in report else [],
        "groups": {
            name: _slim_budgets({SHOWN: told[OURS][SHOWN]})
            for name, told in report.get("groups", {}).items()
            if SHOWN in told[OURS]
        },
    }


def _slim_budgets(budgets: dict[str, Any]) -> dict[str, Any]:
    return {budget: {key: told.get(key) for key in _FIGURES} for budget, told in budgets.items()}


def table(kept: dict[str, Any]) -> str:
    """Return the tables of all reports as Markdown: rates and recalls, then recall by kind at each set."""
    lines = [
        "| data | budget | | realised rate (95 %) | time spoken of | worst station | months | mean recall (95 %) | top-1 | top-3 | ms a station-hour |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for title, report in sorted(kept.items()):
        for name, budgets in report["scores"].items():
            lines += [_line(title, budget, name, told) for budget, told in budgets.items()]
    for groups in (report["groups"] for _, report in sorted(kept.items())):
        lines += [_line(group, SHOWN, OURS, told[SHOWN]) for group, told in groups.items()]
    for _, report in sorted(kept.items()):
        lines += ["", *report["goals"]]
    found = {title: report["scores"][OURS] for title, report in sorted(kept.items())}
    found |= {group: told for _, report in sorted(kept.items()) for group, told in report["groups"].items()}
    titles = [title for title, told in found.items() if SHOWN in told]
    ours = [dict(found[title][SHOWN]["recall_by_kind"]) for title in titles]
    lines += ["", f"Recall by kind at {SHOWN} findings a station-month:", ""]
    lines += ["| kind | " + " | ".join(titles) + " |", "|---|" + "---|" * len(titles)]
    for kind in sorted({kind for recalls in ours for kind in recalls}):
        lines.append(f"| {kind} | " + " | ".join(_n(recalls.get(kind)) for recalls in ours) + " |")
    return "\n".join(lines)


def placed(page: str, text: str) -> str:
    """Return the page with the text between its marks. Raises Refusal when they are not there, once each and in order."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(END) < page.index(BEGIN):
        raise Refusal(f"the page needs the marks {BEGIN} and {END}, once each")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def _line(title: str, budget: str, name: str, told: dict[str, Any]) -> str:
    low, high = told["mean_recall_interval95"] or (None, None)
    return (
        f"| {title} | {budget} | {name} | {_n(told['realised_rate'])} ({_n(told['realised_rate_lower95'])}-"
        f"{_n(told['realised_rate_upper95'])}) | {_n(told['alarmed_share'])} | {_n(told['worst_station_rate'])} | "
        f"{_n(told['station_months'])} | {_n(told['mean_recall'])} ({_n(low)}-{_n(high)}) | "
        f"{_n(told['attribution_top1'])} | {_n(told['attribution_top3'])} | "
        f"{_n(1000 * told['seconds_per_station_hour'])} |"
    )


def _n(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def take(paths: Sequence[Path], kept_file: Path, page_file: Path) -> None:
    """Take reports in, write scores and page; nothing is written when a report or the page is no such thing (Refusal)."""
    kept = read_json(kept_file) if kept_file.exists() else {}
    for path in paths:
        report = read_json(path)
        try:
            title = report["title"].split(":")[0] if "groups" in report else report["title"]
            kept[title] = slim(report)
        except (KeyError, TypeError, AttributeError) as wrong:
            raise Refusal(f"{path}: no report of the bench of detectors: {wrong}") from wrong
    page = placed(page_file.read_text(), table(kept))
    kept_file.write_text(json.dumps(kept, indent=1) + "\n")
    page_file.write_text(page)


def main(arguments: list[str]) -> None:
    """Take reports in, write scores and page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("reports", type=Path, nargs="*")
    take(parser.parse_args(arguments).reports, KEPT, PAGE)


if __name__ == "__main__":
    sys.exit(ended(main, sys.argv[1:]))
