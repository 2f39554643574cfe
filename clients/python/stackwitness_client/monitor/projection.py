"""Hold what the server shows of readings against the signed leaves: an edit that no root would ever betray."""

import json
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from emdi.entry import parse_entry
from emdi.envelope import parse_columns
from emdi.units import format_at
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor.finding import Finding
from stackwitness_client.monitor.mirror import Mirror
from stackwitness_client.monitor.pages import read_rows
from stackwitness_client.monitor.state import State
from stackwitness_client.monitor.sync import entry_at

SPAN_READINGS = 5000
SPAN_GAP_MS = 3_600_000
BACKLOG = 20_000
MERGE_DELAY_MS = 60_000
PAGE_ROWS = 10_000
# A stretch has some 5000 readings; a server that goes on for ever would keep the monitor from all else.
MAX_PAGES = 50
MAX_NAME_CHARS = 64

Place = tuple[str, int]  # channel, Unix ms


@dataclass(frozen=True, slots=True)
class Signed:
    """What the log signs for one channel and time: the first envelope that gives it counts, later ones revise."""

    value: float | None
    status: str
    idx: int
    revisions: int


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one station, [from_ms, to_ms]."""

    stn: str
    from_ms: int
    to_ms: int


class ProjectionCheck:
    """Compare /v1/readings with the leaves: all that is new, up to a budget of requests, and a random sample."""

    def __init__(self, link: ServerLink, state: State, mirror: Mirror, rng: random.Random) -> None:
        self._link = link
        self._state = state
        self._mirror = mirror
        self._random = rng
        self._names: dict[int, str] = {}
        self.compared = 0

    def run(self, now_ms: int, *, new_requests: int, sample_requests: int) -> Iterator[Finding]:
        """Yield what is shown otherwise than signed; remember how far the new envelopes are checked.

        Raises ServerError.
        """
        self._names = {head.station_no: stn for stn, head in self._state.stations.items()}
        spans, cursor = self._new_spans(new_requests)
        for span in [*spans, *self._sample(sample_requests)]:
            yield from self._compare(span, now_ms)
        with self._state.transaction():
            self._state.put("projected", cursor)
        yield from self._recheck(now_ms)

    # What to look at ----------------------------------------------------------------------------------
    def _new_spans(self, budget: int) -> tuple[list[Span], int]:
        """Group the envelopes since the last run into stretches of one station each; and how far they reach."""
        cursor = int(self._state.get("projected", 0))
        rows = self._state.db.execute(
            "SELECT idx, station_no, first_ms, last_ms, readings FROM envelope WHERE idx >= ? ORDER BY idx LIMIT ?",
            (cursor, BACKLOG),
        ).fetchall()
        open_spans: dict[int, list[int]] = {}
        done: list[Span] = []
        for idx, station_no, first_ms, last_ms, readings in rows:
            span = open_spans.get(station_no)
            near = span is not None and span[0] - SPAN_GAP_MS <= first_ms <= span[1] + SPAN_GAP_MS
            if span is not None and near and span[2] + readings <= SPAN_READINGS:
                span[:] = [min(span[0], first_ms), max(span[1], last_ms), span[2] + readings]
            else:
                if len(done) + len(open_spans) >= budget:
                    break
                if span is not None:
                    done.append(Span(self._names[station_no], span[0], span[1]))
                open_spans[station_no] = [first_ms, last_ms, readings]
            cursor = idx + 1
        return done + [Span(self._names[no], span[0], span[1]) for no, span in open_spans.items()], cursor

    def _sample(self, count: int) -> Iterator[Span]:
        replayed = self._state.replayed
        for _ in range(count if replayed else 0):
            row = self._state.db.execute(
                "SELECT station_no, first_ms, last_ms FROM envelope WHERE idx >= ? ORDER BY idx LIMIT 1",
                (self._random.randrange(replayed),),
            ).fetchone()
            if row is not None:
                first_ms, last_ms = self._reach(row[0], row[1], "<= ? ORDER BY first_ms DESC")
                later_first_ms, later_last_ms = self._reach(row[0], row[1], ">= ? ORDER BY first_ms")
                yield Span(self._names[row[0]], min(first_ms, later_first_ms), max(last_ms, later_last_ms))

    def _reach(self, station_no: int, at_ms: int, side: str) -> tuple[int, int]:
        """Return how far half a request's readings reach to one side of an envelope without a gap."""
        rows = self._state.db.execute(
            f"SELECT first_ms, last_ms, readings FROM envelope WHERE station_no = ? AND first_ms {side}",
            (station_no, at_ms),
        )
        from_ms, to_ms, readings = 0, 0, 0
        for first_ms, last_ms, count in rows:
            if readings and not from_ms - SPAN_GAP_MS <= first_ms <= to_ms + SPAN_GAP_MS:
                break
            from_ms, to_ms = (
                (min(from_ms, first_ms), max(to_ms, last_ms)) if readings else (first_ms, last_ms)
            )
            readings += count
            if readings >= SPAN_READINGS // 2:
                break
        return from_ms, to_ms

    # Comparing ----------------------------------------------------------------------------------------
    def _compare(self, span: Span, now_ms: int) -> Iterator[Finding]:
        signed = self.signed(span)
        for place, shown in self._shown(span, None):
            mine = signed.pop(place, None)
            self.compared += 1
            if mine is None:
                self._suspect(span.stn, place, now_ms)
            elif (shown["value"], shown["status"]) != (mine.value, mine.status):
                yield differs(span.stn, place, mine, shown)
            elif shown["revisions"] < mine.revisions:
                yield differs(span.stn, place, mine, {**shown, "lost_revisions": mine.revisions})
            elif shown["revisions"] > mine.revisions:
                self._suspect(span.stn, place, now_ms)
        for place, mine in signed.items():
            yield differs(span.stn, place, mine, None)

    def signed(self, span: Span) -> dict[Place, Signed]:
        """Return what the log signs in a span, from every envelope that reaches into it."""
        head = self._state.stations[span.stn]
        rows = self._state.db.execute(
            "SELECT idx FROM envelope WHERE station_no = ? AND first_ms BETWEEN ? AND ? AND last_ms >= ? ORDER BY idx",
            (head.station_no, span.from_ms - head.span_ms, span.to_ms, span.from_ms),
        ).fetchall()
        found: dict[Place, Signed] = {}
        for (idx,) in rows:
            _, columns = parse_columns(parse_entry(entry_at(self._mirror, idx)).body)
            for which, at_ms, value, status in zip(*columns[1:], strict=True):
                if span.from_ms <= at_ms <= span.to_ms:
                    place = (columns.series[which][0], at_ms)
                    known = found.get(place)
                    if known is None:
                        found[place] = Signed(value, status, idx, 0)
                    else:
                        found[place] = Signed(known.value, known.status, known.idx, known.revisions + 1)
        return found

    def _shown(self, span: Span, channel: str | None) -> Iterator[tuple[Place, dict[str, Any]]]:
        query: dict[str, Any] = {"station": span.stn, "from": format_at(span.from_ms), "limit": PAGE_ROWS}
        query |= {"to": format_at(span.to_ms + 1)} | ({} if channel is None else {"channel": channel})
        # 404: a station of the log that the server does not know (any more)
        yield from read_rows(
            self._link, "/v1/readings", query, "rows", _reading_of, most_pages=MAX_PAGES, unknown=(404,)
        )

    # What the log does not know (yet) -----------------------------------------------------------------
    def _suspect(self, stn: str, place: Place, now_ms: int) -> None:
        """A reading shown before its entry is published looks like a forged one: it must appear within a minute."""
        detail = json.dumps({"stn": stn, "channel": place[0], "at_ms": place[1]})
        self._state.suspect(f"reading:{stn}:{place[0]}:{place[1]}", now_ms, MERGE_DELAY_MS, detail)

    def _recheck(self, now_ms: int) -> Iterable[Finding]:
        rows = self._state.db.execute(
            "SELECT key, detail FROM suspect WHERE first_ms < ? AND key LIKE 'reading:%' ORDER BY key LIMIT 1000",
            (now_ms - MERGE_DELAY_MS,),
        ).fetchall()
        for key, text in rows:
            detail = json.loads(text)
            stn, place = detail["stn"], (detail["channel"], detail["at_ms"])
            span = Span(stn, place[1], place[1])
            mine = self.signed(span).get(place)
            for shown_place, shown in self._shown(span, place[0]):
                if shown_place == place and (mine is None or shown["revisions"] > mine.revisions):
                    yield unsigned(stn, place, shown)
            with self._state.transaction():
                self._state.db.execute("DELETE FROM suspect WHERE key = ?", (key,))


