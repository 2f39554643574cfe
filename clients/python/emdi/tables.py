"""The human tables of an export bundle, spelled so that writer and verifier get the same bytes."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from emdi.columns import Columns
from emdi.encoding import b64u_decode, b64u_encode, dump_json, load_json
from emdi.errors import BundleError, EncodingError
from emdi.pack import Record
from emdi.units import format_at, format_value

READINGS_HEADER = "idx,stn,ep,seq,at,channel,unit,value,status\n"
FLAGS_HEADER = "idx,flag_id,detector,kind,verdict,from,to,channels,text_sha256\n"
REVIEWS_HEADER = "idx,review_id,flag_id,decision,act\n"
CUSTODY_HEADER = "idx,at,station,act,what,id,by\n"
CUSTODY = frozenset(
    {"evidence.viewed", "evidence.downloaded", "export.requested", "export.made", "export.covers"}
)
# Members of events that are SHA-256(salt[32] || text): the text itself is disclosed, or withheld.
SALTED = ("reason_sha256", "why_sha256", "display_sha256")
# What stands for a salt where only the hash is known; no real salt is all zeros.
UNKNOWN_SALT = bytes(32)
_FORBIDDEN = frozenset(',"\r\n')


def readings_csv_row(
    idx: int,
    stn: str,
    ep: int,
    seq: int,
    at_ms: int,
    channel: str,
    unit: str,
    value: float | None,
    status: str,
) -> str:
    """Return one line of readings.csv; rows are ordered by idx, at, channel (bytewise)."""
    fields = (str(idx), stn, str(ep), str(seq), format_at(at_ms), channel, unit, format_value(value), status)
    return ",".join(fields) + "\n"


def readings_csv_rows(idx: int, stn: str, ep: int, seq: int, records: Iterable[Record]) -> list[str]:
    """Return the lines of one envelope in their order; values are the doubles nearest to those signed."""
    ordered = sorted(records, key=lambda record: (record.at_ms, record.name))
    lead = f"{idx},{stn},{ep},{seq},"
    rows: list[str] = []
    at_ms, at = -1, ""
    for record in ordered:
        if record.at_ms != at_ms:
            at_ms, at = record.at_ms, format_at(record.at_ms)
        value = "" if record.value is None else repr(float(record.value))
        rows.append(f"{lead}{at},{record.name},{record.unit},{value},{record.status}\n")
    return rows


def readings_csv_columns(idx: int, stn: str, ep: int, seq: int, columns: Columns) -> list[str]:
    """Return what `readings_csv_rows` returns, for readings as columns."""
    names = [name for name, _ in columns.series]
    spelled = [f",{name},{unit}," for name, unit in columns.series]
    readings = sorted(
        zip(
            columns.at_ms,
            [names[place] for place in columns.which],
            [spelled[place] for place in columns.which],
            ["" if value is None else repr(value) for value in columns.values],
            columns.statuses,
            strict=True,
        )
    )
    lead = f"{idx},{stn},{ep},{seq},"
    rows: list[str] = []
    at_ms, at = -1, ""
    for row_ms, _, middle, value, status in readings:
        if row_ms != at_ms:
            at_ms, at = row_ms, lead + format_at(row_ms)
        rows.append(f"{at}{middle}{value},{status}\n")
    return rows


def flags_csv_row(
    idx: int,
    flag_id: str,
    detector: str,
    kind: str,
    verdict: str,
    from_ms: int,
    to_ms: int,
    channels: Sequence[str],
    text_sha256: str,
) -> str:
    """Return one line of flags.csv, one per flag.raised event by idx; channels are joined by spaces."""
    period = (format_at(from_ms), format_at(to_ms))
    return _row(str(idx), flag_id, detector, kind, verdict, *period, " ".join(channels), text_sha256)


def reviews_csv_row(idx: int, review_id: str, flag_id: str, decision: str, act: str) -> str:
    """Return one line of reviews.csv, one per review.decision event by idx; `act` is the account id."""
    return _row(str(idx), review_id, flag_id, decision, act)


def custody_csv_row(idx: int, subj: str, typ: str, ts_ms: int, act: str, data: Mapping[str, Any]) -> str:
    """Return one line of custody.csv, one per event of CUSTODY by idx: who saw, fetched or exported what, when.

    `data` is the event's; raises KeyError or BundleError("bundle.csv") when it does not give a row.
    """
    what = data["what"] if typ == "evidence.viewed" else "export"
    name = data["id"] if typ == "evidence.viewed" else data["export_id"]
    fields = (str(idx), format_at(ts_ms), subj.partition(":")[2], typ, str(what), str(name), act)
    return _row(*fields)


def flag_text_sha256(text_en: str, text_zh: str) -> str:
    """Return the lowercase hex SHA-256 of text_en, a newline and text_zh."""
    return hashlib.sha256(f"{text_en}\n{text_zh}".encode()).hexdigest()


class Disclosure(NamedTuple):
    """A text whose digest stands in an event (a member of SALTED): SHA-256(salt || UTF-8 text)."""

    event_id: bytes
    salt: bytes
    text: str

    @property
    def digest(self) -> bytes:
        """Return the digest the event commits to."""
        return salted_sha256(self.salt, self.text)


def salted_sha256(salt: bytes, text: str) -> bytes:
    """Return the 32 bytes by which an event names a free text, SHA-256(salt || UTF-8): nobody can guess it."""
    return hashlib.sha256(salt + text.encode("utf-8")).digest()


def format_disclosure(disclosure: Disclosure) -> str:
    """Return one line of disclosures.jsonl: event_id in hex, salt in base64url, the text."""
    line = {
        "event_id": disclosure.event_id.hex(),
        "salt": b64u_encode(disclosure.salt),
        "text": disclosure.text,
    }
    return dump_json(line).decode("utf-8") + "\n"


def parse_disclosure(line: str) -> Disclosure:
    """Read one line of disclosures.jsonl; raise BundleError("bundle.disclosure")."""
    try:
        members = load_json(line.encode("utf-8"))
    except EncodingError as error:
        raise BundleError("bundle.disclosure", error.message) from None
    if not isinstance(members, dict) or members.keys() != {"event_id", "salt", "text"}:
        raise BundleError("bundle.disclosure", "a line holds exactly event_id, salt and text")
    if type(members["text"]) is not str:
        raise BundleError("bundle.disclosure", "text is not a string")
    return Disclosure(take_sha256(members["event_id"]), take_sha256(members["salt"]), members["text"])


def take_sha256(text: object) -> bytes:
    """Return 32 bytes written in lowercase hex or canonical base64url; raise BundleError("bundle.digest")."""
    if type(text) is str and len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return bytes.fromhex(text)
    if type(text) is str and len(text) == 43:
        try:
            return b64u_decode(text)
        except EncodingError:
            pass
    raise BundleError("bundle.digest", "not 32 bytes in lowercase hex or base64url")


def _row(*fields: str) -> str:
    for field in fields:
        if not _FORBIDDEN.isdisjoint(field):
            raise BundleError("bundle.csv", f"{field!r} cannot stand in a table")
    return ",".join(fields) + "\n"
