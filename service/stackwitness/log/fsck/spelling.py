"""Read envelopes that are spelled like the one before: their literal text is compared, only the rest is read.

A station repeats its payload but for place, time and values. What has the same text around them as an envelope that
the strict parser took is what that parser would take, with the same result; whatever differs goes to the parser.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from emdi.columns import Columns
from emdi.encoding import b64u_encode
from emdi.envelope import Envelope, parse_columns
from emdi.jws import split_jws
from emdi.pack import MAX_AT_MS, MIN_AT_MS
from stackwitness.log.fsck.projection import PG_EPOCH_US, ROW

TYP = "emdi-rd+jws"
MAX_RECORDS = 1500
MAX_SHAPES = 4
_UINT = r"(0|[1-9][0-9]{0,14})"
_HASH = r"([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])"
_POWER = r"[eE][+-]?[0-9]{1,2}"
_NUMBER = rf"(-?(?:0|[1-9][0-9]{{0,14}})(?:\.[0-9]{{1,15}}(?:{_POWER})?|{_POWER})|-?[1-9][0-9]{{0,14}}|0)"
_CLAIMS = re.compile(
    r'\{"v":1,"stn":"([A-Za-z0-9._-]{1,64})","ep":' + _UINT + ',"seq":' + _UINT + ',"prev":"' + _HASH
    + '","iat":' + _UINT + r',"cp":(?:null|\[[1-9][0-9]{0,14},"' + _HASH.replace("(", "(?:") + r'"\]),"p":'
)  # fmt: skip
# A quote before v: is never inside a string, where it would be escaped.
_VALUE = re.compile(f'"v":{_NUMBER}(?=[,}}])')
_BASE = re.compile(r'"bt":(-?(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,3})?)(?=[,}])')


class Read(NamedTuple):
    """What the checker needs of one envelope: its place, its time span (ms), and its rows of `reading` as ROW."""

    stn: str
    ep: int
    seq: int
    prev_b64u: str
    skips: bool
    kid: str
    alg: str
    env_id: bytes
    signature: bytes
    iat_ms: int
    first_ms: int
    last_ms: int
    reading_count: int
    packed: bytes


class Shape:
    """How one station spells: the text between place, time and values, and what its rows have in common."""

    def __init__(self, payload: str, columns: Columns, numbers: Mapping[str, int]) -> None:
        claims = _CLAIMS.match(payload)
        base = _BASE.search(payload)
        if claims is None or base is None or payload.count('"bt":') != 1 or None in columns.values:
            raise ValueError
        pieces = _VALUE.split(payload[claims.end() :])
        self.literals = pieces[::2]
        count = len(columns.values)
        if len(pieces) != 2 * count + 1 or '"bt":' not in pieces[0]:
            raise ValueError
        self.stn = claims[1]
        self.literals[0] = _BASE.sub("\0", pieces[0])
        base_ms = _ms(base[1])
        self.offsets_us = [(at_ms - base_ms) * 1000 for at_ms in columns.at_ms]
        self.span_ms = (min(columns.at_ms) - base_ms, max(columns.at_ms) - base_ms)
        self.packer = struct.Struct(">" + "4sq2sd" * count)
        self.count = count
        self.arguments: list[object] = []
        for which, status in zip(columns.which, columns.statuses, strict=True):
            channel = numbers[columns.series[which][0]].to_bytes(4, "big", signed=True)
            self.arguments += [channel, 0, status.encode() + b"\x01", 0.0]

    def pack(self, base_ms: int, values: Sequence[str]) -> bytes:
        """Return the rows that lie at these places from `base_ms` on and have these values."""
        base_us = base_ms * 1000 - PG_EPOCH_US
        arguments = self.arguments.copy()
        arguments[1::4] = [base_us + offset for offset in self.offsets_us]
        arguments[3::4] = map(float, values)
        return self.packer.pack(*arguments)


class Spellings:
    """Read envelopes, remembering how each key's station spells; `numbers` is (station, channel) -> channel_no."""

    def __init__(self, numbers: Mapping[tuple[str, str], int]) -> None:
        self._numbers: dict[str, dict[str, int]] = {}
        for (stn, name), number in numbers.items():
            self._numbers.setdefault(stn, {})[name] = number
        self._shapes: dict[str, list[Shape]] = {}
        self._made: dict[str, int] = {}

    def read(self, jws: bytes) -> Read:
        """Read one envelope; raises EmdiError as the strict parser, KeyError for an unknown channel."""
        parts = split_jws(jws, TYP)
        alg, kid, _ = parts.header
        try:
            payload = parts.payload.decode()
        except UnicodeDecodeError:
            return self._parse(jws, None, kid, parts.signature)
        claims = _CLAIMS.match(payload)
        if claims is None:
            return self._parse(jws, payload, kid, parts.signature)
        stn, ep, seq, prev, iat = claims.groups()
        pieces = _VALUE.split(payload[claims.end() :])
        literals, values = pieces[::2], pieces[1::2]
        base = _BASE.search(literals[0])
        if base is None or (seq == "0" and prev != "A" * 43):
            return self._parse(jws, payload, kid, parts.signature)
        literals[0] = f"{literals[0][: base.start()]}\0{literals[0][base.end() :]}"
        base_ms = _ms(base[1])
        for shape in self._shapes.get(kid, ()):
            if shape.literals == literals and shape.stn == stn:
                first_ms, last_ms = base_ms + shape.span_ms[0], base_ms + shape.span_ms[1]
                if not MIN_AT_MS <= first_ms <= last_ms <= MAX_AT_MS:
                    break
                place = stn, int(ep), int(seq), prev, False, kid, alg, parts.signing_id, parts.signature
                return Read(*place, int(iat), first_ms, last_ms, shape.count, shape.pack(base_ms, values))
        return self._parse(jws, payload, kid, parts.signature)

    def _parse(self, jws: bytes, payload: str | None, kid: str, signature: bytes) -> Read:
        envelope, columns = parse_columns(jws)
        numbers = self._numbers.get(envelope.stn, {})
        shapes = self._shapes.setdefault(kid, [])
        made = self._made.get(kid, 0)
        if payload is not None and len(columns.values) <= MAX_RECORDS and made < MAX_SHAPES:
            self._made[kid] = made + 1
            with suppress(ValueError):
                shapes.append(Shape(payload, columns, numbers))
        return _read_of(envelope, columns, numbers, signature)


def _read_of(envelope: Envelope, columns: Columns, numbers: Mapping[str, int], signature: bytes) -> Read:
    packed = [
        ROW.pack(
            numbers[columns.series[which][0]],
            at_ms * 1000 - PG_EPOCH_US,
            status.encode(),
            value is not None,
            0.0 if value is None else value,
        )
        for which, at_ms, value, status in zip(
            columns.which, columns.at_ms, columns.values, columns.statuses, strict=True
        )
    ]
    first_ms, last_ms = min(columns.at_ms), max(columns.at_ms)
    return Read(
        envelope.stn,
        envelope.ep,
        envelope.seq,
        b64u_encode(envelope.prev),
        envelope.skip is not None,
        envelope.kid,
        envelope.alg,
        envelope.env_id,
        signature,
        envelope.iat_ms,
        first_ms,
        last_ms,
        len(columns.values),
        b"".join(packed),
    )


def _ms(seconds: str) -> int:
    whole, _, rest = seconds.partition(".")
    return int(whole + rest.ljust(3, "0"))