def _reading_of(row: Any) -> tuple[Place, dict[str, Any]]:
    """Take one row of /v1/readings strictly: whatever it holds goes into alarms. Raises KeyError, TypeError, ..."""
    channel, value, status, revisions = (row[name] for name in ("channel", "value", "status", "revisions"))
    if type(channel) is not str or type(status) is not str or type(revisions) is not int:
        raise TypeError("a channel and a status are texts, revisions a number")
    if max(len(channel), len(status)) > MAX_NAME_CHARS or not 0 <= revisions < 2**53:
        raise ValueError("a text is too long, or a number too large")
    if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
        raise TypeError("a value is a number or null")
    at_ms = round(datetime.fromisoformat(row["at"]).timestamp() * 1000)
    return (channel, at_ms), {"value": value, "status": status, "revisions": revisions}


def differs(stn: str, place: Place, mine: Signed, shown: dict[str, Any] | None) -> Finding:
    """Name a reading that is shown otherwise than signed, or not at all."""
    channel, at_ms = place
    said = "nothing" if shown is None else f"{shown['value']} ({shown['status']})"
    signed = f"{mine.value} ({mine.status})"
    if shown is not None and "lost_revisions" in shown:
        said, signed = (
            f"{said}, revised {shown['revisions']} times",
            f"{signed}, revised {mine.revisions} times",
        )
    says = f"station {stn}, {channel} at {format_at(at_ms)}: entry {mine.idx} signs {signed}, the server shows {said}"
    seen = {"stn": stn, "channel": channel, "at_ms": at_ms, "shown": shown}
    seen["signed"] = {"value": mine.value, "status": mine.status, "revisions": mine.revisions}
    return Finding("value", f"value:{stn}:{channel}:{at_ms}", says, (mine.idx,), seen)


def unsigned(stn: str, place: Place, shown: dict[str, Any]) -> Finding:
    """Name a reading that is shown and that nobody signed."""
    channel, at_ms = place
    what = (
        f"{shown['value']}, revised {shown['revisions']} times" if shown["revisions"] else str(shown["value"])
    )
    says = f"station {stn}, {channel} at {format_at(at_ms)}: the server shows {what}; no entry signs that"
    seen = {"stn": stn, "channel": channel, "at_ms": at_ms, "shown": shown}
    return Finding("unsigned", f"unsigned:{stn}:{channel}:{at_ms}", says, (), seen)
