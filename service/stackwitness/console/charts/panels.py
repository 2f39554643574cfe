"""Panels: one value axis over a shared time axis, with grid, shading, limit and lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stackwitness.console.charts.canvas import Canvas, runs_of, thin
from stackwitness.console.charts.scale import Scale, tick_label, time_ticks, value_ticks

LEFT = 62.0
RIGHT = 12.0
BELOW_PX = 19.0  # room for the large digits of small screens
NEAR_PX = 24.0
MOST_POINTS = 900
STATUS_CLASSES = frozenset("FMSDCTBHRX")


@dataclass(frozen=True)
class Span:
    """The time a picture covers and the station's clock."""

    from_ms: int
    to_ms: int
    utc_offset_min: int = 0


@dataclass(frozen=True)
class Panel:
    """One value axis at a height of the picture, with the picture's time axis."""

    canvas: Canvas
    x: Scale
    y: Scale
    top: float
    height: float

    @property
    def bottom(self) -> float:
        """Return the lower edge in pixels."""
        return self.top + self.height


def open_panel(
    canvas: Canvas, span: Span, domain: tuple[float, float], top: float, height: float, caption: str
) -> Panel:
    """Draw the frame, the value grid and the caption of a panel."""
    right = canvas.width - RIGHT
    panel = Panel(
        canvas,
        Scale(span.from_ms, span.to_ms, LEFT, right),
        Scale(domain[0], domain[1], top + height, top),
        top,
        height,
    )
    canvas.rect(LEFT, top, right - LEFT, height, "ground")
    for value in _grid_values(domain, height):
        y = panel.y(value)
        canvas.line(LEFT, y, right, y, "grid")
        canvas.text(LEFT - 6, y + 4, tick_label(value), "tick", "end")
    canvas.text(LEFT, top - 7, caption, "caption")
    return panel


def _grid_values(domain: tuple[float, float], height: float) -> list[float]:
    """Choose the values of a panel's grid: two or three in a low one, for one alone is no scale."""
    few = value_ticks(*domain, count=4 if height > 140 else 2)
    many = value_ticks(*domain)
    return few if len(few) > 1 or len(many) < 2 else [many[0], many[-1]]


def draw_guides(panel: Panel, span: Span) -> None:
    """Draw light lines at the ticks of the time axis; before what is measured, or they would cut it."""
    for tick in time_ticks(span.from_ms, span.to_ms, span.utc_offset_min):
        x = panel.x(tick.at_ms)
        panel.canvas.line(x, panel.top, x, panel.bottom, "guide strong" if tick.strong else "guide")


def draw_time_axis(panel: Panel, span: Span) -> None:
    """Write local times under the panel."""
    for tick in time_ticks(span.from_ms, span.to_ms, span.utc_offset_min):
        label_below(panel.canvas, panel.x(tick.at_ms), panel.bottom, tick.label, tick.strong)


def label_below(canvas: Canvas, x: float, bottom: float, label: str, strong: bool = False) -> None:
    """Write a tick's label under an axis; near either end beside the tick, so that it is neither cut nor on the corner."""
    anchor = "start" if x < LEFT + NEAR_PX else "end" if x > canvas.width - RIGHT - NEAR_PX else "middle"
    canvas.text(x, bottom + BELOW_PX, label, "tick strong" if strong else "tick", anchor)


def shade(panel: Panel, from_ms: float, to_ms: float, css: str = "flagged", tip: str = "") -> None:
    """Shade an interval, at least two pixels wide so that a short one is seen."""
    x1 = max(panel.x(from_ms), panel.x.start_px)
    x2 = min(panel.x(to_ms), panel.x.end_px)
    if x2 >= panel.x.start_px and x1 <= panel.x.end_px:
        panel.canvas.rect(x1, panel.top, max(x2 - x1, 2.0), panel.height, css, tip)


def draw_series(panel: Panel, at_ms: Sequence[int], values: Sequence[float | None], css: str) -> None:
    """Draw a series; missing values break the line."""
    times, kept = thin(at_ms, values, MOST_POINTS)
    panel.canvas.polyline(runs_of(times, kept, panel.x, panel.y), css)


def draw_band(
    panel: Panel,
    at_ms: Sequence[int],
    lo: Sequence[float | None],
    hi: Sequence[float | None],
    css: str = "band",
) -> None:
    """Fill the range a model expects; broken where the model has no opinion."""
    upper: list[tuple[float, float]] = []
    lower: list[tuple[float, float]] = []
    for at, low, high in zip(at_ms, lo, hi, strict=False):
        if low is None or high is None:
            panel.canvas.area(upper, lower, css)
            upper, lower = [], []
            continue
        upper.append((panel.x(at), max(panel.y(high), panel.top)))
        lower.append((panel.x(at), min(panel.y(low), panel.bottom)))
    panel.canvas.area(upper, lower, css)


def draw_limit(panel: Panel, limit: float, word: str) -> None:
    """Draw the legal limit as a dashed line with its value, when it lies inside the axis."""
    if not panel.y.lo <= limit <= panel.y.hi:
        return
    y = panel.y(limit)
    panel.canvas.line(panel.x.start_px, y, panel.x.end_px, y, "limit")
    panel.canvas.text(panel.x.end_px - 4, y - 4, f"{word} {limit:.10g}", "limit-label", "end")


def draw_gaps(
    panel: Panel,
    at_ms: Sequence[int],
    values: Sequence[float | None],
    tip: str,
    told: tuple[int, int] | None = None,
) -> None:
    """Mark the times without a value along the foot of the panel; those within `told` over its whole height."""
    start: int | None = None
    for at, value in zip(at_ms, values, strict=True):
        if value is None:
            start = at if start is None else start
        elif start is not None:
            _draw_gap(panel, start, at, tip, told)
            start = None
    if start is not None:
        _draw_gap(panel, start, at_ms[-1], tip, told)


def _draw_gap(panel: Panel, from_ms: int, to_ms: int, tip: str, told: tuple[int, int] | None) -> None:
    x = panel.x(from_ms)
    if told is not None and told[0] <= from_ms <= told[1]:
        panel.canvas.rect(x, panel.top, max(panel.x(to_ms) - x, 1.5), panel.height, "lost", tip)
    panel.canvas.rect(x, panel.bottom - 6, max(panel.x(to_ms) - x, 1.5), 6, "gap", tip)


def draw_marks(panel: Panel, at_ms: Sequence[int], marks: Sequence[str], step_ms: int) -> None:
    """Draw a stripe of status letters other than N along the foot; neighbours of one letter merge."""
    start = 0
    for i in range(1, len(marks) + 1):
        if i < len(marks) and marks[i] == marks[start] and at_ms[i] - at_ms[i - 1] <= 2 * step_ms:
            continue
        letter = marks[start]
        if letter != "N" and letter in STATUS_CLASSES:
            x = panel.x(at_ms[start])
            width = max(panel.x(at_ms[i - 1] + step_ms) - x, 1.5)
            panel.canvas.rect(x, panel.bottom - 5, width, 5, f"status status-{letter}", letter)
        start = i
