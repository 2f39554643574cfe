"""SenML packs (RFC 8428) in the profile of envelopes: the records of a station and their spelling."""

import re
from collections import Counter
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any, NamedTuple

from emdi.errors import PackError
from emdi.units import UNITS

MAX_RECORDS = 5000
MIN_AT_MS = 2**28 * 1000
MAX_AT_MS = 253_402_300_799_999
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,63}")
# HJ 212: N normal, F stopped, M maintenance, S set by hand, D fault, C calibration, T over range,
# B communication fault. Ours: H held (the analyser repeats its value, as in blow-back), R substitute data.
STATUSES = frozenset("NFMSDCTBHR")
LABELS = frozenset({"bn", "bt", "bu", "n", "u", "t", "v", "vs", "st"})
MISSING = "missing"

_EXACT = Context(prec=1000)


class Record(NamedTuple):
    """One reading: channel name, Unix ms, unit, value (None when missing) and status letter."""

    name: str
    at_ms: int
    unit: str
    value: Decimal | None
    status: str


def parse_pack(pack: object, stn: str) -> tuple[Record, ...]:
    """Resolve a decoded SenML array of station `stn` into records, in the order sent.

    Raises PackError: pack.form, pack.count, pack.label, pack.bn, pack.name, pack.unit, pack.time, pack.value,
    pack.missing, pack.status, pack.duplicate.
    """
    if type(pack) is not list or not 1 <= len(pack) <= MAX_RECORDS:
        raise PackError("pack.count", f"a pack is an array of 1 to {MAX_RECORDS} records")
    base_name = f"urn:emdi:{stn}:"
    if type(pack[0]) is not dict or pack[0].get("bn") != base_name:
        raise PackError("pack.bn", f"the first record carries bn {base_name!r}")
    base_ms, base_unit = 0, ""
    names: set[str] = set()
    records: list[Record] = []
    for item in pack:
        if type(item) is not dict:
            raise PackError("pack.form", "a record is an object")
        if not item.keys() <= LABELS:
            raise PackError("pack.label", f"unknown label {sorted(item.keys() - LABELS)[0]!r}")
        if "bn" in item and item["bn"] != base_name:
            raise PackError("pack.bn", f"bn is not {base_name!r}")
        if "bt" in item:
            base_ms = _to_ms(item["bt"])
        if "bu" in item:
            base_unit = item["bu"]
            if type(base_unit) is not str:
                raise PackError("pack.unit", "bu is not a string")
        name, unit = item.get("n"), item.get("u", base_unit)
        if type(name) is not str or (name not in names and NAME.fullmatch(name) is None):
            raise PackError("pack.name", f"{name!r} is not a channel name")
        names.add(name)
        if type(unit) is not str or unit not in UNITS:
            raise PackError("pack.unit", f"unit {unit!r} of {name} is not known")
        at_ms = base_ms + _to_ms(item["t"]) if "t" in item else base_ms
        if not MIN_AT_MS <= at_ms <= MAX_AT_MS:
            raise PackError("pack.time", f"the time of {name} is not absolute, or beyond the year 9999")
        records.append(Record(name, at_ms, unit, *_value_and_status(name, item)))
    if len({record[:2] for record in records}) != len(records):
        raise PackError("pack.duplicate", "one channel has two readings at one time")
    return tuple(records)


def format_pack(stn: str, records: Sequence[Record]) -> bytes:
    """Return the SenML JSON of the records, in their order; shared units and times are written once."""
    if not records:
        raise PackError("pack.count", "a pack has at least one record")
    unit, count = Counter(record.unit for record in records).most_common(1)[0]
    base_unit = unit if count > 1 else ""
    base_ms = records[0].at_ms
    lead = f'"bn":"urn:emdi:{stn}:","bt":{_seconds(base_ms)},'
    if base_unit:
        lead += f'"bu":"{base_unit}",'
    parts: list[str] = []
    for position, record in enumerate(records):
        following = records[position + 1].at_ms if position + 1 < len(records) else None
        if record.at_ms != base_ms and record.at_ms == following:
            base_ms = record.at_ms
            lead = f'"bt":{_seconds(base_ms)},'
        parts.append("{" + lead + _format_record(record, base_ms, base_unit) + "}")
        lead = ""
    return ("[" + ",".join(parts) + "]").encode("ascii")


def _format_record(record: Record, base_ms: int, base_unit: str) -> str:
    text = f'"n":"{record.name}"'
    if record.unit != base_unit:
        text += f',"u":"{record.unit}"'
    if record.at_ms != base_ms:
        text += f',"t":{_seconds(record.at_ms - base_ms)}'
    if record.value is None:
        text += f',"vs":"{MISSING}"'
    elif record.value.is_finite():
        text += f',"v":{_number(record.value)}'
    else:
        raise PackError("pack.value", f"the value of {record.name} is not finite")
    return text if record.status == "N" else f'{text},"st":"{record.status}"'


def _number(value: Decimal) -> str:
    text = str(value)
    # I-JSON bounds numbers written as integers, not those written with an exponent.
    return f"{text}E0" if len(text) > 15 and text.lstrip("-").isdigit() else text


def _seconds(span_ms: int) -> str:
    whole, rest = divmod(abs(span_ms), 1000)
    return ("-" if span_ms < 0 else "") + (f"{whole}.{rest:03d}".rstrip("0") if rest else str(whole))


def _to_ms(seconds: object) -> int:
    if type(seconds) is int:
        return seconds * 1000
    if type(seconds) is not Decimal:
        raise PackError("pack.time", "a time is a number of seconds")
    exact = _EXACT.multiply(seconds, Decimal(1000))
    span_ms = int(exact)
    if span_ms != exact:
        raise PackError("pack.time", f"{seconds} s is not a whole number of milliseconds")
    return span_ms


def _value_and_status(name: str, item: dict[str, Any]) -> tuple[Decimal | None, str]:
    status = item.get("st", "N")
    if type(status) is not str or status not in STATUSES:
        raise PackError("pack.status", f"status {status!r} of {name} is not known")
    if "v" in item:
        value = item["v"]
        if "vs" not in item:
            if type(value) is Decimal:
                return value, status
            if type(value) is int:
                return Decimal(value), status
        raise PackError("pack.value", f"{name} carries a finite number v, or vs, not both")
    if item.get("vs") != MISSING:
        raise PackError("pack.value", f'{name} has neither v nor vs "{MISSING}"')
    if status == "N":
        raise PackError("pack.missing", f"{name} is missing without a status that says why")
    return None, status
