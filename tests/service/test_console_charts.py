"""Charts: whatever a finding carries, the picture is well-formed, escaped, and keeps what matters."""

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from stackwitness.console.charts.canvas import Canvas, runs_of, thin
from stackwitness.console.charts.evidence import draw_evidence
from stackwitness.console.charts.panels import Span, draw_guides, draw_time_axis, open_panel
from stackwitness.console.charts.scale import Scale, extent, tick_label, time_ticks, value_ticks
from stackwitness.console.charts.small import Place, draw_map, draw_sparkline
from stackwitness.console.charts.spec import parse_plot
from stackwitness.console.locale import tongue

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '</svg><script>alert("1")</script>&'
finite = st.floats(-1e9, 1e9, allow_nan=False)
start = st.integers(1_600_000_000_000, 1_900_000_000_000)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Return plot data as a detector might give it, hostile names included."""
    t0, count = draw(start), draw(st.integers(0, 40))
    at_ms = [t0 + i * 3_600_000 for i in range(count)]
    values = st.lists(st.none() | finite, min_size=count, max_size=count)
    names = draw(st.lists(st.sampled_from(["so2", "load", HOSTILE, "氧"]), unique=True, max_size=4))
    spec: dict[str, Any] = {
        "kind": draw(
            st.sampled_from(["hold", "copy", "residual", "digits", "density", "missing", "features"])
        ),
        "title_en": HOSTILE,
        "interval": [t0, t0 + draw(st.integers(0, 10**9))],
        "series": [{"channel": n, "unit": n, "role": "load", "t": at_ms, "v": draw(values)} for n in names],
        "limit": draw(st.none() | finite),
    }
    if draw(st.booleans()):
        spec["band"] = {"t": at_ms, "lo": draw(values), "mid": draw(values), "hi": draw(values)}
    if draw(st.booleans()):
        spec["match"] = {"t": at_ms, "v": draw(values)}
    if draw(st.booleans()):
        counts = draw(st.lists(st.floats(0, 1e6), max_size=12))
        edges = sorted(
            draw(st.lists(finite, min_size=len(counts) + 1, max_size=len(counts) + 1, unique=True))
        )
        spec["histogram"] = {
            "edges": edges,
            "counts": counts,
            "reference": [],
            "mark": draw(st.none() | finite),
        }
    return spec


@settings(max_examples=150, deadline=None)
@given(specs(), st.sampled_from([-600, 0, 330, 480]))
def test_any_finding_is_drawn_well_formed_and_escaped(spec: dict[str, Any], offset: int) -> None:
    pictures = draw_evidence(parse_plot(json.dumps(spec)), ["so2", HOSTILE], tongue("zh"), offset, HOSTILE)
    for picture in pictures:
        root = ET.fromstring(picture)
        assert root.get("role") == "img"
        assert root.find(f"{SVG}title") is not None
        tags = {element.tag.removeprefix(SVG) for element in root.iter()}
        assert tags <= {"svg", "title", "desc", "path", "line", "rect", "text", "circle"}
        assert "nan" not in picture
    assert len(pictures) >= bool(spec["series"])


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"kind":"pie","interval":[0,1]}', '{"kind":"hold"}']
)
def test_a_plot_that_is_none_is_an_error_to_catch(text: str) -> None:
    with pytest.raises(ValidationError):
        parse_plot(text)


@given(finite, finite)
def test_value_ticks_lie_on_the_axis(a: float, b: float) -> None:
    lo, hi = extent([a, b])
    ticks = value_ticks(lo, hi)
    assert 1 <= len(ticks) <= 8
    pad = (hi - lo) * 1e-6 + abs(hi) * 1e-9
    assert all(lo - pad <= tick <= hi + pad for tick in ticks)


@given(start, st.integers(60_000, 4 * 10**11), st.sampled_from([-480, 0, 345, 480]))
def test_time_ticks_are_few_round_and_inside(from_ms: int, length: int, offset: int) -> None:
    ticks = time_ticks(from_ms, from_ms + length, offset)
    assert len(ticks) <= 15
    assert all(from_ms <= tick.at_ms <= from_ms + length for tick in ticks)
    assert all((tick.at_ms + offset * 60_000) % 300_000 == 0 for tick in ticks)


@pytest.mark.parametrize(("lo", "hi"), [(6.9, 14.2), (1.1, 1.95), (0.0, 420.0), (79.59, 79.61), (-1e6, 2e6)])
def test_a_low_panel_has_a_scale_too(lo: float, hi: float) -> None:
    canvas = Canvas(920, 130, "low")
    panel = open_panel(canvas, Span(0, 86_400_000), (lo, hi), 29, 66, "co2")
    draw_guides(panel, Span(0, 86_400_000))
    draw_time_axis(panel, Span(0, 86_400_000))
    root = ET.fromstring(canvas.markup())
    labels = [(text.get("text-anchor"), float(text.get("x", "0"))) for text in root.iter(f"{SVG}text")]
    assert 2 <= sum(x < 60 for _, x in labels) <= 4
    assert all(anchor == "start" for anchor, x in labels if 60 < x < 86)
    assert all(anchor == "end" for anchor, x in labels if x > 884)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0.0, "0"),
        (0.5, "0.5"),
        (5000.0, "5000"),
        (-50000.0, "-50k"),
        (1.5e6, "1.5M"),
        (2e9, "2G"),
        (1e-5, "1e-5"),
    ],
)
def test_a_tick_is_told_shortly(value: float, label: str) -> None:
    assert tick_label(value) == label


@given(st.lists(st.none() | finite, min_size=1, max_size=3000), st.integers(10, 400))
def test_thinning_keeps_the_extremes(values: list[float | None], most: int) -> None:
    at_ms = list(range(len(values)))
    times, kept = thin(at_ms, values, most)
    real = [v for v in values if v is not None]
    if real:
        assert max(v for v in kept if v is not None) == max(real)
        assert min(v for v in kept if v is not None) == min(real)
    assert times == sorted(set(times))
    assert len(times) <= max(most * 2, 4)
    assert all(values[t] == v or (values[t] is None and v is None) for t, v in zip(times, kept, strict=True))


def test_missing_values_and_gaps_break_the_line() -> None:
    unit = Scale(0, 10, 0, 10)
    assert runs_of([0, 1, 2, 3], [1.0, None, 2.0, 3.0], unit, unit) == [[(0, 1)], [(2, 2), (3, 3)]]
    assert runs_of([0, 1, 9], [1.0, 1.0, 1.0], unit, unit, gap_ms=2) == [[(0, 1), (1, 1)], [(9, 1)]]


def test_the_map_links_every_station_and_survives_one_place() -> None:
    places = [
        Place("a", HOSTILE, 31.0, 121.0, "quiet", "/stations/a"),
        Place("b", "B", 31.0, 121.0, "unusual", "/b"),
    ]
    for count in (0, 1, 2):
        root = ET.fromstring(draw_map(places[:count], "map"))
        assert len(root.findall(f"{SVG}a")) == count
        for circle in root.iter(f"{SVG}circle"):
            assert 0 < float(circle.get("cx", "-1")) < 420
            assert 0 < float(circle.get("cy", "-1")) < 300


def test_a_sparkline_of_nothing_is_still_a_picture() -> None:
    for values in ([], [None, None], [0.0, 0.0], [5.0]):
        ET.fromstring(draw_sparkline(list(range(len(values))), values, 35.0, "t"))
