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
from emdi.tables import UNKNOWN_SALT, salted_sha256, take_sha256
from stackwitness.log.fsck.report import Report

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# How the database's columns are brought into the form the events speak of.
QUERIES = {
    "station": "SELECT stn AS key, event_id, name, agency, industry, lat, lon, utc_offset_min FROM station",
    "channel": "SELECT stn || ' ' || name AS key, event_id, quantity, unit, role, limit_value, resolution "
    "FROM channel",
    "station_key": "SELECT kid AS key, event_id, stn, alg, public_key FROM station_key",
    "key_revocation": "SELECT kid AS key, event_id FROM key_revocation",
    "service_key": "SELECT kid AS key, event_id, old_kid, alg, public_key FROM service_key",
    "key_request": "SELECT kid AS key, event_id, stn, alg, public_key, proof, account_id FROM key_request",
    "key_compromise": "SELECT encode(event_id, 'hex') AS key, event_id, kid, suspect_from_idx FROM key_compromise",
    "epoch": "SELECT stn || ' ' || ep AS key, event_id, prev_ep, env_id FROM epoch",
    "epoch_ack": "SELECT stn || ' ' || ep AS key, event_id, account_id FROM epoch_ack",
    "gap": "SELECT encode(env_id, 'hex') AS key, event_id, stn, ep, seq_first, seq_last, why FROM gap",
    "channel_limit": "SELECT encode(event_id, 'hex') AS key, event_id, stn, name, limit_value, from_at "
    "FROM channel_limit",
    "explanation": "SELECT encode(event_id, 'hex') AS key, event_id, why, salt FROM explanation",
    "account": "SELECT account_id AS key, event_id, role, agency, display_name, salt, created_at FROM account",
    "access_token": "SELECT encode(token_hash, 'hex') AS key, event_id, account_id, kind, expires_at "
    "FROM access_token",
    "flag": "SELECT flag_id AS key, event_id, stn, detector, detector_version, kind, verdict, from_at, "
    "to_at, channels, e_value, episode, text_en, text_zh, plot, raised_at FROM flag",
    "flag_extension": "SELECT encode(event_id, 'hex') AS key, event_id, flag_id, to_at, e_value, text_en, "
    "text_zh, plot FROM flag_extension",
    "flag_lapse": "SELECT encode(event_id, 'hex') AS key, event_id, flag_id, to_at, lapsed_at FROM flag_lapse",
    "review": "SELECT review_id AS key, event_id, flag_id, account_id, decision, reason, salt, decided_at "
    "FROM review",
    "ddl_seen": "SELECT seen_no::text AS key, event_id, at_ms, tag, identity, ddl_seen.role,"
    " sha256(convert_to(statement, 'UTF8')) AS statement FROM ddl_seen JOIN ddl_event USING (seen_no)",
    # A catalog of a revision that has passed, lost with the database it was of: nothing is compared with it any more.
    "catalog_baseline": "SELECT revision AS key, event_id, sha256, CASE WHEN lines = '' AND NOT EXISTS"
    " (SELECT FROM alembic_version WHERE version_num = revision) THEN sha256"
    " ELSE sha256(convert_to(lines, 'UTF8')) END AS lines FROM catalog_baseline",
    "head_daily": "SELECT as_of::text AS key, event_id, date, lines, root, occasion FROM head_daily",
    "custody": "SELECT encode(event_id, 'hex') AS key, event_id, typ, stn, what, object_id, account_id, day::text "
    "AS day FROM custody",
    "export_request": "SELECT export_id AS key, event_id, stn, stns, from_at, to_at, first_idx, end_idx, account_id, "
    "redacted, requested_at FROM export_request",
    "export_station": "SELECT export_id || ' ' || stn AS key, event_id FROM export_station",
    "export": "SELECT export_id AS key, event_id, stn, manifest_sha256, made_at FROM export",
    "log_freeze": "SELECT encode(event_id, 'hex') AS key, event_id, successor_origin FROM log_freeze",
}

