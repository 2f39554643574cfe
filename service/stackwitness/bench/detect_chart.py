"""Draw a report: recall by kind as bars with intervals beside the peers, false alarms as dots with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

INK, QUIET, LINE = "#1f2933", "#6b7785", "#d9dee4"
OURS = "#5b9bd5"
# Told apart without red and green side by side (Okabe and Ito 2008).
PEERS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#8c6d31", "#999999")
LEFT, WIDTH, DOTS, RIGHT = 150, 430, 760, 300
BAR, THIN, GAP = 11, 4, 12


def draw(report: Mapping[str, Any]) -> str:
    """Return an SVG of the report at the budget nearest to 0.25."""
    budget = min(report["budgets"], key=lambda b: abs(math.log(float(b) / 0.25)))
    ours = report["budgets"][budget]
    peers = {name: told[budget] for name, told in report["peers"].items()}
    kinds = sorted(ours["recall_by_kind"], key=lambda k: -ours["recall_by_kind"][k])
    step = BAR + (THIN + 1) * len(peers) + GAP
    top = 84
    bottom = top + max(step * len(kinds), 34 * (len(peers) + 1))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="1100" height="{bottom + 60}" '
        f'viewBox="0 0 1100 {bottom + 60}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(20, 26, report["title"], 16, INK),
        _text(20, 46, _subtitle(report, budget), 12, QUIET),
        _text(LEFT, 72, "recall by kind of forgery, 95 % interval", 12, INK),
        _text(LEFT, bottom + 44, "pale: a peer that raises more false alarms than the budget", 11, QUIET),
        _text(DOTS, 72, "false alarms a station-month on untouched data, 95 % interval", 12, INK),
    ]
    parts += _recall_axis(top, top + step * len(kinds))
    for row, kind in enumerate(kinds):
        parts += _bars(kind, ours, peers, top + 4 + row * step, float(budget))
    parts += _alarms({"stackwitness": ours, **peers}, float(budget), top)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _subtitle(report: Mapping[str, Any], budget: str) -> str:
    told = (
        f"{report['trials']} forgeries, {len(report['stations'])} stations, {seeds_of(report)}, at {budget} false "
        "alarms a station-month"
    )
    return told if report["peers"] else told + "; peers not run"


def seeds_of(report: Mapping[str, Any]) -> str:
    """Word the seeds of a report."""
    seeds = report["seeds"]
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _recall_axis(top: int, bottom: int) -> list[str]:
    parts = []
    for percent in (0, 25, 50, 75, 100):
        x = LEFT + WIDTH * percent / 100
        parts.append(_line(x, top, x, bottom, LINE))
        parts.append(_text(x, bottom + 16, f"{percent} %", 11, QUIET, "middle"))
    return parts


def _bars(
    kind: str, ours: Mapping[str, Any], peers: Mapping[str, Mapping[str, Any]], y: int, nominal: float
) -> list[str]:
    low, high = ours["recall_by_kind_interval95"][kind]
    x = LEFT + WIDTH * ours["recall_by_kind"][kind]
    parts = [
        _text(LEFT - 8, y + 10, kind.replace("_", " "), 12, INK, "end"),
        f'<rect x="{LEFT}" y="{y}" width="{x - LEFT:.1f}" height="{BAR}" fill="{OURS}"/>',
        *_whisker(LEFT + WIDTH * low, LEFT + WIDTH * high, y + BAR / 2),
        _text(LEFT + WIDTH + 8, y + 10, f"{100 * ours['recall_by_kind'][kind]:.0f} %", 11, INK),
    ]
    for number, told in enumerate(peers.values()):
        width = WIDTH * told["recall_by_kind"].get(kind, 0.0)
        y_thin = y + BAR + 1 + number * (THIN + 1)
        shade = 0.35 if (told["realised_rate_lower95"] or 0.0) > nominal else 1
        parts.append(
            f'<rect x="{LEFT}" y="{y_thin}" width="{max(width, 1):.1f}" height="{THIN}" fill="{PEERS[number]}" '
            f'fill-opacity="{shade}"/>'
        )
    return parts


def _alarms(contenders: Mapping[str, Mapping[str, Any]], nominal: float, top: int) -> list[str]:
    highest = max(_finite(c["realised_rate_upper95"], 1.0) for c in contenders.values())
    end = 10.0 ** math.ceil(math.log10(max(highest, 1.0)))
    decades = round(math.log10(end)) + 2  # the axis begins at 0.01

    def place(rate: float) -> float:
        return DOTS + 110 + (RIGHT - 110) * min(max((math.log10(max(rate, 0.01)) + 2) / decades, 0), 1)

    bottom = top + 34 * len(contenders)
    parts = []
    for power in range(-2, decades - 1):
        parts.append(_line(place(10.0**power), top, place(10.0**power), bottom, LINE))
        parts.append(_text(place(10.0**power), bottom + 16, f"{10.0**power:g}", 11, QUIET, "middle"))
    parts.append(_line(place(nominal), top - 4, place(nominal), bottom, INK, "4 3"))
    parts.append(_text(place(nominal), bottom + 32, f"budget {nominal:g}", 11, INK, "middle"))
    for row, (name, told) in enumerate(contenders.items()):
        y, colour = top + 17 + 34 * row, OURS if row == 0 else PEERS[row - 1]
        rate = _finite(told["realised_rate"], 0.0)
        mean = _finite(told["mean_recall"], 0.0)
        parts += [
            _text(DOTS + 100, y + 1, name.replace("_", " "), 12, INK, "end"),
            _text(DOTS + 100, y + 14, f"mean recall {100 * mean:.0f} %", 10, QUIET, "end"),
            *_whisker(
                place(told["realised_rate_lower95"] or 0.0),
                place(_finite(told["realised_rate_upper95"], end)),
                y,
            ),
            f'<circle cx="{place(rate):.1f}" cy="{y}" r="5" fill="{colour}"/>',
        ]
    return parts


def _finite(value: float | None, other: float) -> float:
    return other if value is None or not math.isfinite(value) else value


def _whisker(x1: float, x2: float, y: float) -> list[str]:
    return [
        _line(x1, y, x2, y, INK),
        _line(x1, y - 3, x1, y + 3, INK),
        _line(x2, y - 3, x2, y + 3, INK),
    ]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashed}/>'


def _text(x: float, y: float, text: str, size: int, colour: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">{escape(text)}</text>'
