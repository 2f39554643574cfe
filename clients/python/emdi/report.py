"""report.json of an export bundle: every number that the printed report shows, computed from the other members."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any, Protocol

from emdi.bundle import iter_entries
from emdi.checkpoint import parse_checkpoint
from emdi.encoding import b64_encode, dump_json
from emdi.entry import KIND_EVENT, parse_entry
from emdi.errors import BundleError, EmdiError
from emdi.event import Event, parse_event
from emdi.note import parse_note
from emdi.scope import Scope, parse_scope
from emdi.tables import parse_disclosure
from emdi.units import format_at

BUCKETS = 240
MINUTE_MS = 60_000
RECORDED = ("flag.raised", "flag.extended", "flag.lapsed", "review.decision")


class Members(Protocol):
    """The members of a bundle, still in a folder or already in the zip."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """The names, with sizes in bytes."""

    def read(self, name: str) -> bytes:
        """Return a whole member."""

    def lines(self, name: str) -> Iterator[str]:
        """Yield the lines of a text member without their newline."""

    def stream(self, name: str) -> IO[bytes]:
        """Open a member."""


def make_report(members: Members) -> bytes:
    """Return report.json, the same bytes for the same members; raises EmdiError when one of them cannot be read.

    It repeats what scope.json, checkpoint, the tables and the flags' events say, and sums up readings.csv: per
    channel how many, the least and the greatest of those marked N, and both for each of at most 240 slices of the part of the period that has readings.
    """
    try:
        return _Report(members).finish()
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
        raise BundleError("bundle.report", f"a member does not give a report: {error!r}") from None


def report_keyword(report: bytes) -> str:
    """Return the keyword by which report.pdf names its report.json, in clear in its bytes."""
    return f"report.json sha256 {hashlib.sha256(report).hexdigest()}"


@dataclass(slots=True)
class _Channel:
    """What readings.csv says of one channel: of the readings marked N, `slices` hold the least and the greatest;
    `marks` are the slices with a reading marked otherwise.
    """

    stn: str
    name: str
    unit: str
    readings: int = 0
    missing: int = 0
    marked: int = 0
    least: float = math.inf
    greatest: float = -math.inf
    slices: dict[int, tuple[float, float]] = field(default_factory=dict)
    marks: set[int] = field(default_factory=set)

    def take(self, place: int, value: str, status: str) -> None:
        """Count one row; `place` is its slice."""
        self.readings += 1
        self.missing += not value
        if status != "N":
            self.marked += 1
            self.marks.add(place)
            return
        number = float(value)
        if number < self.least:
            self.least = number
        if number > self.greatest:
            self.greatest = number
        seen = self.slices.get(place)
        if seen is None:
            self.slices[place] = (number, number)
        elif not seen[0] <= number <= seen[1]:
            self.slices[place] = (min(seen[0], number), max(seen[1], number))

    def coarsen(self) -> None:
        """Make each two neighbouring slices one."""
        merged: dict[int, tuple[float, float]] = {}
        for place, (least, greatest) in self.slices.items():
            seen = merged.get(place >> 1, (least, greatest))
            merged[place >> 1] = (min(seen[0], least), max(seen[1], greatest))
        self.slices, self.marks = merged, {place >> 1 for place in self.marks}

    def to_json(self, limit: object, first: int) -> dict[str, Any]:
        """Return the channel's part of the report; `first` is the number of the first slice drawn."""
        empty = not self.slices
        return {
            "stn": self.stn,
            "name": self.name,
            "unit": self.unit,
            "limit": limit,
            "readings": self.readings,
            "missing": self.missing,
            "marked": self.marked,
            "least": None if empty else self.least,
            "greatest": None if empty else self.greatest,
            "slices": [[place - first, *self.slices[place]] for place in sorted(self.slices)],
            "marks": [place - first for place in sorted(self.marks)],
        }


