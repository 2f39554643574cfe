"""From facts to what a template fills in: cards, maps, traces, pictures of evidence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from stackwitness.console import words
from stackwitness.console.charts.evidence import draw_evidence
from stackwitness.console.charts.panels import Span
from stackwitness.console.charts.scale import DAY_MS, HOUR_MS
from stackwitness.console.charts.small import Place, Trace, draw_map, draw_sparkline, draw_trace
from stackwitness.console.charts.spec import PlotSpec, parse_plot
from stackwitness.console.locale import Tongue
from stackwitness.console.matters import MatterView
from stackwitness.console.views import VERDICTS, ChannelView, FlagDetail, FlagView, StationView, TraceView

STEP_MS = {"none": 60_000, "hour": HOUR_MS, "day": DAY_MS}


@dataclass(frozen=True)
class Card:
    """One line of the overview."""

    station: StationView
    channel: str
    unit: str
    limit: float | None
    spark: Markup | None
    open_counts: tuple[tuple[str, int], ...]
    lapsed: int

    @property
    def open_total(self) -> int:
        """Return how many matters of the station are open, lapsed ones too: they wait for a decision as well."""
        return sum(count for _, count in self.open_counts) + self.lapsed


def main_channel(station: StationView, matters: Iterable[MatterView]) -> ChannelView | None:
    """Choose the pollutant to show: the one flagged most, else the first with a limit, else the first."""
    accused = Counter(name for matter in matters if matter.stands for name in matter.channels)
    pollutants = [c for c in station.channels if c.role == "pollutant"] or list(station.channels)
    if not pollutants:
        return None
    return max(pollutants, key=lambda c: (accused[c.name], c.limit is not None))


def count_verdicts(matters: Iterable[MatterView]) -> tuple[tuple[str, int], ...]:
    """Count the matters that stand per verdict, worst first; one of which all flags lapsed accuses nobody."""
    counts = Counter(matter.verdict for matter in matters if matter.stands)
    return tuple((verdict, counts[verdict]) for verdict in VERDICTS)


def make_card(
    t: Tongue, station: StationView, trace: TraceView | None, matters: Sequence[MatterView]
) -> Card:
    """Build the overview line of a station from its open matters and a week of its main pollutant."""
    channel = trace.channel if trace else None
    spark = None
    if trace is not None and any(v is not None for v in trace.values):
        title = t.say("%(channel)s of the last 7 days") % {"channel": trace.channel.name}
        spark = draw_sparkline(trace.at_ms, trace.values, trace.channel.limit, f"{station.name}: {title}")
    return Card(
        station,
        channel.name if channel else "",
        channel.unit if channel else "",
        channel.limit if channel else None,
        spark,
        count_verdicts(matters),
        sum(not matter.stands for matter in matters),
    )


def word_hidden(t: Tongue, matter: MatterView) -> str:
    """Say how much less was reported than expected, with its interval, in kg too where the flow is known; "" unknown."""
    hidden, mass = matter.hidden, matter.mass
    if hidden is None:
        return ""
    share, low, high = (t.number(100 * part, 2) for part in (hidden.share, max(hidden.low, 0.0), hidden.high))
    given = {"channel": hidden.channel, "share": share, "low": low, "high": high}
    said = t.say("%(channel)s about %(share)s %% less than expected (%(low)s to %(high)s %%)") % given
    if mass is None:
        return said
    kg, low, high = (t.number(float(f"{part:.2g}")) for part in (mass.kg, max(mass.low, 0.0), mass.high))
    return said + t.say(", some %(kg)s kg (%(low)s to %(high)s kg)") % {"kg": kg, "low": low, "high": high}


def make_map(t: Tongue, cards: Sequence[Card]) -> Markup | None:
    """Plot the stations that have coordinates."""
    places = []
    for card in cards:
        station = card.station
        if station.lat is None or station.lon is None:
            continue
        worst = next((words.tone(v) for v, count in card.open_counts if count), "quiet")
        places.append(
            Place(station.stn, station.name, station.lat, station.lon, worst, f"/stations/{station.stn}")
        )
    return draw_map(places, t.say("Stations by their coordinates")) if places else None


def make_traces(
    t: Tongue, traces: Sequence[TraceView], span: Span, step_ms: int, flags: Sequence[FlagView]
) -> list[dict[str, Any]]:
    """Draw every channel; the drawings stay when scripts are off, and on paper."""
    drawn = []
    for trace in traces:
        channel = trace.channel
        flagged = _flagged(t, channel.name, flags)
        line = Trace(channel.name, channel.unit, trace.at_ms, trace.values, trace.statuses, channel.limit)
        drawn.append({"name": channel.name, "picture": draw_trace(line, span, step_ms, flagged, t.say)})
    return drawn


def pack_traces(
    t: Tongue, traces: Sequence[TraceView], utc_offset_min: int, step_ms: int, flags: Sequence[FlagView]
) -> Markup:
    """Return the same traces as JSON for the zoomable charts, safe inside a script element."""
    data = {
        "offset_s": utc_offset_min * 60,
        "words": {"time": t.say("time"), "limit": t.say("limit")},
        "traces": [
            {
                "channel": trace.channel.name,
                "unit": trace.channel.unit,
                "limit": trace.channel.limit,
                "t": [at / 1000 if at % 1000 else at // 1000 for at in trace.at_ms],
                "v": [None if v is None else float(f"{v:.6g}") for v in trace.values],
                "marks": _status_runs(trace, step_ms),
                "flagged": [[a / 1000, b / 1000] for a, b, _ in _flagged(t, trace.channel.name, flags)],
            }
            for trace in traces
        ],
    }
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    # "</script>" and "<!--" inside a channel name must not end the element.
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _flagged(t: Tongue, channel: str, flags: Sequence[FlagView]) -> list[tuple[int, int, str]]:
    """Return the flagged intervals of a channel (from_ms, to_ms, what and which), joined where they overlap."""
    joined: list[tuple[int, int, str]] = []
    for flag in sorted((f for f in flags if channel in f.channels), key=lambda f: f.from_ms):
        start, end, tip = flag.from_ms, flag.to_ms, f"{words.kind(t, flag.kind)} ({flag.flag_id})"
        if joined and start <= joined[-1][1]:
            start, last, told = joined.pop()
            end, tip = max(last, end), f"{told}, {tip}"
        joined.append((start, end, tip))
    return joined


def _status_runs(trace: TraceView, step_ms: int) -> list[list[Any]]:
    runs: list[list[Any]] = []
    for at, letter in zip(trace.at_ms, trace.statuses, strict=True):
        if letter == "N":
            continue
        end = (at + step_ms) / 1000
        if runs and runs[-1][2] == letter and at / 1000 - runs[-1][1] <= step_ms / 1000:
            runs[-1][1] = end
        else:
            runs.append([at / 1000, end, letter])
    return runs


def step_of(traces: Sequence[TraceView], aggregate: str) -> int:
    """Return the usual distance of two points: of the aggregate, or the smallest seen among raw readings."""
    if aggregate != "none":
        return STEP_MS[aggregate]
    steps = [b - a for trace in traces for a, b in pairwise(trace.at_ms[:200]) if b > a]
    return min(steps, default=STEP_MS["none"])


def letters_of(traces: Sequence[TraceView]) -> list[str]:
    """Return the status letters that occur, for the legend."""
    return sorted({letter for trace in traces for letter in trace.statuses} - {"N"})


def make_evidence(t: Tongue, detail: FlagDetail) -> Mapping[str, Any]:
    """Draw a finding's pictures; one that cannot be read gives none rather than an error page."""
    try:
        spec = parse_plot(detail.plot)
    except ValueError:
        return {"pictures": [], "legend": [], "plot_title": ""}
    flag = detail.flag
    title = t.pick(spec.title_en, spec.title_zh) or t.pick(flag.text_en, flag.text_zh)
    pictures = draw_evidence(spec, flag.channels, t, flag.utc_offset_min, title)
    of = "" if spec.match is None else t.pick(spec.match.of_en, spec.match.of_zh)
    legend = [
        (code, of if code == "earlier" and of else words.legend(t, code)) for code in _legend_codes(spec)
    ]
    return {"pictures": pictures, "legend": legend, "plot_title": t.pick(spec.title_en, spec.title_zh)}


def _legend_codes(spec: PlotSpec) -> list[str]:
    present = {
        "reported": bool(spec.series),
        "suspect": bool(spec.series),
        "context": len(spec.series) > 1,
        "expected": spec.band is not None and bool(spec.band.t),
        "limit": spec.limit is not None,
        "earlier": spec.match is not None and bool(spec.match.t),
        "odd": bool(spec.marks),
        "gap": any(v is None for s in spec.series for v in s.v),
        "bar": spec.histogram is not None,
        "reference": spec.histogram is not None and bool(spec.histogram.reference),
    }
    return [code for code, shown in present.items() if shown]
