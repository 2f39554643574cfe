"""scope.json of an export bundle: what was asked for, and what the exporter says is inside."""

import hashlib
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from emdi.chain import StationHead
from emdi.encoding import dump_json, load_json
from emdi.errors import BundleError, EncodingError
from emdi.event import Event
from emdi.tables import take_sha256
from emdi.units import format_at

_AT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_COUNTS = ("size", "head_as_of", "readings", "envelopes", "flags", "reviews")
_NAMES = ("export_id", "requester", "purpose")
_MEMBERS = {"v", "from", "to", "entries", "redacted", "heads", "stations", *_COUNTS, *_NAMES}
MAX_STATIONS = 10_000
# Whose chains of events are whole in every bundle, beside those of its stations and of the officers named.
COMMON_SUBJECTS = ("database", "detector", "log")


class Run(NamedTuple):
    """Envelopes of one station without a hole: the first and the last by (ep, seq)."""

    ep_first: int
    seq_first: int
    ep_last: int
    seq_last: int


@dataclass(frozen=True, slots=True)
class StationScope:
    """One station: its runs of envelopes in the order of the chain, and its last envelope below head_as_of."""

    stn: str
    runs: tuple[Run, ...]
    head: StationHead | None


@dataclass(frozen=True, slots=True)
class Scope:
    """The query and the counts.

    `from_ms` and `to_ms` are Unix milliseconds (half-open), `entries` log indexes (half-open) when only a part
    of the log was asked for, `requester` an account id, `size` that of `checkpoint`. `heads` are the log sizes
    of the heads in the bundle, ascending; the last, `head_as_of`, is where the exported part of the log ends.
    """

    export_id: str
    stations: tuple[StationScope, ...]
    from_ms: int
    to_ms: int
    entries: tuple[int, int] | None
    requester: str
    purpose: str
    redacted: bool
    size: int
    heads: tuple[int, ...]
    head_as_of: int
    readings: int
    envelopes: int
    flags: int
    reviews: int

    @property
    def stns(self) -> tuple[str, ...]:
        """Return the stations' ids in their order."""
        return tuple(station.stn for station in self.stations)


def frozen_export_id(
    origin: str,
    size: int,
    stns: Iterable[str],
    period_ms: tuple[int, int],
    entries: tuple[int, int] | None,
    requester: str,
    purpose: str,
    *,
    redacted: bool,
) -> str:
    """Return the id of an export of the frozen log `origin`, which ended with `size` entries: made of what was asked.

    No event of the log gives an id to one export alone, so equal questions share theirs and others never do.
    """
    asked = [origin, size, list(stns), *period_ms, entries, requester, purpose, redacted]
    return "x" + hashlib.sha256(b"emdi/export/frozen/v1\n" + dump_json(asked)).hexdigest()[:32]


def bounds_of(station: StationScope) -> dict[str, int | None]:
    """Return ep_first, seq_first, ep_last, seq_last over all runs; None without envelopes."""
    names = ("ep_first", "seq_first", "ep_last", "seq_last")
    if not station.runs:
        return dict.fromkeys(names)
    first, last = station.runs[0], station.runs[-1]
    return dict(zip(names, (*first[:2], *last[2:]), strict=True))


def format_scope(scope: Scope) -> bytes:
    """Return scope.json; times as UTC text, env_id in hex."""
    members: dict[str, Any] = {"v": 2, "export_id": scope.export_id}
    members |= {"from": format_at(scope.from_ms), "to": format_at(scope.to_ms)}
    members |= {"entries": scope.entries, "requester": scope.requester, "purpose": scope.purpose}
    members |= {"redacted": scope.redacted, "heads": list(scope.heads)}
    members |= {name: getattr(scope, name) for name in _COUNTS}
    members["stations"] = [
        {"stn": station.stn, "runs": [list(run) for run in station.runs], "head": head_to_json(station.head)}
        for station in scope.stations
    ]
    return dump_json(members) + b"\n"


