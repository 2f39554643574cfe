"""scope.json of an export bundle: what was asked for, and what the exporter says is inside."""

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from emdi.chain import StationHead
from emdi.encoding import dump_json, load_json
from emdi.errors import BundleError, EncodingError
from emdi.tables import take_sha256
from emdi.units import format_at

_AT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_COUNTS = ("size", "readings", "envelopes", "flags", "reviews")
_BOUNDS = ("ep_first", "seq_first", "ep_last", "seq_last")
_NAMES = ("export_id", "stn", "requester", "purpose")


@dataclass(frozen=True, slots=True)
class Scope:
    """The query and the counts; the four bounds and `head` are None for a station without envelopes in it.

    `from_ms` and `to_ms` are Unix milliseconds (half-open), `requester` an account id, `size` that of
    `checkpoint`.
    """

    export_id: str
    stn: str
    from_ms: int
    to_ms: int
    requester: str
    purpose: str
    ep_first: int | None
    seq_first: int | None
    ep_last: int | None
    seq_last: int | None
    size: int
    readings: int
    envelopes: int
    flags: int
    reviews: int
    head: StationHead | None


def format_scope(scope: Scope) -> bytes:
    """Return scope.json; times as UTC text, env_id in hex."""
    members = asdict(scope)
    head = members.pop("head")
    lead = {"v": 1, "export_id": members.pop("export_id"), "stn": members.pop("stn")}
    lead |= {"from": format_at(members.pop("from_ms")), "to": format_at(members.pop("to_ms"))}
    tail = None if head is None else {"ep": head[0], "seq": head[1], "env_id": head[2].hex()}
    return dump_json({**lead, **members, "head": tail}) + b"\n"


def parse_scope(data: bytes) -> Scope:
    """Read scope.json; raise BundleError("bundle.scope")."""
    try:
        members = load_json(data)
        return _take_scope(members)
    except EncodingError as error:
        raise BundleError("bundle.scope", error.message) from None
    except (KeyError, TypeError, AttributeError):
        raise BundleError("bundle.scope", "a member of scope.json is missing or of another type") from None


def parse_head(members: dict[str, Any] | None) -> StationHead | None:
    """Read {ep, seq, env_id}; raise BundleError, KeyError or TypeError."""
    if members is None:
        return None
    return StationHead(
        _take_count(members["ep"]), _take_count(members["seq"]), take_sha256(members["env_id"])
    )


def _take_scope(members: dict[str, Any]) -> Scope:
    if members["v"] != 1:
        raise BundleError("bundle.scope", "v is 1")
    names = {name: members[name] for name in _NAMES}
    if any(type(value) is not str for value in names.values()):
        raise BundleError("bundle.scope", "a name is not a string")
    fields: dict[str, Any] = dict(names)
    fields |= {name: None if members[name] is None else _take_count(members[name]) for name in _BOUNDS}
    fields |= {name: _take_count(members[name]) for name in _COUNTS}
    fields |= {"from_ms": _take_at(members["from"]), "to_ms": _take_at(members["to"])}
    return Scope(**fields, head=parse_head(members["head"]))


def _take_count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise BundleError("bundle.scope", f"{value!r} is not an integer >= 0")
    return value


def _take_at(value: object) -> int:
    if type(value) is int and value >= 0:
        return value
    if type(value) is not str or _AT.fullmatch(value) is None:
        raise BundleError("bundle.scope", f"{value!r} is not a time like 2026-01-02T03:04:05.678Z")
    try:
        at = datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        raise BundleError("bundle.scope", f"{value!r} is not a time") from None
    return round(at.timestamp() * 1000)
