"""Canonical text forms: base64, base64url, decimal integers; and I-JSON (RFC 7493)."""

import base64
import binascii
import json
import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from emdi.errors import EncodingError

MAX_DEPTH = 8
MAX_JSON_INTEGER = 2**53 - 1
MAX_NUMBER_CHARS = 40
MAX_UINT = 2**63 - 1

# The url alphabet to the standard one; what only the standard one has, and padding, to a byte of neither.
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")
_BYTES = (bytes, bytearray, memoryview)
# By length modulo 4: the last characters whose bits that are left over are zero (RFC 4648 3.5).
_LAST = (frozenset(range(256)), frozenset[int](), frozenset(b"AQgw"), frozenset(b"AEIMQUYcgkosw048"))
_UINT = re.compile(rb"0|[1-9][0-9]{0,18}")


def b64u_encode(data: bytes) -> str:
    """Return base64url without padding (RFC 4648 section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def b64u_decode(text: str | bytes) -> bytes:
    """Decode base64url without padding; refuse every spelling but the canonical one ("encoding.base64")."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if not isinstance(raw, _BYTES):  # a member of somebody's JSON
        raise EncodingError("encoding.base64", "not a text")
    try:
        data = binascii.a2b_base64(raw.translate(_FROM_URL) + b"=" * (-len(raw) % 4), strict_mode=True)
    except binascii.Error:
        raise EncodingError("encoding.base64", "not base64url") from None
    # Strict decoding refuses foreign bytes but ignores stray bits at the end.
    if raw and raw[-1] not in _LAST[len(raw) % 4]:
        raise EncodingError("encoding.base64", "not canonical base64url")
    return data


def b64_encode(data: bytes) -> str:
    """Return standard base64 with padding (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def b64_decode(text: str | bytes) -> bytes:
    """Decode padded standard base64; refuse every spelling but the canonical one ("encoding.base64")."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if not isinstance(raw, bytes | bytearray | memoryview):
        raise EncodingError("encoding.base64", "not a text")
    try:
        data = base64.b64decode(raw)
    except binascii.Error:
        raise EncodingError("encoding.base64", "not base64") from None
    if base64.b64encode(data) != raw:
        raise EncodingError("encoding.base64", "not canonical base64")
    return data


def parse_uint(text: str | bytes, code: str = "encoding.uint") -> int:
    """Return the integer written as ASCII `0|[1-9][0-9]*`, at most 2^63-1; else raise EncodingError(code)."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if _UINT.fullmatch(raw) is None:
        raise EncodingError(code, "not a canonical decimal number")
    number = int(raw)
    if number > MAX_UINT:
        raise EncodingError(code, "number above 2^63-1")
    return number


def load_json(data: bytes) -> Any:
    """Parse I-JSON (RFC 7493) nested at most 8 deep; integers as int, all other numbers as Decimal.

    Raises EncodingError: json.utf8, json.bom, json.syntax, json.duplicate, json.number, json.depth,
    json.surrogate.
    """
    value = load_flat_json(data)
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        _check_depth(value)
    return value


def load_flat_json(data: bytes) -> Any:
    """Parse I-JSON without the depth check, for callers that check the type of every value they take."""
    if data.startswith(b"\xef\xbb\xbf"):
        raise EncodingError("json.bom", "starts with a byte order mark")
    try:
        value = _DECODER.decode(data.decode("utf-8"))
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeDecodeError:
        raise EncodingError("json.utf8", "not UTF-8") from None
    except UnicodeEncodeError:
        raise EncodingError("json.surrogate", "lone surrogate in a string") from None
    except RecursionError:
        raise EncodingError("json.depth", f"nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:
        raise EncodingError("json.syntax", str(error)) from None
    return value


def dump_json(value: object) -> bytes:
    """Return compact UTF-8 JSON in insertion order; NaN and infinities raise EncodingError("json.number")."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except ValueError as error:
        raise EncodingError("json.number", str(error)) from None


def _take_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise EncodingError("json.duplicate", "duplicate member name")
    return members


def _take_decimal(text: str) -> Decimal:
    if len(text) <= MAX_NUMBER_CHARS:
        try:
            number = Decimal(text)
        except InvalidOperation:
            raise EncodingError("json.number", "exponent out of range") from None
        size = number.adjusted()
        if -300 < size < 300 or (-324 <= size <= 308 and math.isfinite(float(number))):
            return number
    raise EncodingError("json.number", "number beyond the range of a double, or longer than 40 characters")


def _take_integer(text: str) -> int:
    if len(text) <= 17:
        number = int(text)
        if -MAX_JSON_INTEGER <= number <= MAX_JSON_INTEGER:
            return number
    raise EncodingError("json.number", "integer beyond 2^53-1")


def _refuse_constant(text: str) -> NoReturn:
    raise EncodingError("json.number", f"{text} is not a JSON number")


def _check_depth(value: object) -> None:
    depth, layer = 0, [value]
    while layer := [item for item in layer if isinstance(item, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise EncodingError("json.depth", f"nested deeper than {MAX_DEPTH}")
        layer = [inner for item in layer for inner in (item.values() if isinstance(item, dict) else item)]


_DECODER = json.JSONDecoder(
    object_pairs_hook=_take_object,
    parse_float=_take_decimal,
    parse_int=_take_integer,
    parse_constant=_refuse_constant,
)
