"""The rows that events call for: station, channel, key, flag, extension, review, export."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from emdi.encoding import b64u_decode
from emdi.event import Event
from emdi.tables import take_sha256
from stackwitness.log.fsck.report import Report

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# How the database's columns are brought into the form the events speak of.
QUERIES = {
    "station": "SELECT stn AS key, event_id, name, agency, industry, lat, lon, utc_offset_min FROM station",
    "channel": "SELECT stn || ' ' || name AS key, event_id, quantity, unit, role, limit_value, resolution "
    "FROM channel",
    "station_key": "SELECT kid AS key, event_id, stn, alg, public_key FROM station_key",
    "key_revocation": "SELECT kid AS key, event_id FROM key_revocation",
    "flag": "SELECT flag_id AS key, event_id, stn, detector, detector_version, kind, verdict, from_at, "
    "to_at, channels, e_value, episode, text_en, text_zh, plot, raised_at FROM flag",
    "flag_extension": "SELECT encode(event_id, 'hex') AS key, event_id, flag_id, to_at, e_value, text_en, "
    "text_zh, plot FROM flag_extension",
    "review": "SELECT review_id AS key, event_id, flag_id, account_id, decision, reason, salt, decided_at "
    "FROM review",
    "export": "SELECT export_id AS key, event_id, stn, manifest_sha256 FROM export",
}


@dataclass(frozen=True)
class Expected:
    """A row an event calls for: its columns (those that the event fixes), and where the event stands."""

    event_id: bytes
    idx: int | None
    columns: dict[str, Any]


@dataclass
class Records:
    """Collect expected rows by table and key; `compare` them with the database at the end."""

    tables: dict[str, dict[str, Expected]] = field(default_factory=lambda: {name: {} for name in QUERIES})

    def expect(self, event: Event, idx: int | None) -> None:
        """Note the rows one event calls for; raises KeyError or TypeError when its data lacks members."""
        make = MAKERS.get(event.typ)
        for table, key, columns in make(event) if make else ():
            # The first event that names a row made it; a later one that names it again did not change it.
            self.tables[table].setdefault(key, Expected(event.event_id, idx, columns))

    def compare(self, conn: sa.Connection, report: Report) -> None:
        """Find rows that are gone, edited, or that no event called for."""
        for table, query in QUERIES.items():
            expected = dict(self.tables[table])
            for row in conn.execute(sa.text(query).execution_options(yield_per=1000)):
                stored = {name: plain(value) for name, value in row._mapping.items()}
                digest_texts(stored)
                key = str(stored.pop("key"))
                wanted = expected.pop(key, None)
                if wanted is None:
                    report.tamper(f"{table}.surplus", table, key, "no event in the log calls for this row")
                    continue
                differing = [
                    f"{name} is {stored.get(name)!r}, the event says {value!r}"
                    for name, value in {"event_id": wanted.event_id, **wanted.columns}.items()
                    if stored.get(name) != value
                ]
                if differing:
                    report.tamper(f"{table}.edited", table, key, "; ".join(differing), wanted.idx)
            for key, gone in expected.items():
                place = "waits for the log" if gone.idx is None else f"is event idx {gone.idx} in the log"
                report.miss(f"{table}.missing", table, key, f"{table} {key} {place} but has no row", gone.idx)


def plain(value: Any) -> Any:
    """Return a column's value in a form that compares with JSON's: bytes, tuples, milliseconds."""
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, datetime):
        return (value - _EPOCH) / timedelta(milliseconds=1)
    return value


def digest_texts(stored: dict[str, Any]) -> None:
    """Replace what events name only by digest: the plot, and a review's reason with its salt."""
    if "plot" in stored:
        stored["plot"] = hashlib.sha256(stored["plot"].encode()).digest()
    if "reason" in stored:
        stored["reason"] = hashlib.sha256(stored.pop("salt") + stored["reason"].encode()).digest()


Rows = Iterator[tuple[str, str, dict[str, Any]]]


def _station(event: Event) -> Rows:
    data = event.data
    names = ("name", "agency", "industry", "lat", "lon", "utc_offset_min")
    yield "station", data["stn"], {name: number(data[name]) for name in names}


def _channels(event: Event) -> Rows:
    for channel in event.data["channels"]:
        columns = {name: channel[name] for name in ("quantity", "unit", "role")}
        columns |= {
            "limit_value": number(channel.get("limit")),
            "resolution": number(channel.get("resolution")),
        }
        yield "channel", f"{event.data['stn']} {channel['name']}", columns


def _key(event: Event) -> Rows:
    data = event.data
    columns = {"stn": data["stn"], "alg": data["alg"], "public_key": b64u_decode(data["public_b64u"])}
    yield "station_key", data["kid"], columns


def _revocation(event: Event) -> Rows:
    yield "key_revocation", event.data["kid"], {}


def _flag(event: Event) -> Rows:
    data = event.data
    names = ("detector", "detector_version", "kind", "verdict", "episode", "text_en", "text_zh")
    columns = {name: data[name] for name in names}
    columns |= {"stn": event.subj.partition(":")[2], "channels": tuple(data["channels"])}
    columns |= {"from_at": data["from_ms"], "to_at": data["to_ms"], "e_value": number(data["e_value"])}
    columns |= {"plot": take_sha256(data["plot_sha256"]), "raised_at": event.ts_ms}
    yield "flag", data["flag_id"], columns


def _extension(event: Event) -> Rows:
    data = event.data
    columns = {name: data[name] for name in ("flag_id", "text_en", "text_zh")}
    columns |= {"to_at": data["to_ms"], "e_value": number(data["e_value"])}
    yield "flag_extension", event.event_id.hex(), {**columns, "plot": take_sha256(data["plot_sha256"])}


def _review(event: Event) -> Rows:
    data = event.data
    columns = {"flag_id": data["flag_id"], "decision": data["decision"], "account_id": event.act}
    columns |= {"reason": take_sha256(data["reason_sha256"]), "decided_at": event.ts_ms}
    yield "review", data["review_id"], columns


def _export(event: Event) -> Rows:
    data = event.data
    columns = {"stn": event.subj.partition(":")[2], "manifest_sha256": take_sha256(data["manifest_sha256"])}
    yield "export", data["export_id"], columns


def number(value: Any) -> Any:
    """Return JSON's decimals as the doubles a column holds; anything else as it is."""
    return float(value) if isinstance(value, Decimal) else value


MAKERS: dict[str, Callable[[Event], Rows]] = {
    "station.register": _station,
    "channel.set": _channels,
    "key.register": _key,
    "key.rotate": _key,
    "key.revoke": _revocation,
    "flag.raised": _flag,
    "flag.extended": _extension,
    "review.decision": _review,
    "export.made": _export,
}
