"""Readings as columns, for whoever stores them by the thousand: numbers as doubles, no object per reading.

What `format_pack` writes is read straight from its text. Any other spelling, and every refusal, is left to the
general parser: `read_spelled` accepts a strict subset and gives what the general way would give.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from emdi.encoding import load_flat_json
from emdi.errors import EncodingError
from emdi.pack import MAX_AT_MS, MAX_RECORDS, MIN_AT_MS, MISSING, NAME, STATUSES, Record
from emdi.units import UNITS

MAX_START_CHARS = 120  # more than name and unit can take; what is longer is not worth remembering
_PACK = ',"p":['
# At most 15 digits before and after the point, 2 in an exponent: nothing that I-JSON or a double could refuse.
# "-0" is left out: it is the integer 0 to the general parser, and -0.0 to float().
_POWER = r"[eE][+-]?[0-9]{1,2}"
_NUMBER = rf"(?:-?(?:0|[1-9][0-9]{{0,14}})(?:\.[0-9]{{1,15}}(?:{_POWER})?|{_POWER})|-?[1-9][0-9]{{0,14}}|0)"
_NUMBERS = re.compile(rf"{_NUMBER}(?:,{_NUMBER})*+")
_SECONDS = r"-?(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,3})?"
_START = re.compile(rf'"n":"({NAME.pattern})"(?:,"u":"([^"\\]*)")?')
_RECORD = re.compile(
    r'(?:"bn":"([A-Za-z0-9._:-]*)",)?'
    rf'(?:"bt":({_SECONDS}),)?'
    r'(?:"bu":"([^"\\]*)",)?'
    rf'"n":"({NAME.pattern})"'
    r'(?:,"u":"([^"\\]*)")?'
    rf'(?:,"t":({_SECONDS}))?'
    rf'(?:,"v":({_NUMBER})|,"vs":"{MISSING}")'
    rf'(?:,"st":"([{"".join(sorted(STATUSES))}])")?'
)


class Columns(NamedTuple):
    """Readings in the order sent: `series` are the distinct (name, unit) in order of appearance.

    `which` gives each reading's place in `series`; the other columns its Unix ms, value (None when missing)
    and status letter.
    """

    series: tuple[tuple[str, str], ...]
    which: list[int]
    at_ms: list[int]
    values: list[float | None]
    statuses: list[str]


def columns_of(records: Sequence[Record]) -> Columns:
    """Return records as columns, each value as the nearest double."""
    places: dict[tuple[str, str], int] = {}
    which = [places.setdefault((record.name, record.unit), len(places)) for record in records]
    values = [None if record.value is None else float(record.value) for record in records]
    times = [record.at_ms for record in records]
    return Columns(tuple(places), which, times, values, [record.status for record in records])


def read_spelled(payload: bytes) -> tuple[dict[str, Any], Columns] | None:
    """Return the claims of an envelope, `p` set to None, and its readings; None when it is spelled otherwise.

    The claims other than `p` are parsed as JSON and not checked further.
    """
    try:
        head, pack, tail = payload.decode("ascii").partition(_PACK)
        if not pack or not tail.startswith("{") or not tail.endswith("}]}"):
            return None
        claims = load_flat_json(head.encode() + b"}")
        # A pack that follows no member, or a second "p", is none of ours.
        if type(claims) is not dict or not claims or "p" in claims:
            return None
        columns = _Reader(f"urn:emdi:{claims.get('stn')}:").read(tail[1:-3].split("},{"))
    except (EncodingError, ValueError):
        return None
    claims["p"] = None
    return claims, columns


class _Reader:
    """Read record after record; ValueError says that the text is not in our own spelling."""

    def __init__(self, base_name: str) -> None:
        self._base_name = base_name
        self._base_ms = 0
        self._base_unit = ""
        self._series: dict[tuple[str, str], int] = {}
        self._known: dict[str, int] = {}  # how a record starts that has neither base nor time: its series

    def read(self, items: Sequence[str]) -> Columns:
        """Return the columns of a whole pack, given the insides of its objects."""
        if len(items) > MAX_RECORDS:
            raise ValueError
        known, base_ms = self._known, self._base_ms
        which: list[int] = []
        times: list[int] = []
        numbers: list[str] = []
        statuses: dict[int, str] = {}  # by position, those that are not plain N
        missing: list[int] = []
        for item in items:
            start, _, number = item.rpartition(',"v":')
            series = known.get(start)
            if series is None and which:
                series = self._meet(start)
            if series is not None and number[-1:] != '"':
                which.append(series)
                times.append(base_ms)
                numbers.append(number)
                continue
            series, at_ms, number_or_none, status = self._record(item, first=not which)
            base_ms = self._base_ms
            if number_or_none is None:
                missing.append(len(which))
            statuses[len(which)] = status
            which.append(series)
            times.append(at_ms)
            numbers.append(number_or_none or "0")
        self._check(which, times)
        return Columns(
            tuple(self._series), which, times, _values(numbers, missing), _statuses(len(which), statuses)
        )

    def _meet(self, start: str) -> int | None:
        """Return the series of a record that starts with nothing but name and unit; else None."""
        named = _name_of(start) if len(start) <= MAX_START_CHARS else None
        if named is None:
            return None
        name, unit = named
        series = self._place(name, self._base_unit if unit is None else unit)
        self._known[start] = series
        return series

    def _place(self, name: str, unit: str) -> int:
        if unit not in UNITS:
            raise ValueError
        return self._series.setdefault((name, unit), len(self._series))

    def _record(self, item: str, *, first: bool) -> tuple[int, int, str | None, str]:
        """Read one record that may set bases: series, time, number as written (None when missing), status."""
        match = _RECORD.fullmatch(item)
        if match is None:
            raise ValueError
        base_name, base_time, base_unit, name, unit, time, number, status = match.groups()
        if base_name != self._base_name and (first or base_name is not None):
            raise ValueError
        if base_time is not None:
            self._base_ms = _ms(base_time)
        if base_unit is not None:
            self._base_unit = base_unit
            self._known.clear()
        if number is None and status in (None, "N"):
            raise ValueError
        series = self._place(name, self._base_unit if unit is None else unit)
        at_ms = self._base_ms if time is None else self._base_ms + _ms(time)
        return series, at_ms, number, status or "N"

    def _check(self, which: Sequence[int], times: Sequence[int]) -> None:
        if not MIN_AT_MS <= min(times) <= max(times) <= MAX_AT_MS:
            raise ValueError
        if len({name for name, _ in self._series}) != len(self._series):
            raise ValueError
        if len(set(zip(which, times, strict=True))) != len(times):
            raise ValueError


# Stations repeat their channels for ever.
@lru_cache(maxsize=4096)
def _name_of(start: str) -> tuple[str, str | None] | None:
    match = _START.fullmatch(start)
    return None if match is None else (match[1], match[2])


def _values(numbers: Sequence[str], missing: Sequence[int]) -> list[float | None]:
    """Return the numbers as doubles; those at the positions `missing` as None."""
    values: list[float | None] = list(map(float, numbers))
    # float() takes more spellings than JSON, but none with a comma: together the two leave only ours.
    if _NUMBERS.fullmatch(",".join(numbers)) is None:
        raise ValueError
    for position in missing:
        values[position] = None
    return values


def _statuses(count: int, others: Mapping[int, str]) -> list[str]:
    statuses = ["N"] * count
    for position, status in others.items():
        statuses[position] = status
    return statuses


def _ms(seconds: str) -> int:
    whole, _, rest = seconds.partition(".")
    return int(whole + rest.ljust(3, "0"))