class _Drawn:
    """The part of the period that has readings, in at most 240 slices of 2^n minutes each."""

    def __init__(self, from_ms: int, to_ms: int) -> None:
        self._period = (from_ms, to_ms)
        self._channels: dict[tuple[str, str, str], _Channel] = {}
        self._width = MINUTE_MS
        self._first = self._last = from_ms // MINUTE_MS
        self._empty = True

    @property
    def slice_ms(self) -> int:
        """The width of a slice."""
        return self._width

    @property
    def from_ms(self) -> int:
        """Where the first slice begins, or the period when it begins later."""
        return max(self._period[0], self._first * self._width)

    @property
    def to_ms(self) -> int:
        """Where the last slice ends, or the period when it ends earlier."""
        return min(self._period[1], (self._last + 1) * self._width)

    @property
    def count(self) -> int:
        """How many slices there are."""
        return self._last + 1 - self._first

    def place_of(self, at_ms: int) -> int:
        """Return the slice of a time, the first or last one when it lies outside."""
        return min(max(at_ms // self._width, self._first), self._last) - self._first

    def read(self, members: Members) -> None:
        """Take every row of readings.csv."""
        from_ms, to_ms = self._period
        channels, place, inside, last_at = self._channels, 0, False, ""
        for row in _rows(members, "readings.csv"):
            _, stn, _, _, at, name, unit, value, status = row.split(",")
            if at != last_at:
                at_ms, last_at = _ms(at), at
                inside = from_ms <= at_ms < to_ms
                place = self._reach(at_ms) if inside else 0
            key = (stn, name, unit)
            channel = channels.get(key)
            if channel is None:
                channel = channels[key] = _Channel(*key)
            if inside:
                channel.take(place, value, status)

    def to_json(self, limits: Mapping[tuple[str, str], object]) -> list[dict[str, Any]]:
        """Return the channels, sorted."""
        ordered = sorted(self._channels.items())
        return [channel.to_json(limits.get(key[:2]), self._first) for key, channel in ordered]

    def _reach(self, at_ms: int) -> int:
        """Return the slice of a time, after widening all slices until those in use are few enough."""
        place = at_ms // self._width
        if self._empty:
            self._first = self._last = place
            self._empty = False
        first, last = min(self._first, place), max(self._last, place)
        while last - first >= BUCKETS:
            first, last, place = first >> 1, last >> 1, place >> 1
            self._width *= 2
            for channel in self._channels.values():
                channel.coarsen()
        self._first, self._last = first, last
        return place


def _rows(members: Members, name: str) -> Iterator[str]:
    """Yield the rows of a table under its header; a million of them, so not line by line."""
    with members.stream(name) as stream:
        stream.readline()
        rest = b""
        while chunk := stream.read(1 << 20):
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            yield from b"\n".join(lines).decode("utf-8").split("\n") if lines else ()
    if rest:
        raise ValueError(f"the last line of {name} does not end")


def _ms(at: str) -> int:
    if at[-1:] != "Z":
        raise ValueError(f"{at!r} is no time of a table")
    return round(datetime.fromisoformat(at).timestamp() * 1000)


class _Report:
    """One pass over each member."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._scope: Scope = parse_scope(members.read("scope.json"))
        self._drawn = _Drawn(self._scope.from_ms, self._scope.to_ms)
        self._events: list[tuple[int, Event]] = []
        self._limits: dict[tuple[str, str], object] = {}

    def finish(self) -> bytes:
        """Return the JSON."""
        self._read_events()
        scope, drawn = self._scope, self._drawn
        drawn.read(self._members)
        report = {
            "v": 1,
            "export_id": scope.export_id,
            "from": format_at(scope.from_ms),
            "to": format_at(scope.to_ms),
            "requester": scope.requester,
            "purpose": scope.purpose,
            "redacted": scope.redacted,
            "log": self._log(),
            "counts": {name: getattr(scope, name) for name in ("envelopes", "readings", "flags", "reviews")},
            "stations": [
                {"stn": station.stn, "runs": [list(run) for run in station.runs]}
                for station in scope.stations
            ],
            "keys": self._keys(),
            "drawn": {"from": format_at(drawn.from_ms), "to": format_at(drawn.to_ms), "slices": drawn.count},
            "slice_ms": drawn.slice_ms,
            "channels": drawn.to_json(self._limits),
            "flags": self._flags(),
            "custody": self._table("custody.csv"),
        }
        return dump_json(report) + b"\n"

    def _log(self) -> dict[str, Any]:
        note = parse_note(self._members.read("checkpoint"))
        checkpoint = parse_checkpoint(note.text)
        signed_by = [signature.name for signature in note.signatures]
        return {
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": b64_encode(checkpoint.root),
            "signed_by": signed_by,
        }

    def _read_events(self) -> None:
        with self._members.stream("entries.bin") as stream:
            for idx, data in iter_entries(stream):
                if data[4] != KIND_EVENT:
                    continue
                try:
                    event = parse_event(parse_entry(data).body)
                except EmdiError:  # named by the verifier's walk over the entries
                    continue
                if event.typ in ("channel.set", "limit.change"):
                    self._take_limits(event)
                elif event.typ.startswith("key.") or event.typ in RECORDED:
                    self._events.append((idx, event))

    def _take_limits(self, event: Event) -> None:
        stn = event.subj.partition(":")[2]
        if event.typ == "limit.change":
            self._limits[(stn, event.data["channel"])] = _number(event.data["new"])
        else:
            for channel in event.data["channels"]:
                self._limits[(stn, channel["name"])] = _number(channel.get("limit"))

    def _keys(self) -> list[dict[str, Any]]:
        return [
            {
                "idx": idx,
                "act": event.typ,
                "kid": event.data["kid"],
                "by": event.act,
                "at": format_at(event.ts_ms),
            }
            for idx, event in self._events
            if event.typ.startswith("key.")
        ]

    def _flags(self) -> list[dict[str, Any]]:
        reasons: dict[str, str] = {}
        for line in self._members.lines("disclosures.jsonl"):
            disclosure = parse_disclosure(line)
            reasons[disclosure.event_id.hex()] = disclosure.text
        decisions = self._decisions(reasons)
        found: dict[str, dict[str, Any]] = {}
        for idx, event in self._events:
            if event.typ == "flag.raised":
                names = ("flag_id", "detector", "kind", "verdict", "channels")
                entry = {"idx": idx, **{name: event.data[name] for name in names}}
                found[event.data["flag_id"]] = entry | {"decisions": decisions.get(event.data["flag_id"], [])}
            if event.typ in ("flag.raised", "flag.extended"):
                self._take_extent(found.get(event.data["flag_id"]), event)
            if event.typ == "flag.lapsed":
                self._take_lapse(found.get(str(event.data.get("flag_id"))), idx, event)
        return list(found.values())

    def _take_lapse(self, flag: dict[str, Any] | None, idx: int, event: Event) -> None:
        """Say of a flag of that station that it lapsed; it is told no more once the flag is told again."""
        if flag is not None and event.subj == f"station:{flag['flag_id'].rpartition('-')[0]}":
            flag["lapsed"] = {"idx": idx, "at": format_at(event.ts_ms)}

    def _take_extent(self, flag: dict[str, Any] | None, event: Event) -> None:
        """Bring a flag up to what the last event about it says; what lies outside the period has no slice."""
        if flag is None:
            return
        data = event.data
        flag.pop("lapsed", None)
        from_ms: int = flag["from_ms"] if "from_ms" in flag else data["from_ms"]
        to_ms: int = data["to_ms"]
        places = [self._drawn.place_of(at_ms) for at_ms in (from_ms, to_ms)]
        flag |= {"from": format_at(from_ms), "to": format_at(to_ms), "from_ms": from_ms, "to_ms": to_ms}
        flag |= {"slices": places, "text_en": data["text_en"], "text_zh": data["text_zh"]}

    def _decisions(self, reasons: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
        ids = {idx: event.event_id.hex() for idx, event in self._events if event.typ == "review.decision"}
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self._table("reviews.csv"):
            reason = reasons.get(ids.get(int(row["idx"]), ""))
            found.setdefault(row["flag_id"], []).append({**row, "reason": reason})
        return found

    def _table(self, name: str) -> list[dict[str, str]]:
        if name not in self._members.sizes:
            return []
        rows = self._members.lines(name)
        header = next(rows).split(",")
        return [dict(zip(header, row.split(","), strict=True)) for row in rows]


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
