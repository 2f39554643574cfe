"""Mutations that keep the form of an input, so that they reach what stands behind the first look at it.

A mutation of bytes nearly always ends in the reader of JSON, base64 or zip. These change one value, field, line or member and write
the rest as it was.
"""

import base64
import contextlib
import io
import json
import random
import zipfile
from binascii import Error as Base64Error
from typing import Any

from tests.emdi.making import remanifest, zip_of

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**400, 0.5, 1e308, float("inf"), float("nan"), "", " ",
    "0", "-1", "1e9", "\x00", "\ud800", "\u202e", "é", "a" * 300, "../x", [], [[]], {}, {"": {}}, [None], "2026-13-40T99:99:99.999Z",
    "9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00.000Z", "AA", "A" * 43, "A" * 86, "z" * 64,
)  # fmt: skip
ODD_FIELDS = (
    "",
    "0",
    "-1",
    "01",
    "1e3",
    "18446744073709551616",
    "9" * 400,
    "\x00",
    "\u202e",
    "é",
    "NaN",
    "AA==",
    '"',
    "/..",
    "a" * 300,
)


def change_structure(data: bytes, chance: random.Random) -> bytes:
    """Return the input with one thing in it changed and its form kept: of a zip, JSON, a signed text, lines."""
    if data.startswith(b"PK\x03\x04"):
        return _change_zip(data, chance)
    if data.count(b".") == 2 and data.startswith(b"eyJ"):
        return _change_signed(data, chance)
    with contextlib.suppress(ValueError):
        return _dump(_change_value(json.loads(data), chance))
    start = min((at for at in (data.find(b"{"), data.find(b"eyJ")) if at >= 0), default=0)
    if start and b"\n" not in data[:start]:  # a binary frame before the text: of it only bytes can be changed
        return data[:start] + change_structure(data[start:], chance)
    return _change_lines(data, chance)


def _change_value(value: Any, chance: random.Random) -> Any:
    """Walk down to a random place, and change what is there: another value, one more, one less, one twice."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        match chance.randrange(10):
            case 0:
                return {name: kept for name, kept in value.items() if name != key}
            case 1:
                return {
                    **value,
                    chance.choice(("", "x", "v", key + "\u200b", "__class__")): chance.choice(ODD),
                }
            case _:
                return {**value, key: _change_value(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.85:
        at = chance.randrange(len(value))
        match chance.randrange(10):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value[:at] + [value[at]] * 3 + value[at:]
            case _:
                return [*value[:at], _change_value(value[at], chance), *value[at + 1 :]]
    if isinstance(value, str) and value and chance.random() < 0.4:
        at = chance.randrange(len(value))
        return value[:at] + chance.choice(ODD_FIELDS) + value[at + chance.randint(0, 1) :]
    return chance.choice(ODD)


def _dump(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8, but an escape
        return json.dumps(value, separators=(",", ":")).encode()


def _change_signed(data: bytes, chance: random.Random) -> bytes:
    """Change a member of the header or the payload of a compact JWS; the signature stays."""
    parts = data.split(b".")
    at = chance.choice((0, 1, 1, 1))
    try:
        inside = json.loads(base64.urlsafe_b64decode(parts[at] + b"=="))
    except (Base64Error, ValueError):
        return _change_lines(data, chance)
    parts[at] = base64.urlsafe_b64encode(_dump(_change_value(inside, chance))).rstrip(b"=")
    return b".".join(parts)


def _change_lines(data: bytes, chance: random.Random) -> bytes:
    """Change a line: one of its fields, the JSON it is, its place, how often it stands there."""
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    match chance.randrange(8):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[chance.randrange(len(lines))])
        case 2:
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        case _ if lines[at].startswith((b"{", b"[")):
            lines[at] = change_structure(lines[at], chance)
        case _:
            lines[at] = _change_field(lines[at], chance)
    return b"\n".join(lines)


def _change_field(line: bytes, chance: random.Random) -> bytes:
    mark = chance.choice([mark for mark in (b",", b" ", b"/", b"+") if mark in line] or [b" "])
    fields = line.split(mark)
    at = chance.randrange(len(fields))
    match chance.randrange(4):
        case 0:
            del fields[at]
        case 1:
            fields.insert(at, fields[at])
        case _:
            fields[at] = chance.choice(ODD_FIELDS).encode("utf-8", "replace")
    return mark.join(fields)


def _change_zip(data: bytes, chance: random.Random) -> bytes:
    """Change a member of a bundle, and give it the MANIFEST that fits: what a dishonest exporter hands over."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(chance.randint(1, 2)):
        name = chance.choice(list(members))
        members[name] = change_structure(members[name], chance)
    if chance.random() < 0.9:
        remanifest(members)
    return zip_of(members).getvalue()
