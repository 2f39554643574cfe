"""Draw the evidence of one finding: what was reported, what it should have moved with, why that is odd."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from markupsafe import Markup

from stackwitness.console.charts.canvas import Canvas, runs_of
from stackwitness.console.charts.panels import (
    LEFT,
    RIGHT,
    Panel,
    Span,
    draw_band,
    draw_gaps,
    draw_guides,
    draw_limit,
    draw_series,
    draw_time_axis,
    label_below,
    open_panel,
    shade,
)
from stackwitness.console.charts.scale import DAY_MS, HOUR_MS, Scale, extent, tick_label, value_ticks
from stackwitness.console.charts.spec import PlotSpec, Series

WIDTH = 920.0
MAIN_PX, CONTEXT_PX, BARS_PX = 210.0, 96.0, 220.0
TOP_PX, GAP_PX, FOOT_PX = 29.0, 30.0, 26.0
MOST_CONTEXT = 4
MOST_DOUBT = 1.6
_SIGNS = {"Cel": "°C"}


class Says(Protocol):
    """A language: say() translates a message of ours, pick() chooses between two texts of a finding."""

    def say(self, text: str) -> str:
        """Translate."""
        ...

    def pick(self, en: str, zh: str) -> str:
        """Choose."""
        ...


def draw_evidence(
    spec: PlotSpec, channels: Sequence[str], t: Says, utc_offset_min: int, title: str
) -> list[Markup]:
    """Return the pictures of a finding, most telling first.

    `channels` are those the finding accuses; `t` speaks; times are written on the station's clock.
    """
    pictures: list[Markup] = []
    if spec.series:
        pictures.append(_draw_timeline(spec, channels, t, utc_offset_min, title))
    if spec.match is not None and spec.match.t and spec.series:
        pictures.append(_draw_overlay(spec, channels, t))
    if spec.histogram is not None and spec.histogram.counts:
        bars = _draw_histogram(spec, t, title)
        # Where the finding is about a distribution, the distribution comes first.
        pictures.insert(0 if spec.kind in ("digits", "density") else len(pictures), bars)
    return pictures


def _caption(series: Series) -> str:
    unit = _SIGNS.get(series.unit, series.unit)
    return f"{series.channel} · {unit}" if unit not in ("", "1") else series.channel


def _split(spec: PlotSpec, channels: Sequence[str]) -> tuple[list[Series], list[Series]]:
    accused = [s for s in spec.series if s.channel in channels] or list(spec.series[:1])
    context = [s for s in spec.series if s not in accused]
    context.sort(key=lambda s: s.role != "load")
    return accused[:MOST_CONTEXT], context[:MOST_CONTEXT]


def _draw_timeline(
    spec: PlotSpec, channels: Sequence[str], t: Says, utc_offset_min: int, title: str
) -> Markup:
    accused, context = _split(spec, channels)
    # The span of what is drawn: a long interval may be shown by its newest part only.
    times = [t for s in (*accused, *context) for t in (s.t[:1] + s.t[-1:])] or list(spec.interval)
    span = Span(min(times), max(times), utc_offset_min)
    heights = [MAIN_PX if len(accused) <= 2 else 130.0] * len(accused) + [CONTEXT_PX] * len(context)
    canvas = Canvas(WIDTH, TOP_PX + sum(heights) + GAP_PX * (len(heights) - 1) + FOOT_PX, title, "evidence")
    top = TOP_PX
    for i, (series, height) in enumerate(zip((*accused, *context), heights, strict=True)):
        main = i == 0
        panel = open_panel(canvas, span, _domain(spec, series, main), top, height, _caption(series))
        shade(panel, *spec.interval, tip=t.say("flagged interval"))
        draw_guides(panel, span)
        if main and spec.band is not None:
            _draw_model(panel, spec)
        accusing = i < len(accused)
        if main:
            _draw_earlier(panel, spec, series)
        draw_series(panel, series.t, series.v, "reported" if accusing else "context")
        if accusing:
            _mark_interval(panel, spec, series)
            draw_gaps(
                panel,
                series.t,
                series.v,
                t.say("no value"),
                spec.interval if spec.kind == "missing" else None,
            )
            _draw_marks(panel, spec, series)
        if main and spec.limit is not None:
            draw_limit(panel, spec.limit, t.say("limit"))
        top += height + GAP_PX
    draw_time_axis(panel, span)
    return canvas.markup()


def _domain(spec: PlotSpec, series: Series, main: bool) -> tuple[float, float]:
    include: list[float] = []
    if main and spec.band is not None:
        # What the model expects belongs on the axis, its doubt only as far as it does not flatten the readings.
        include += [v for v in spec.band.mid if v is not None]
        most = MOST_DOUBT * max([abs(v) for v in (*series.v, *include) if v is not None], default=0.0)
        include += [v for v in (*spec.band.lo, *spec.band.hi) if v is not None and abs(v) <= most]
    lo, hi = extent(series.v, include)
    # A limit far above all readings would flatten them: shown in the sentence, not on the axis.
    if main and spec.limit is not None and spec.limit < 2.2 * hi:
        lo, hi = extent(series.v, [*include, spec.limit])
    return lo, hi


def _draw_model(panel: Panel, spec: PlotSpec) -> None:
    if spec.band is not None:
        draw_band(panel, spec.band.t, spec.band.lo, spec.band.hi)
        draw_series(panel, spec.band.t, spec.band.mid, "expected")


def _mark_interval(panel: Panel, spec: PlotSpec, series: Series) -> None:
    inside = [
        (t, v) for t, v in zip(series.t, series.v, strict=True) if spec.interval[0] <= t <= spec.interval[1]
    ]
    draw_series(panel, [t for t, _ in inside], [v for _, v in inside], f"suspect suspect-{spec.kind}")


def _draw_earlier(panel: Panel, spec: PlotSpec, series: Series) -> None:
    """Lay the earlier segment where it comes back, under the line that repeats it."""
    match = spec.match
    if match is not None and match.lag_ms is not None:
        draw_series(panel, [at + match.lag_ms for at in match.t], match.v, "earlier")


def _draw_marks(panel: Panel, spec: PlotSpec, series: Series) -> None:
    """Put a dot on each reading that is named."""
    if not spec.marks or not series.t:
        return
    for at_ms in spec.marks:
        place = min(bisect_left(series.t, at_ms), len(series.t) - 1)
        value = series.v[place]
        if panel.x.lo <= at_ms <= panel.x.hi:
            # A value that was marked away is not drawn: its hour is marked at the top.
            y = panel.top + 5 if value is None else panel.y(value)
            panel.canvas.circle(panel.x(at_ms), y, 3, "odd")


def _draw_overlay(spec: PlotSpec, channels: Sequence[str], t: Says) -> Markup:
    """Lay the earlier segment over the flagged one, both by hours since their own start."""
    match = spec.match
    assert match is not None
    series = _split(spec, channels)[0][0]
    start, end = spec.interval
    flagged = [(t - start, v) for t, v in zip(series.t, series.v, strict=True) if start <= t <= end]
    back_ms = start - match.t[0] if match.lag_ms is None else match.lag_ms
    earlier = [(t + back_ms - start, v) for t, v in zip(match.t, match.v, strict=False)]
    first, length = 0, max([t for t, _ in flagged] + [t for t, _ in earlier] + [1])
    piece = earlier[-1][0] - earlier[0][0]
    if 2 * piece < length:
        # One piece of many: the hours around it, or nobody sees it.
        pad = max(min(2 * piece, DAY_MS), 3 * HOUR_MS)
        first, length = max(0, earlier[0][0] - pad), min(length, earlier[-1][0] + pad)
        near = [(t, v) for t, v in flagged if first <= t <= length]
        whole = [(t - start, v) for t, v in zip(match.now_t, match.now_v, strict=False)]
        flagged = sorted({*near, *whole}, key=lambda point: point[0])
    of = t.pick(match.of_en, match.of_zh)
    title = t.say("The flagged stretch over %(of)s") % {"of": of or t.say("the earlier one")}
    canvas = Canvas(WIDTH, TOP_PX + 170 + FOOT_PX, title, "evidence")
    domain = extent([v for _, v in (*flagged, *earlier)])
    words = t.say("laid over %(of)s, by hours")
    caption = f"{_caption(series)} · {words % {'of': of or t.say('the earlier one')}}"
    panel = open_panel(canvas, Span(first, length), domain, TOP_PX, 170, caption)
    for hours in value_ticks(first / HOUR_MS, length / HOUR_MS, 8):
        x = panel.x(hours * HOUR_MS)
        canvas.line(x, panel.top, x, panel.bottom, "guide")
        label_below(canvas, x, panel.bottom, f"{tick_label(hours)} h")
    css = ("earlier", "suspect")
    for points, name in zip((earlier, flagged), css, strict=True):
        runs = runs_of([t for t, _ in points], [v for _, v in points], panel.x, panel.y)
        canvas.polyline(runs, name)
    return canvas.markup()


def _draw_histogram(spec: PlotSpec, t: Says, title: str) -> Markup:
    histogram = spec.histogram
    assert histogram is not None
    counts, whole = histogram.counts, sum(histogram.reference)
    # As many as were counted, spread as before: two heights that one may compare.
    scale = sum(counts) / whole if whole > 0 and sum(counts) > 0 else 1.0
    reference = [number * scale for number in histogram.reference]
    edges = (
        histogram.edges
        if len(histogram.edges) == len(counts) + 1
        else [float(i) for i in range(len(counts) + 1)]
    )
    canvas = Canvas(WIDTH, TOP_PX + BARS_PX + FOOT_PX, title, "evidence")
    x = Scale(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    top = TOP_PX
    y = Scale(0, max([*counts, *reference, 1e-12]) * 1.08, top + BARS_PX, top)
    canvas.rect(LEFT, top, WIDTH - RIGHT - LEFT, BARS_PX, "ground")
    for value in value_ticks(0, y.hi):
        canvas.line(LEFT, y(value), WIDTH - RIGHT, y(value), "grid")
        canvas.text(LEFT - 6, y(value) + 4, tick_label(value), "tick", "end")
    for i, count in enumerate(counts):
        left, right = x(edges[i]), x(edges[i + 1])
        canvas.rect(
            left + 1, y(count), right - left - 2 if right - left > 4 else right - left, y(0) - y(count), "bar"
        )
    if len(reference) == len(counts):
        steps = [(x(e), y(reference[min(i, len(counts) - 1)])) for i, e in enumerate(edges)]
        stair = [p for (x1, y1), (x2, _) in pairwise(steps) for p in ((x1, y1), (x2, y1))]
        canvas.polyline([stair], "reference")
    _label_bins(canvas, x, edges, top + BARS_PX)
    if histogram.mark is not None and edges[0] <= histogram.mark <= edges[-1]:
        at = x(histogram.mark)
        end = at > WIDTH * 0.7
        canvas.line(at, top, at, top + BARS_PX, "statistic")
        here = t.say("limit") if histogram.mark == spec.limit else t.say("here")
        label = f"{here}: {tick_label(float(f'{histogram.mark:.4g}'))}"
        canvas.text(at - 6 if end else at + 6, top + 14, label, "statistic-label", "end" if end else "start")
    canvas.text(LEFT, top - 7, t.pick(histogram.label_en, histogram.label_zh), "caption")
    return canvas.markup()


def _label_bins(canvas: Canvas, x: Scale, edges: Sequence[float], bottom: float) -> None:
    unit_bins = len(edges) <= 21 and all(abs(b - a - 1) < 1e-9 for a, b in pairwise(edges))
    if unit_bins:
        # Bins of width one are digits or classes: name the bin, not its edge.
        for edge in edges[:-1]:
            label_below(canvas, x(edge + 0.5), bottom, tick_label(round(edge + 0.5 - 1e-9)))
        return
    for value in value_ticks(edges[0], edges[-1], 8):
        label_below(canvas, x(value), bottom, tick_label(value))