def parse_scope(data: bytes) -> Scope:
    """Read scope.json; raise BundleError("bundle.scope")."""
    try:
        return _take_scope(load_json(data))
    except EncodingError as error:
        raise BundleError("bundle.scope", error.message) from None
    except (KeyError, TypeError, AttributeError, ValueError):
        raise BundleError("bundle.scope", "a member of scope.json is missing or of another type") from None


def head_to_json(head: StationHead | None) -> dict[str, Any] | None:
    """Return {ep, seq, env_id}, the id in hex."""
    return None if head is None else {"ep": head.ep, "seq": head.seq, "env_id": head.env_id.hex()}


def parse_head(members: dict[str, Any] | None) -> StationHead | None:
    """Read {ep, seq, env_id}; raise BundleError, KeyError or TypeError."""
    if members is None:
        return None
    return StationHead(
        _take_count(members["ep"]), _take_count(members["seq"]), take_sha256(members["env_id"])
    )


def _take_scope(members: dict[str, Any]) -> Scope:
    if members["v"] != 2 or members.keys() != _MEMBERS:
        raise BundleError("bundle.scope", f"v is 2, and the members are {' '.join(sorted(_MEMBERS))}")
    names = {name: members[name] for name in _NAMES}
    if any(type(value) is not str for value in names.values()) or type(members["redacted"]) is not bool:
        raise BundleError("bundle.scope", "a name is not a string, or redacted not true or false")
    stations = tuple(map(_take_station, _take_list(members["stations"])))
    heads = tuple(map(_take_count, _take_list(members["heads"])))
    stns = [station.stn for station in stations]
    if not 0 < len(stns) <= MAX_STATIONS or stns != sorted(set(stns)):
        raise BundleError("bundle.scope", "stations are sorted, each once, at least one")
    if not heads or list(heads) != sorted(set(heads)) or heads[-1] != members["head_as_of"]:
        raise BundleError("bundle.scope", "heads ascend, and the last is head_as_of")
    fields: dict[str, Any] = {**names, "redacted": members["redacted"], "stations": stations, "heads": heads}
    fields |= {name: _take_count(members[name]) for name in _COUNTS}
    fields |= {"from_ms": _take_at(members["from"]), "to_ms": _take_at(members["to"])}
    return Scope(**fields, entries=_take_entries(members["entries"]))


def _take_station(members: dict[str, Any]) -> StationScope:
    if type(members["stn"]) is not str or members.keys() != {"stn", "runs", "head"}:
        raise BundleError("bundle.scope", "a station has exactly stn, runs and head")
    runs = [Run(*map(_take_count, _take_list(run))) for run in _take_list(members["runs"])]
    for run in runs:
        if run[:2] > run[2:]:
            raise BundleError("bundle.scope", "a run ends before it starts")
    if any(one[2:] >= two[:2] for one, two in itertools.pairwise(runs)):
        raise BundleError("bundle.scope", "runs follow each other")
    return StationScope(members["stn"], tuple(runs), parse_head(members["head"]))


def _take_entries(value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    first, end = map(_take_count, _take_list(value))
    return first, end


def _take_list(value: object) -> list[Any]:
    if type(value) is not list:
        raise BundleError("bundle.scope", "not an array")
    return value


def _take_count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise BundleError("bundle.scope", f"{value!r} is not an integer >= 0")
    return value


def _take_at(value: object) -> int:
    if type(value) is not str or _AT.fullmatch(value) is None:
        raise BundleError("bundle.scope", f"{value!r} is not a time like 2026-01-02T03:04:05.678Z")
    try:
        at = datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        raise BundleError("bundle.scope", f"{value!r} is not a time") from None
    return round(at.timestamp() * 1000)


def officers_of(event: Event) -> set[str]:
    """Return the accounts that an event on a station or an account names as having acted."""
    if not event.subj.startswith(("station:", "account:")):
        return set()
    approvals = event.data.get("approvals")
    names = [event.act, *(approvals if isinstance(approvals, list) else [])]
    return {name for name in names if isinstance(name, str) and ":" not in name and name != "system"}
