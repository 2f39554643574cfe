"""Collect SVG elements; every text is escaped, every look comes from a CSS class."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from stackwitness.console.charts.scale import Scale

Point = tuple[float, float]


def px(value: float) -> str:
    """Format a pixel coordinate with at most one decimal."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


class Canvas:
    """Gather elements of one picture, then return it as safe markup."""

    def __init__(self, width: float, height: float, title: str, css: str = "", description: str = "") -> None:
        self.width = width
        self.height = height
        self._title = title
        self._description = description
        self._css = css
        self._parts: list[str] = []

    def raw(self, markup: str) -> None:
        """Add markup that this package built itself."""
        self._parts.append(markup)

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """Draw a straight line."""
        self.raw(f'<line x1="{px(x1)}" y1="{px(y1)}" x2="{px(x2)}" y2="{px(y2)}" class="{css}"/>')

    def rect(self, x: float, y: float, width: float, height: float, css: str, tip: str = "") -> None:
        """Draw a rectangle, with an optional tooltip."""
        box = (
            f'x="{px(x)}" y="{px(y)}" width="{px(max(width, 0))}" height="{px(max(height, 0))}" class="{css}"'
        )
        self.raw(f"<rect {box}><title>{escape(tip)}</title></rect>" if tip else f"<rect {box}/>")

    def circle(self, x: float, y: float, radius: float, css: str) -> None:
        """Draw a dot."""
        self.raw(f'<circle cx="{px(x)}" cy="{px(y)}" r="{px(radius)}" class="{css}"/>')

    def text(self, x: float, y: float, text: str, css: str, anchor: str = "start") -> None:
        """Write escaped text; anchor is start, middle or end."""
        self.raw(f'<text x="{px(x)}" y="{px(y)}" text-anchor="{anchor}" class="{css}">{escape(text)}</text>')

    def polyline(self, runs: Sequence[Sequence[Point]], css: str) -> None:
        """Draw runs of points as one path; a run of one point becomes a short dash, so it is not lost."""
        pieces = []
        for run in runs:
            if len(run) == 1:
                x, y = run[0]
                pieces.append(f"M{px(x - 0.7)} {px(y)}h1.4")
            else:
                pieces.append("M" + "L".join(f"{px(x)} {px(y)}" for x, y in run))
        if pieces:
            self.raw(f'<path d="{"".join(pieces)}" class="{css}"/>')

    def area(self, upper: Sequence[Point], lower: Sequence[Point], css: str) -> None:
        """Fill between two lines of equal direction."""
        if upper and lower:
            ring = [*upper, *reversed(lower)]
            self.raw(f'<path d="M{"L".join(f"{px(x)} {px(y)}" for x, y in ring)}Z" class="{css}"/>')

    def markup(self) -> Markup:
        """Return the finished <svg>, labelled for screen readers."""
        described = f"<desc>{escape(self._description)}</desc>" if self._description else ""
        return Markup(
            f'<svg viewBox="0 0 {px(self.width)} {px(self.height)}" role="img" class="chart {self._css}" '
            f'xmlns="http://www.w3.org/2000/svg"><title>{escape(self._title)}</title>{described}'
            f"{''.join(self._parts)}</svg>"
        )


def runs_of(
    at_ms: Sequence[int], values: Sequence[float | None], x: Scale, y: Scale, gap_ms: float = float("inf")
) -> list[list[Point]]:
    """Split a series into runs without missing values or gaps longer than gap_ms, in pixels."""
    runs: list[list[Point]] = []
    run: list[Point] = []
    last_ms = None
    for at, value in zip(at_ms, values, strict=True):
        if value is None or (last_ms is not None and at - last_ms > gap_ms):
            if run:
                runs.append(run)
            run = []
        if value is not None:
            run.append((x(at), y(value)))
        last_ms = at
    if run:
        runs.append(run)
    return runs


def thin(
    at_ms: Sequence[int], values: Sequence[float | None], most: int
) -> tuple[list[int], list[float | None]]:
    """Keep the lowest and highest value of each stretch, so that peaks survive a drawing of `most` points."""
    if len(at_ms) <= most:
        return list(at_ms), list(values)
    stride = -(-len(at_ms) // (most // 2))
    kept: list[int] = []
    for start in range(0, len(at_ms), stride):
        stretch = range(start, min(start + stride, len(at_ms)))
        real = [(values[i], i) for i in stretch if values[i] is not None]
        if real:
            kept += sorted({min(real)[1], max(real)[1]})
        if len(real) < len(stretch) / 2:
            kept.append(next(i for i in stretch if values[i] is None))
    kept = sorted(set(kept))
    return [at_ms[i] for i in kept], [values[i] for i in kept]
