"""Two ways to read one envelope: the quick one takes less, and never anything else or otherwise."""

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emdi.columns import columns_of, read_spelled
from emdi.encoding import b64u_decode, b64u_encode
from emdi.envelope import ZERO_HASH, parse_columns, parse_envelope, seal_envelope
from emdi.errors import EmdiError, EncodingError
from emdi.keys import LocalKey
from emdi.pack import STATUSES, Record
from emdi.tables import readings_csv_columns, readings_csv_rows
from tests.emdi.making import seed

KEY = LocalKey.from_seed(seed("columns"), "k-1")
START_MS = 1_767_225_600_000
HEAD = '{"v":1,"stn":"s","ep":0,"seq":0,"prev":"' + "A" * 43 + '","iat":1767225600000,"cp":null,"p":['
FIRST = '{"bn":"urn:emdi:s:","bt":1767225600,"bu":"mg/m3",'

# Values as instruments print them, and everything else a Decimal may be.
PLAIN = st.decimals(-10_000, 10_000, places=3) | st.integers(-(10**9), 10**9).map(Decimal)
ANY = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: Decimal(repr(value)))


@st.composite
def packs(draw: st.DrawFn, values: st.SearchStrategy[Decimal]) -> list[Record]:
    names = draw(st.lists(st.sampled_from(["a", "b", "NOx.in", "d:1/2"]), min_size=1, unique=True))
    units = {name: draw(st.sampled_from(["mg/m3", "%", "1"])) for name in names}
    times = draw(st.lists(st.integers(-5_000_000, 5_000_000), min_size=1, max_size=8, unique=True))
    scale = draw(st.sampled_from([1, 1000]))
    records = []
    for step, name in product(times, names):
        status = draw(st.sampled_from(["N", "N", "N", *sorted(STATUSES)]))
        value = None if status != "N" and draw(st.booleans()) else draw(values)
        records.append(Record(name, START_MS + step * scale, units[name], value, status))
    return records


# What an attacker, or another implementation, may put somewhere into a payload.
SNIPPETS = [
    *(
        '"',
        "}",
        "{",
        "]",
        "[",
        ",",
        ":",
        " ",
        "\\",
        "},{",
        "{}",
        "]}]}",
        ',"p":[',
        '"p":1,',
        "\n",
        "é",
        "\\u0041",
    ),
    *(
        "-",
        "0",
        "1",
        ".",
        "e",
        "E5",
        "_",
        "+",
        "-0",
        "-0.0",
        "1e400",
        "1E-99",
        "00",
        "NaN",
        "Infinity",
        "null",
    ),
    *("0.1234567890123456", "12345678901234567", "9" * 41, "1.", ".5", "٣", "1_0", " 1"),
    *(
        '"n":"a"',
        ',"v":1',
        ',"v":',
        '"bt":1,',
        '"bt":1767225600.5,',
        '"bt":1.0001,',
        '"bu":"%",',
        '"bu":"x",',
    ),
    *(',"t":60', ',"t":-0', ',"t":0.001', ',"u":"%"', ',"u":"no"', ',"st":"N"', ',"st":"M"', ',"st":"Q"'),
    *(',"vs":"missing"', ',"vs":"missing","st":"D"', '"bn":"urn:emdi:s:",', '"bn":"urn:emdi:t:",', ',"x":1'),
]


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    text = payload_of(draw(packs(PLAIN))).decode()
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 6))
        text = text[:start] + draw(st.sampled_from(SNIPPETS)) + text[start + cut :]
    return text.encode()


def payload_of(records: list[Record]) -> bytes:
    return seal_envelope(
        KEY, stn="s", ep=0, seq=0, prev=ZERO_HASH, iat_ms=START_MS, cp=None, records=records
    ).payload


def jws_of(payload: bytes) -> bytes:
    header = {"alg": "Ed25519", "kid": "k-1", "typ": "emdi-rd+jws"}
    parts = (json.dumps(header).encode(), payload, bytes(64))
    return ".".join(b64u_encode(part) for part in parts).encode()


def outcome(parse: Callable[[bytes], object], payload: bytes) -> str:
    """What the parser says, -0.0 told from 0.0; an error is its code."""
    try:
        return repr(parse(jws_of(payload)))
    except EmdiError as error:
        return error.code


def general(jws: bytes) -> object:
    envelope = parse_envelope(jws)
    return replace(envelope, payload=b"", records=()), columns_of(envelope.records)


@settings(deadline=None, max_examples=150)
@given(packs(PLAIN))
def test_our_own_spelling_is_read_the_quick_way_and_alike(records: list[Record]) -> None:
    payload = payload_of(records)
    spelled = read_spelled(payload)
    assert spelled is not None
    assert repr(spelled[1]) == repr(columns_of(records))
    assert outcome(parse_columns, payload) == outcome(general, payload)


@settings(deadline=None, max_examples=100)
@given(packs(ANY))
def test_any_value_gives_the_same_double(records: list[Record]) -> None:
    payload = payload_of(records)
    assert outcome(parse_columns, payload) == outcome(general, payload)
    place = (5, "s", 0, 7)
    assert readings_csv_columns(*place, columns_of(records)) == readings_csv_rows(*place, records)


@settings(deadline=None, max_examples=400)
@given(spoilt())
@example(b"")
@example(b'{,"p":[{"n":"a","v":1}]}')
def test_a_spoilt_payload_meets_the_same_fate(payload: bytes) -> None:
    assert outcome(parse_columns, payload) == outcome(general, payload)


@pytest.mark.parametrize("snippet", SNIPPETS)
@pytest.mark.parametrize(
    "form",
    [
        '"n":"a","v":{}',
        '"n":"a","v":1{}',
        '"n":"a"{},"v":1',
        '{}"n":"a","v":1',
        '"n":"a","v":1}},{{{}"n":"b","v":2',
        '"n":"a","v":1}},{{"n":"a","t":60,"v":2}},{{"n":"a"{},"v":3',
        '"n":"a","v":1}},{{"bt":1767225660,"n":"a","v":{}',
        '"n":"a","v":1}},{{"bt":1767225660,"n":"a","v":2{}',
    ],
)
def test_every_snippet_everywhere(form: str, snippet: str) -> None:
    payload = (HEAD + FIRST + form.format(snippet) + "}]}").encode()
    assert outcome(parse_columns, payload) == outcome(general, payload)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_every_snippet_in_the_claims(snippet: str) -> None:
    records = FIRST + '"n":"a","v":1}]}'
    for at in (0, 1, HEAD.index(',"cp"'), HEAD.index(',"p"'), HEAD.index('"s"') + 1, len(HEAD)):
        payload = (HEAD[:at] + snippet + HEAD[at:] + records).encode()
        assert outcome(parse_columns, payload) == outcome(general, payload)


def test_base64url_is_what_encoding_again_would_prove() -> None:
    """Every text of up to 4 characters over a telling alphabet, decoded by RFC 4648 and encoded again."""
    for length in range(5):
        for letters in product(b"ABQgw09-_+/=!\n \xff\x00", repeat=length):
            raw = bytes(letters)
            try:
                data = base64.urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
            except binascii.Error:
                data = None
            canonical = data is not None and base64.urlsafe_b64encode(data).rstrip(b"=") == raw
            try:
                assert b64u_decode(raw) == data
                assert canonical
            except EncodingError:
                assert not canonical
