"""Small pictures: sparklines, the map-like plot of stations, the station's small multiples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from stackwitness.console.charts.canvas import Canvas, px, runs_of, thin
from stackwitness.console.charts.panels import (
    Span,
    draw_guides,
    draw_limit,
    draw_marks,
    draw_series,
    draw_time_axis,
    open_panel,
    shade,
)
from stackwitness.console.charts.scale import Scale, extent


@dataclass(frozen=True)
class Place:
    """A station on the map: where it is, its page, and the tone of its gravest open flag ("quiet": none)."""

    stn: str
    name: str
    lat: float
    lon: float
    tone: str
    href: str


@dataclass(frozen=True)
class Trace:
    """One channel over the chosen time; `statuses` holds one letter per point."""

    channel: str
    unit: str
    at_ms: Sequence[int]
    values: Sequence[float | None]
    statuses: Sequence[str]
    limit: float | None


def draw_sparkline(
    at_ms: Sequence[int], values: Sequence[float | None], limit: float | None, title: str
) -> Markup:
    """Draw a line of a few days against its limit, without axes (220 x 44)."""
    canvas = Canvas(220, 44, title, "spark")
    times, kept = thin(at_ms, values, 220)
    hi = extent(kept, [] if limit is None else [limit])[1]
    lo = min([v for v in kept if v is not None] + [0.0])
    y = Scale(lo, hi or 1.0, 41, 3)
    if limit is not None:
        canvas.line(0, y(limit), 220, y(limit), "limit")
    if times:
        canvas.polyline(
            runs_of(times, kept, Scale(times[0], max(times[-1], times[0] + 1), 2, 214), y), "reported"
        )
        last = next(
            ((t, v) for t, v in zip(reversed(times), reversed(kept), strict=True) if v is not None), None
        )
        if last is not None:
            canvas.circle(
                2 + (last[0] - times[0]) / max(times[-1] - times[0], 1) * 212, y(last[1] or 0.0), 2.5, "now"
            )
    return canvas.markup()


def draw_map(places: Sequence[Place], title: str) -> Markup:
    """Plot stations by their coordinates (equirectangular, true at the middle latitude), each a link."""
    width, height, margin = 420.0, 300.0, 34.0
    canvas = Canvas(width, height, title, "map")
    canvas.rect(0.5, 0.5, width - 1, height - 1, "sea")
    if not places:
        return canvas.markup()
    middle = sum(p.lat for p in places) / len(places)
    squeeze = max(math.cos(math.radians(middle)), 0.1)
    xs, ys = [p.lon * squeeze for p in places], [p.lat for p in places]
    span = max((max(xs) - min(xs)) / (width - 2 * margin), (max(ys) - min(ys)) / (height - 2 * margin), 1e-4)
    mid_x, mid_y = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    for i in range(1, 6):
        canvas.line(width * i / 6, 0, width * i / 6, height, "graticule")
    for i in range(1, 4):
        canvas.line(0, height * i / 4, width, height * i / 4, "graticule")
    spots = [
        (width / 2 + (x - mid_x) / span, height / 2 - (y - mid_y) / span, p)
        for x, y, p in zip(xs, ys, places, strict=True)
    ]
    drop = _lowered_labels([(x, y) for x, y, _ in spots])
    for (x, y, place), lower in zip(spots, drop, strict=True):
        end = x > width * 0.62
        label_x = x - 11 if end else x + 11
        canvas.raw(
            f'<a href="{escape(place.href)}" class="place tone-{place.tone}">'
            f"<title>{escape(place.name)}</title>"
            f'<circle cx="{px(x)}" cy="{px(y)}" r="7"/>'
            f'<text x="{px(label_x)}" y="{px(y + lower)}" text-anchor="{"end" if end else "start"}">'
            f"{escape(place.stn)}</text></a>"
        )
    return canvas.markup()


def _lowered_labels(spots: Sequence[tuple[float, float]]) -> list[float]:
    """Return a vertical shift per label so that close stations do not write over each other."""
    shifts: list[float] = []
    written: list[tuple[float, float]] = []
    for x, y in spots:
        shift = 4.0
        while any(abs(x - x2) < 110 and abs(y + shift - y2) < 13 for x2, y2 in written) and shift < 60:
            shift += 13
        written.append((x, y + shift))
        shifts.append(shift)
    return shifts


def draw_trace(
    trace: Trace,
    span: Span,
    step_ms: int,
    flagged: Sequence[tuple[int, int, str]],
    say: Callable[[str], str],
    height: float = 120,
) -> Markup:
    """Draw one channel with limit, status stripe and flagged intervals (from_ms, to_ms, tooltip)."""
    canvas = Canvas(920, height + 55, f"{trace.channel} ({trace.unit})", "trace")
    lo, hi = extent(trace.values)
    if trace.limit is not None and trace.limit < 3 * hi:
        lo, hi = extent(trace.values, [trace.limit])
    panel = open_panel(canvas, span, (lo, hi), 29, height, f"{trace.channel} · {trace.unit}")
    for from_ms, to_ms, tip in flagged:
        shade(panel, from_ms, to_ms, tip=tip)
    draw_guides(panel, span)
    draw_series(panel, trace.at_ms, trace.values, "reported")
    if trace.limit is not None:
        draw_limit(panel, trace.limit, say("limit"))
    draw_marks(panel, trace.at_ms, trace.statuses, step_ms)
    draw_time_axis(panel, span)
    return canvas.markup()
