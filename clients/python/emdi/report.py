"""report.json of an export bundle: every number that the printed report shows, computed from the other members."""

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
RECORDED = ("flag.raised", "flag.extended", "review.decision")


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
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise BundleError("bundle.report", f"a member does not give a report: {error!r}") from None


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

    def to_json(self, limit: object) -> dict[str, Any]:
        """Return the channel's part of the report."""
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
            "slices": [[place, *self.slices[place]] for place in sorted(self.slices)],
            "marks": sorted(self.marks),
        }


class _Report:
    """One pass over each member."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._scope: Scope = parse_scope(members.read("scope.json"))
        self._drawn = self._read_bounds()
        self._slice_ms = slice_ms(*self._drawn)
        self._events: list[tuple[int, Event]] = []
        self._limits: dict[tuple[str, str], object] = {}

    def finish(self) -> bytes:
        """Return the JSON."""
        self._read_events()
        scope = self._scope
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
            "drawn": {"from": format_at(self._drawn[0]), "to": format_at(self._drawn[1])},
            "slice_ms": self._slice_ms,
            "channels": self._channels(),
            "flags": self._flags(),
            "custody": self._table("custody.csv"),
        }
        return dump_json(report) + b"\n"

    def _read_bounds(self) -> tuple[int, int]:
        """Return the part of the period that has readings, half-open in Unix ms."""
        first, last = "9", ""
        rows = self._members.lines("readings.csv")
        next(rows)
        for row in rows:
            at = row.split(",", 5)[4]
            if at < first:
                first = at
            if at > last:
                last = at
        from_ms, to_ms = self._scope.from_ms, self._scope.to_ms
        if not last:
            return from_ms, to_ms
        from_ms, to_ms = max(from_ms, _ms(first)), min(to_ms, _ms(last) + 1)
        return from_ms, max(to_ms, from_ms + 1)

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

    def _channels(self) -> list[dict[str, Any]]:
        channels: dict[tuple[str, str, str], _Channel] = {}
        from_ms, width = self._drawn[0], self._slice_ms
        place, last_at = 0, ""
        rows = self._members.lines("readings.csv")
        next(rows)
        for row in rows:
            _, stn, _, _, at, name, unit, value, status = row.split(",")
            if at != last_at:
                place, last_at = (_ms(at) - from_ms) // width, at
            key = (stn, name, unit)
            channel = channels.get(key)
            if channel is None:
                channel = channels[key] = _Channel(*key)
            if 0 <= place < BUCKETS:
                channel.take(place, value, status)
        return [channels[key].to_json(self._limits.get(key[:2])) for key in sorted(channels)]

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
        return list(found.values())

    def _take_extent(self, flag: dict[str, Any] | None, event: Event) -> None:
        """Bring a flag up to what the last event about it says; what lies outside the period has no slice."""
        if flag is None:
            return
        data = event.data
        from_ms: int = flag["from_ms"] if "from_ms" in flag else data["from_ms"]
        to_ms: int = data["to_ms"]
        places = [
            min(max((at - self._drawn[0]) // self._slice_ms, 0), BUCKETS - 1) for at in (from_ms, to_ms)
        ]
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


def _ms(at: str) -> int:
    if at[-1:] != "Z":
        raise ValueError(f"{at!r} is no time of a table")
    return round(datetime.fromisoformat(at).timestamp() * 1000)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def slice_ms(from_ms: int, to_ms: int) -> int:
    """Return the width of a slice: whole minutes, so that at most 240 of them cover the period."""
    return max(1, -(-(to_ms - from_ms) // (BUCKETS * MINUTE_MS))) * MINUTE_MS
