"""The human tables of an export bundle, spelled so that writer and verifier get the same bytes."""

import hashlib
from collections.abc import Iterable, Sequence

from emdi.errors import BundleError
from emdi.pack import Record
from emdi.units import format_at, format_value

READINGS_HEADER = "idx,stn,ep,seq,at,channel,unit,value,status\n"
FLAGS_HEADER = "idx,flag_id,detector,kind,verdict,from,to,channels,text_sha256\n"
REVIEWS_HEADER = "idx,review_id,flag_id,decision,act\n"
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


def flag_text_sha256(text_en: str, text_zh: str) -> str:
    """Return the lowercase hex SHA-256 of text_en, a newline and text_zh."""
    return hashlib.sha256(f"{text_en}\n{text_zh}".encode()).hexdigest()


def _row(*fields: str) -> str:
    for field in fields:
        if not _FORBIDDEN.isdisjoint(field):
            raise BundleError("bundle.csv", f"{field!r} cannot stand in a table")
    return ",".join(fields) + "\n"
