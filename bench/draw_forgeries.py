"""Draw every kind of forgery on a simulated coal unit: the truth grey, the report red, the limit dashed.

python bench/draw_forgeries.py > docs/pictures/forgeries.svg
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
from detect_simulated import DAY_MS, START_MS, frame_of

from stackwitness_client.simulator import PROVINCE
from stackwitness_detectors import Context, Frame
from stackwitness_detectors.forge import KINDS, Forgery, Surroundings, forge, hidden_mass

COLUMNS, WIDE, HIGH, PAD = 5, 230, 120, 14
HEAD = 34
FROM_MS, TO_MS = START_MS - 9 * DAY_MS, START_MS - 3 * DAY_MS
SEEN = (START_MS - 11 * DAY_MS, START_MS - 2 * DAY_MS)
TRUTH, REPORT, SHADE, INK = "#8a8f98", "#c8102e", "#fbeeee", "#20242a"
CHANNEL = "so2"


def station(number: int) -> tuple[Context, Frame]:
    """Simulate 40 days of hours; its limit becomes what two fifths of the readings exceed, so that it matters."""
    context, frame = frame_of(PROVINCE[number], 40, 3600, honest=True)
    values = frame.values[CHANNEL][frame.status[CHANNEL] == ord("N")]
    limit = float(np.round(np.nanquantile(values, 0.6), 1))
    channels = tuple(replace(c, limit=limit) if c.name == CHANNEL else c for c in context.channels)
    return replace(context, channels=channels), frame


def line(times: np.ndarray, values: np.ndarray, low: float, high: float) -> str:
    """Give the path of a series in its panel, broken where nothing is reported."""
    x = PAD + (times - SEEN[0]) / (SEEN[1] - SEEN[0]) * (WIDE - 2 * PAD)
    y = HEAD + (1.0 - (values - low) / (high - low)) * (HIGH - HEAD - 8)
    path, pen = [], "M"
    for px, py in zip(x.tolist(), y.tolist(), strict=True):
        if py != py:
            pen = "M"
            continue
        path.append(f"{pen}{px:.1f} {py:.1f}")
        pen = "L"
    return "".join(path)


def panel(place: int, forgery: Forgery, context: Context, frame: Frame, around: Surroundings) -> str:
    """Draw one kind at its third level."""
    forged = forge(forgery.kind, frame, context, CHANNEL, FROM_MS, TO_MS, "strong", 4, around)
    weight = hidden_mass(frame, forged, context, FROM_MS, TO_MS)[CHANNEL]
    name = "o2" if forgery.kind == "o2_low" else CHANNEL
    rows = (frame.at_ms >= SEEN[0]) & (frame.at_ms < SEEN[1])
    times = frame.at_ms[rows]
    truth, report = (
        np.where(f.status[name][rows] == ord("N"), f.values[name][rows], np.nan) for f in (frame, forged)
    )
    low, high = min(0.0, float(np.nanmin(report))), float(np.nanmax(truth)) * 1.05
    if name == "o2" or forgery.family in ("freeze", "copy", "dynamics"):
        low = 0.7 * float(min(np.nanmin(truth), np.nanmin(report)))
    high = max(high, float(np.nanmax(report)) * 1.02)
    left, top = (place % COLUMNS) * WIDE, 46 + place // COLUMNS * HIGH
    begin, end = ((at - SEEN[0]) / (SEEN[1] - SEEN[0]) * (WIDE - 2 * PAD) + PAD for at in (FROM_MS, TO_MS))
    gone = (frame.status[name][rows] == ord("N")) & (forged.status[name][rows] != ord("N"))
    marks = "".join(
        f'<rect x="{PAD + (t - SEEN[0]) / (SEEN[1] - SEEN[0]) * (WIDE - 2 * PAD):.1f}" y="{HIGH - 7}" width="1.2" height="5" fill="{REPORT}"/>'
        for t in times[gone].tolist()
    )
    limit = next(c.limit for c in context.channels if c.name == CHANNEL)
    y = HEAD + (1.0 - (limit - low) / (high - low)) * (HIGH - HEAD - 8) if name == CHANNEL and limit else 0.0
    dashes = (
        f'<path d="M{PAD} {y:.1f}H{WIDE - PAD}" stroke="{INK}" stroke-width=".7" stroke-dasharray="4 3"/>'
    )
    told = f"{weight.percent:.0f} % hidden" if forgery.lowers_mass else f"hides the {forgery.hides}"
    return (
        f'<g transform="translate({left} {top})">'
        f'<rect x="{begin:.1f}" y="{HEAD - 4}" width="{end - begin:.1f}" height="{HIGH - HEAD}" fill="{SHADE}"/>'
        f'<text x="{PAD}" y="16" font-size="12" font-weight="600">{forgery.kind}</text>'
        f'<text x="{PAD}" y="27" font-size="9" fill="{TRUTH}">{forgery.family} · {told}</text>'
        f"{dashes if y else ''}"
        f'<path d="{line(times, truth, low, high)}" fill="none" stroke="{TRUTH}" stroke-width="1"/>'
        f'<path d="{line(times, report, low, high)}" fill="none" stroke="{REPORT}" stroke-width="1.1"/>'
        f"{marks}</g>"
    )


def sheet() -> str:
    """Draw all kinds."""
    context, frame = station(0)
    around = Surroundings((station(1),), ((FROM_MS + 2 * DAY_MS, FROM_MS + 3 * DAY_MS),))
    panels = [panel(i, forgery, context, frame, around) for i, forgery in enumerate(KINDS.values())]
    height = 46 + -(-len(panels) // COLUMNS) * HIGH + PAD
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {COLUMNS * WIDE} {height}" font-family="sans-serif" fill="{INK}">'
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{PAD}" y="20" font-size="14" font-weight="600">Forged SO2 of a simulated coal unit, six days, level "strong"</text>'
        f'<text x="{PAD}" y="35" font-size="10" fill="{TRUTH}">grey: the truth · red: the report · ticks below: readings lost or '
        f"relabelled · dashed: the limit (o2_low shows the oxygen)</text>{''.join(panels)}</svg>\n"
    )


if __name__ == "__main__":
    sys.stdout.write(sheet())