# A token that is gone lets nobody in: only one that was put there, or changed, is an attack.
MAY_BE_GONE = frozenset({"access_token"})
# Columns that events name only by SHA-256, salted by the row's own `salt`.
SALTED = ("reason", "why", "display_name")
# What stands in a column, digested, where a rebuild did not know the text: no text is none, of a drawing `{}`.
STAND_INS = {
    name: hashlib.sha256(text.encode()).digest()
    for name, text in (("plot", "{}"), ("statement", ""), ("lines", ""))
}
RESTORE = "a backup restores it"
RESTORE_TEXT = f"{RESTORE}, or rebuild --disclosures with a bundle's disclosures.jsonl"


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
        for table, key, columns in rows_for(event):
            # The first event that names a row made it; a later one that names it again did not change it.
            self.tables[table].setdefault(key, Expected(event.event_id, idx, columns))

    def compare(self, conn: sa.Connection, report: Report) -> None:
        """Find rows that are gone, edited, or that no event called for."""
        for table, query in QUERIES.items():
            expected = dict(self.tables[table])
            for row in conn.execute(sa.text(query).execution_options(yield_per=1000)):
                stored = {name: plain(value) for name, value in row._mapping.items()}
                unknown = digest_texts(stored)
                key = str(stored.pop("key"))
                wanted = expected.pop(key, None)
                if wanted is None:
                    report.tamper(f"{table}.surplus", table, key, "no event in the log calls for this row")
                    continue
                differing = [
                    f"{name} is {stored.get(name)!r}, the event says {value!r}"
                    for name, value in {"event_id": wanted.event_id, **wanted.columns}.items()
                    if stored.get(name) != value and name not in unknown
                ]
                for name in sorted(unknown & wanted.columns.keys()):
                    if stored[name] != wanted.columns[name]:
                        text = f"{name} is not known here: {RESTORE_TEXT if name in SALTED else RESTORE}"
                        report.miss(f"{table}.text", table, key, text, wanted.idx)
                if differing:
                    report.tamper(f"{table}.edited", table, key, "; ".join(differing), wanted.idx)
            for key, gone in () if table in MAY_BE_GONE else expected.items():
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


def digest_texts(stored: dict[str, Any]) -> set[str]:
    """Replace what events name only by digest: the plot, and texts with their salt; return those nobody knows here."""
    if "plot" in stored:
        stored["plot"] = hashlib.sha256((stored["plot"] or "").encode()).digest()
    unknown = {name for name, digest in STAND_INS.items() if stored.get(name) == digest}
    if "salt" in stored:
        salt = stored.pop("salt") or b""
        texts = {name: stored[name] or "" for name in SALTED if name in stored}
        stored |= {name: salted_sha256(salt, text) for name, text in texts.items()}
        unknown |= {name for name, text in texts.items() if salt == UNKNOWN_SALT and not text}
    return unknown


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


def _rotation(event: Event) -> Rows:
    yield from _key(event)
    yield "key_revocation", event.data["old_kid"], {}


def _request(event: Event) -> Rows:
    (_, kid, columns), *_rest = _key(event)
    yield "key_request", kid, {**columns, "proof": event.data["proof"], "account_id": event.act}


def _service_key(event: Event) -> Rows:
    data = event.data
    columns = {"old_kid": data["old_kid"], "alg": data["alg"]}
    yield "service_key", data["kid"], {**columns, "public_key": b64u_decode(data["public_b64u"])}


def _revocation(event: Event) -> Rows:
    yield "key_revocation", event.data["kid"], {}


def _compromise(event: Event) -> Rows:
    columns = {name: event.data[name] for name in ("kid", "suspect_from_idx")}
    yield "key_compromise", event.event_id.hex(), columns
    yield from _revocation(event)


def _epoch(event: Event) -> Rows:
    data = event.data
    columns = {"prev_ep": data["prev_ep"], "env_id": take_sha256(data["env_id"])}
    yield "epoch", f"{event.subj.partition(':')[2]} {data['ep']}", columns


def _epoch_ack(event: Event) -> Rows:
    yield "epoch_ack", f"{event.subj.partition(':')[2]} {event.data['ep']}", {"account_id": event.act}


def _gap(event: Event) -> Rows:
    data = event.data
    columns = {"stn": event.subj.partition(":")[2], "ep": data["ep"], "why": data["why"]}
    yield "gap", data["env_id"], {**columns, "seq_first": data["from"], "seq_last": data["to"]}


def _limit(event: Event) -> Rows:
    data = event.data
    columns = {"stn": data["stn"], "name": data["channel"], "limit_value": number(data["new"])}
    yield "channel_limit", event.event_id.hex(), {**columns, "from_at": data["from_ms"]}


def _account(event: Event) -> Rows:
    data = event.data
    columns = {
        "role": data["role"],
        "agency": data["agency"],
        "display_name": take_sha256(data["display_sha256"]),
    }
    yield "account", data["account_id"], {**columns, "created_at": event.ts_ms}


