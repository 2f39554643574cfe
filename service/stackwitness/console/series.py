"""Readings as traces: the pages of the readings slice, gathered per channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine

from stackwitness.console.charts.panels import Span
from stackwitness.console.charts.scale import DAY_MS, HOUR_MS
from stackwitness.console.facts import at_of, ms_of
from stackwitness.console.views import ChannelView, StationView, TraceView
from stackwitness.readings import flow as readings
from stackwitness.readings.queries import Aggregate

RAW_DAYS = 2
STEP_MS = {"hour": HOUR_MS, "day": DAY_MS}
HOURLY_DAYS = 120
# A row of the picker's widest hourly range: 120 days of 24 hours over 30 channels stays below.
MOST_ROWS = 100_000
# engine -> (station, channel, days) -> (hour of the last reading, trace); one entry a channel, so it stays small.
_RECENT: WeakKeyDictionary[Engine, dict[tuple[str, str, int], tuple[int, TraceView | None]]] = (
    WeakKeyDictionary()
)


def choose_aggregate(span: Span) -> Aggregate:
    """Choose readings, hours or days so that a chart has a few thousand points at most."""
    days = (span.to_ms - span.from_ms) / DAY_MS
    if days <= RAW_DAYS:
        return "none"
    return "hour" if days <= HOURLY_DAYS else "day"


def load(conn: Connection, station: StationView, span: Span, aggregate: Aggregate) -> list[TraceView]:
    """Return every channel of a station that has readings in a span, in the order of its channels."""
    return _gather(conn, station, station.channels, span, aggregate)


def load_recent(
    conn: Connection, station: StationView, channel: ChannelView | None, days: int
) -> TraceView | None:
    """Return the hourly means of one channel over the last days that have readings, up to an hour old.

    Kept between visits: the overview asks this of every station, and a small line hardly moves within an hour.
    """
    if channel is None or station.last_at_ms is None:
        return None
    kept = _RECENT.setdefault(conn.engine, {})
    key = (station.stn, channel.name, days)
    hour = station.last_at_ms // HOUR_MS
    known = kept.get(key)
    if known is None or known[0] != hour:
        span = Span(station.last_at_ms + 1 - days * DAY_MS, station.last_at_ms + 1)
        known = (hour, next(iter(_gather(conn, station, [channel], span, "hour")), None))
        kept[key] = known
    return known[1]


def _gather(
    conn: Connection, station: StationView, channels: Sequence[ChannelView], span: Span, aggregate: Aggregate
) -> list[TraceView]:
    points: dict[str, list[Mapping[str, Any]]] = {channel.name: [] for channel in channels}
    after: str | None = None
    for _ in range(MOST_ROWS // readings.MAX_ROWS):
        page = readings.read_page(
            conn,
            station.stn,
            at_of(span.from_ms),
            at_of(span.to_ms),
            channels=[channel.name for channel in channels],
            aggregate=aggregate,
            limit=readings.MAX_ROWS,
            after=after,
        )
        for row in page.rows:
            points[row["channel"]].append(row)
        after = page.next
        if after is None:
            break
    return [_trace(channel, points[channel.name], aggregate) for channel in channels if points[channel.name]]


def _trace(channel: ChannelView, rows: Sequence[Mapping[str, Any]], aggregate: Aggregate) -> TraceView:
    value = "value" if aggregate == "none" else "mean"
    at_ms = [ms_of(datetime.fromisoformat(row["at"])) for row in rows]
    step_ms = STEP_MS.get(aggregate) or min((b - a for a, b in pairwise(at_ms)), default=1)
    times: list[int] = []
    values: list[float | None] = []
    letters: list[str] = []
    for at, row in zip(at_ms, rows, strict=True):
        if times and at - times[-1] > 1.5 * step_ms:
            # A point without a value breaks the line where nothing was received.
            times.append(times[-1] + step_ms)
            values.append(None)
            letters.append("N")
        times.append(at)
        values.append(row[value])
        letters.append(_letter(row))
    return TraceView(channel, times, values, letters)


def _letter(row: Mapping[str, Any]) -> str:
    """Return the status letter; of a bucket, X when not all of it is normal."""
    if "status" in row:
        return str(row["status"])
    return "N" if row["normal"] == row["count"] + row["missing"] else "X"