def _token(event: Event) -> Rows:
    data = event.data
    columns = {"account_id": data["account_id"], "kind": data["kind"], "expires_at": data["expires_ms"]}
    yield "access_token", data["token_sha256"], columns


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


def _lapse(event: Event) -> Rows:
    columns = {"flag_id": event.data["flag_id"], "to_at": event.data["to_ms"], "lapsed_at": event.ts_ms}
    yield "flag_lapse", event.event_id.hex(), columns


def _review(event: Event) -> Rows:
    data = event.data
    columns = {"flag_id": data["flag_id"], "decision": data["decision"], "account_id": event.act}
    columns |= {"reason": take_sha256(data["reason_sha256"]), "decided_at": event.ts_ms}
    yield "review", data["review_id"], columns


def _request_export(event: Event) -> Rows:
    data, stn = event.data, event.subj.partition(":")[2]
    yield "export_station", f"{data['export_id']} {stn}", {}
    if stn != data["stns"][0]:
        return
    first_idx, end_idx = data["entries"] or (None, None)
    columns = {"stn": stn, "stns": tuple(data["stns"]), "first_idx": first_idx, "end_idx": end_idx}
    columns |= {"from_at": data["from_ms"], "to_at": data["to_ms"], "redacted": data["redacted"]}
    yield (
        "export_request",
        data["export_id"],
        {**columns, "account_id": event.act, "requested_at": event.ts_ms},
    )


def _export(event: Event) -> Rows:
    data = event.data
    columns = {"stn": event.subj.partition(":")[2], "manifest_sha256": take_sha256(data["manifest_sha256"])}
    yield "export", data["export_id"], {**columns, "made_at": event.ts_ms}


def _freeze(event: Event) -> Rows:
    yield "log_freeze", event.event_id.hex(), {"successor_origin": event.data["successor_origin"]}


def _ddl(event: Event) -> Rows:
    data = event.data
    columns = {name: data[name] for name in ("at_ms", "tag", "identity", "role")}
    yield "ddl_seen", str(data["seen_no"]), {**columns, "statement": take_sha256(data["statement_sha256"])}


def _baseline(event: Event) -> Rows:
    sha256 = take_sha256(event.data["sha256"])
    yield "catalog_baseline", event.data["revision"], {"sha256": sha256, "lines": sha256}


def number(value: Any) -> Any:
    """Return JSON's decimals as the doubles a column holds; anything else as it is."""
    return float(value) if isinstance(value, Decimal) else value


def _head(event: Event) -> Rows:
    data = event.data
    columns = {name: data[name] for name in ("date", "lines", "occasion")}
    yield "head_daily", str(data["as_of"]), {**columns, "root": b64u_decode(data["root_b64u"])}


def _custody(event: Event) -> Rows:
    data = event.data
    downloaded = event.typ == "evidence.downloaded"
    columns = {"typ": event.typ, "stn": event.subj.partition(":")[2], "account_id": data["by"]}
    columns |= {"what": "export" if downloaded else data["what"], "day": data["day"]}
    columns |= {"object_id": data["export_id"] if downloaded else data["id"]}
    yield "custody", event.event_id.hex(), columns


MAKERS: dict[str, Callable[[Event], Rows]] = {
    "station.register": _station,
    "channel.set": _channels,
    "key.register": _key,
    "key.request": _request,
    "key.rotate": _rotation,
    "key.revoke": _revocation,
    "service.key": _service_key,
    "key.compromise": _compromise,
    "epoch.open": _epoch,
    "epoch.ack": _epoch_ack,
    "gap.opened": _gap,
    "limit.change": _limit,
    "access.grant": _account,
    "access.token": _token,
    "flag.raised": _flag,
    "flag.extended": _extension,
    "flag.lapsed": _lapse,
    "review.decision": _review,
    "export.requested": _request_export,
    "export.made": _export,
    "head.daily": _head,
    "evidence.viewed": _custody,
    "evidence.downloaded": _custody,
    "db.ddl": _ddl,
    "log.freeze": _freeze,
    "catalog.baseline": _baseline,
}


def rows_for(event: Event) -> Rows:
    """Yield (table, key, columns) of the rows an event calls for; raises KeyError or TypeError as the makers do."""
    make = MAKERS.get(event.typ)
    if make is not None:
        yield from make(event)
    if "why_sha256" in event.data:
        yield "explanation", event.event_id.hex(), {"why": take_sha256(event.data["why_sha256"])}
