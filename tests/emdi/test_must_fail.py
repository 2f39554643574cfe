"""Tables of inputs that must be refused, each with the code it is refused by."""

import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from emdi.chain import StationHead, check_next
from emdi.encoding import b64_decode, b64u_decode, b64u_encode, load_json, parse_uint
from emdi.envelope import Skip, parse_envelope, seal_envelope, verify_signature
from emdi.errors import ChainError, EmdiError
from emdi.event import parse_event, seal_event, seal_key_proof, verify_key_proof
from emdi.jws import sign_jws
from emdi.keys import LocalKey, PublicKey, refuse_published
from emdi.pack import Record, format_pack, parse_pack
from tests.emdi.making import refused, seed

KEY = LocalKey.from_seed(seed("station"), "k-1")
ZEROS = "A" * 43
RECORD = {"bn": "urn:emdi:s:", "bt": 1790000000, "n": "no2", "u": "mg/m3", "v": 1}
CLAIMS: dict[str, Any] = {
    "v": 1, "stn": "s", "ep": 0, "seq": 0, "prev": ZEROS, "iat": 1790000000123, "cp": None, "p": [RECORD],
}  # fmt: skip


def sealed(payload: bytes, header: bytes | None = None) -> bytes:
    if header is None:
        return sign_jws(KEY, "emdi-rd+jws", payload)
    signing_input = f"{b64u_encode(header)}.{b64u_encode(payload)}".encode()
    return signing_input + b"." + b64u_encode(KEY.sign(signing_input)).encode()


def claims(**changes: object) -> bytes:
    return json.dumps({**CLAIMS, **changes}).encode()


def record(**changes: object) -> list[dict[str, object]]:
    merged = {**RECORD, **changes}
    return [{name: value for name, value in merged.items() if value is not ...}]


@pytest.mark.parametrize(
    "text", ["1_000", " 5", "5\n", "+7", "-1", "\u0663", "007", "00", "", "1e3", "0x1", str(2**63)]
)
def test_numbers_have_one_spelling(text: str) -> None:
    refused("x.y", parse_uint, text, "x.y")
    refused("x.y", parse_uint, text.encode(), "x.y")


def test_largest_number() -> None:
    assert parse_uint(str(2**63 - 1)) == 2**63 - 1


@pytest.mark.parametrize(
    "text", ["AB==", "AB", "A", "AA", "AAB=", "A A=", "AAA\n", "_-8=", "\u00e9AAA", "====", "AA=="[::-1]]
)
def test_base64_has_one_spelling(text: str) -> None:
    refused("encoding.base64", b64_decode, text)


@pytest.mark.parametrize(
    "text", ["AB", "A", "AA==", "AA=", "A A", "AAAA\n", "+/+/", "AAA\u0663", "\ud800AAA"]
)
def test_base64url_has_one_spelling(text: str) -> None:
    refused("encoding.base64", b64u_decode, text)


JSON_FAULTS = [
    (b'{"a":1,"a":2}', "json.duplicate"),
    (b'{"x":{"a":1,"\\u0061":2}}', "json.duplicate"),
    (b"NaN", "json.number"),
    (b"-Infinity", "json.number"),
    (b"[1e400]", "json.number"),
    (b"[1.8e308]", "json.number"),
    (b"[1e-400]", "json.number"),
    (b"[1e99999999999999999999]", "json.number"),
    (b"[1e-999999999]", "json.number"),
    (b"[0." + b"1" * 60 + b"]", "json.number"),
    (b"[9007199254740992]", "json.number"),
    (b"[-9007199254740992]", "json.number"),
    (b"[" + b"9" * 5000 + b"]", "json.number"),
    (b"\xef\xbb\xbf{}", "json.bom"),
    (b"\xff", "json.utf8"),
    (b'"\xed\xa0\x80"', "json.utf8"),
    (b'"\\ud800"', "json.surrogate"),
    (b'{"\\udfff":1}', "json.surrogate"),
    (b"[" * 9 + b"]" * 9, "json.depth"),
    (b"[" * 100000, "json.depth"),
    (b'{"a":' * 9 + b"1" + b"}" * 9, "json.depth"),
    (b"[1,]", "json.syntax"),
    (b"{} {}", "json.syntax"),
    (b"01", "json.syntax"),
    (b"+1", "json.syntax"),
    (b".5", "json.syntax"),
    (b"'a'", "json.syntax"),
    (b"", "json.syntax"),
    (b'"\x01"', "json.syntax"),
    ("\u0661".encode(), "json.syntax"),
]


@pytest.mark.parametrize(("data", "code"), JSON_FAULTS)
def test_json_is_i_json(data: bytes, code: str) -> None:
    refused(code, load_json, data)


def test_json_at_its_limits() -> None:
    assert load_json(b"[" * 8 + b"]" * 8) == [[[[[[[[]]]]]]]]
    assert load_json(b"[9007199254740991,1.50,1.7e308]") == [2**53 - 1, Decimal("1.50"), Decimal("1.7e308")]


HEADERS = [
    (b'{"alg":"EdDSA","kid":"k-1","typ":"emdi-rd+jws"}', "envelope.alg"),
    (b'{"alg":"none","kid":"k-1","typ":"emdi-rd+jws"}', "envelope.alg"),
    (b'{"alg":"HS256","kid":"k-1","typ":"emdi-rd+jws"}', "envelope.alg"),
    (b'{"alg":"Ed25519","kid":"k-1","typ":"emdi-ev+jws"}', "envelope.typ"),
    (b'{"alg":"Ed25519","kid":"k-1","typ":"JWT"}', "envelope.typ"),
    (b'{"alg":"Ed25519","kid":"","typ":"emdi-rd+jws"}', "envelope.kid"),
    (b'{"alg":"Ed25519","kid":"../etc","typ":"emdi-rd+jws"}', "envelope.kid"),
    (b'{"alg":"Ed25519","kid":1,"typ":"emdi-rd+jws"}', "envelope.kid"),
    (b'{"alg":"Ed25519","kid":"k-1"}', "envelope.header"),
    (b'{"alg":"Ed25519","alg":"Ed25519","kid":"k-1","typ":"emdi-rd+jws"}', "json.duplicate"),
    (b'["alg","kid","typ"]', "envelope.header"),
    (b'{"alg":"Ed25519","kid":"k-1","typ":"emdi-rd+jws"' + b" " * 600 + b"}", "envelope.header"),
] + [
    (b'{"alg":"Ed25519","kid":"k-1","typ":"emdi-rd+jws","%s":1}' % name, "envelope.header")
    for name in (b"crit", b"b64", b"jwk", b"jku", b"x5u", b"x5c", b"cty", b"zip", b"nonce")
]


@pytest.mark.parametrize(("header", "code"), HEADERS)
def test_headers_hold_exactly_three_members(header: bytes, code: str) -> None:
    refused(code, parse_envelope, sealed(claims(), header))


CLAIM_FAULTS: list[tuple[dict[str, object], str]] = [
    ({"v": 2}, "envelope.v"), ({"v": True}, "envelope.v"), ({"v": 1.0}, "envelope.v"), ({"v": "1"}, "envelope.v"),
    ({"stn": ""}, "envelope.stn"), ({"stn": "a b"}, "envelope.stn"), ({"stn": "x" * 65}, "envelope.stn"),
    ({"stn": "\u00e9"}, "envelope.stn"), ({"stn": "s\n"}, "envelope.stn"), ({"stn": 1}, "envelope.stn"),
    ({"ep": -1}, "envelope.ep"), ({"ep": True}, "envelope.ep"), ({"ep": "0"}, "envelope.ep"),
    ({"ep": 1.5}, "envelope.ep"), ({"seq": -1}, "envelope.seq"), ({"seq": None}, "envelope.seq"),
    ({"iat": -5}, "envelope.iat"), ({"iat": 1.5}, "envelope.iat"), ({"iat": 2**53}, "json.number"),
    ({"prev": ""}, "envelope.prev"), ({"prev": "A" * 42 + "B"}, "envelope.prev"), ({"prev": None}, "envelope.prev"),
    ({"prev": "B" + "A" * 42}, "envelope.prev"), ({"prev": ZEROS + "="}, "envelope.prev"),
    ({"cp": [1]}, "envelope.cp"), ({"cp": [0, ZEROS]}, "envelope.cp"), ({"cp": [True, ZEROS]}, "envelope.cp"),
    ({"cp": [1, ZEROS, 2]}, "envelope.cp"), ({"cp": [1, "x"]}, "envelope.cp"), ({"cp": {}}, "envelope.cp"),
    ({"extra": 1}, "envelope.claims"), ({"skip": None}, "envelope.skip"),
    ({"skip": {"from": 0, "to": 0}, "seq": 1}, "envelope.skip"),
    ({"skip": {"from": 2, "to": 1, "why": "x"}, "seq": 2}, "envelope.skip"),
    ({"skip": {"from": 0, "to": 4, "why": "x"}, "seq": 4}, "envelope.skip"),
    ({"skip": {"from": 0, "to": 0, "why": ""}, "seq": 1}, "envelope.skip"),
    ({"p": []}, "pack.count"), ({"p": {}}, "pack.count"), ({"p": [1]}, "pack.bn"), ({"p": [[]]}, "pack.bn"),
    ({"p": [RECORD] * 2}, "pack.duplicate"), ({"p": [RECORD, 1]}, "pack.form"),
    ({"p": [RECORD] * 5001}, "envelope.size"),
    ({"p": record(bn=...)}, "pack.bn"), ({"p": record(bn="urn:emdi:t:")}, "pack.bn"),
    ({"p": record(vb=True)}, "pack.label"), ({"p": record(bver=10)}, "pack.label"), ({"p": record(s=1)}, "pack.label"),
    ({"p": record(n=...)}, "pack.name"), ({"p": record(n="")}, "pack.name"), ({"p": record(n="a b")}, "pack.name"),
    ({"p": record(n="x" * 65)}, "pack.name"), ({"p": record(n=7)}, "pack.name"), ({"p": record(n="a,b")}, "pack.name"),
    ({"p": record(u=...)}, "pack.unit"), ({"p": record(u="furlong")}, "pack.unit"), ({"p": record(u=["mg/m3"])}, "pack.unit"),
    ({"p": record(bu=[[[[[[[[[[1]]]]]]]]]])}, "pack.unit"),
    ({"p": record(bt=...)}, "pack.time"), ({"p": record(bt=..., t=5)}, "pack.time"), ({"p": record(bt="1790000000")}, "pack.time"),
    ({"p": record(bt=True)}, "pack.time"), ({"p": record(t=0.0001)}, "pack.time"), ({"p": record(bt=1e300)}, "pack.time"),
    ({"p": record(t=-1790000000)}, "pack.time"), ({"p": record(bt=9007199254740991)}, "pack.time"),
    ({"p": record(v=...)}, "pack.value"), ({"p": record(v="1")}, "pack.value"), ({"p": record(v=True)}, "pack.value"),
    ({"p": record(v=None)}, "pack.value"), ({"p": record(vs="missing")}, "pack.value"),
    ({"p": record(v=..., vs="gone", st="D")}, "pack.value"), ({"p": record(v=..., vs="missing")}, "pack.missing"),
    ({"p": record(v=..., vs="missing", st="N")}, "pack.missing"), ({"p": record(st="X")}, "pack.status"),
    ({"p": record(st="")}, "pack.status"), ({"p": record(st=["N"])}, "pack.status"), ({"p": record(st="NN")}, "pack.status"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "code"), CLAIM_FAULTS)
def test_claims_and_records(changes: dict[str, object], code: str) -> None:
    refused(code, parse_envelope, sealed(claims(**changes)))


@pytest.mark.parametrize("name", CLAIMS)
def test_no_claim_may_be_missing(name: str) -> None:
    payload = json.dumps({key: value for key, value in CLAIMS.items() if key != name}).encode()
    refused("envelope.claims", parse_envelope, sealed(payload))


@pytest.mark.parametrize(
    ("payload", "code"), [(data, code) for data, code in JSON_FAULTS if b"[" * 9 not in data]
)
def test_payload_is_i_json(payload: bytes, code: str) -> None:
    if payload not in (b'{"a":' * 9 + b"1" + b"}" * 9,):
        refused(code, parse_envelope, sealed(payload))


GOOD = sealed(claims())
HEAD, PAYLOAD, SIGNATURE = GOOD.split(b".")
FORMS = [
    (b"", "envelope.form"),
    (b".".join([HEAD, PAYLOAD]), "envelope.form"),
    (GOOD + b".", "envelope.form"),
    (GOOD + b"\n", "envelope.base64"),
    (GOOD + b"=", "envelope.base64"),
    (b" " + GOOD, "envelope.base64"),
    (b".".join([HEAD, PAYLOAD, SIGNATURE[:-1] + b"B"]), "envelope.base64"),
    (b".".join([HEAD, PAYLOAD, SIGNATURE[:-2]]), "envelope.signature"),
    (b".".join([HEAD, PAYLOAD, b""]), "envelope.signature"),
    (b".".join([HEAD, PAYLOAD.replace(b"e", b"\xe2\x80\xa8", 1), SIGNATURE]), "envelope.base64"),
    (b"A" * 50000, "envelope.size"),
]


@pytest.mark.parametrize(("jws", "code"), FORMS)
def test_forms_of_a_jws(jws: bytes, code: str) -> None:
    refused(code, parse_envelope, jws)


def test_largest_envelope_is_exactly_49152_bytes() -> None:
    assert len(GOOD) < 49152
    refused("envelope.size", parse_envelope, GOOD + b"A" * (49153 - len(GOOD)))


def test_signature_and_algorithm_are_pinned() -> None:
    envelope = parse_envelope(GOOD)
    verify_signature(envelope, KEY.public)
    refused("envelope.signature", verify_signature, envelope, LocalKey.from_seed(seed("x"), "x").public)
    refused("envelope.alg", verify_signature, envelope, LocalKey.generate("ES256", "k-1").public)


def test_es256_twin_signature_keeps_the_id() -> None:
    key = LocalKey.generate("ES256", "k-1")
    jws = sign_jws(key, "emdi-rd+jws", claims())
    signing_input, _, encoded = jws.rpartition(b".")
    raw = b64u_decode(encoded)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    other = parse_envelope(signing_input + b"." + b64u_encode(twin).encode())
    verify_signature(other, key.public)
    assert other.env_id == parse_envelope(jws).env_id
    assert not key.public.verify(bytes(64), b"x")
    assert not key.public.verify(raw + b"\0", signing_input)


KEYS = [
    ("RS256", bytes(32), "key.alg"),
    ("EdDSA", bytes(32), "key.alg"),
    ("Ed25519", bytes(31), "key.public"),
    ("ES256", bytes(65), "key.public"),
    ("ES256", b"\x04" + bytes(64), "key.public"),
    ("ES256", b"\x02" + LocalKey.generate("ES256", "x").public.raw[1:33], "key.public"),
]


@pytest.mark.parametrize(
    ("alg", "raw", "code"), KEYS, ids=["RS256", "EdDSA", "short", "zeros", "not on the curve", "compressed"]
)
def test_keys(alg: str, raw: bytes, code: str) -> None:
    refused(code, PublicKey.from_bytes, alg, raw)


PUBLISHED = [
    bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
    hashlib.sha256(b"emdi test log key").digest(),
    hashlib.sha256(b"emdi test witness key").digest(),
    bytes.fromhex("31ffc2116ecbe003acaa800ab70757bd7d53206e3febef6a6d0796d95530b34f"),
]


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda raw: raw.hex()[:8])
def test_published_keys_are_refused(published: bytes) -> None:
    refused("key.published", refuse_published, LocalKey.from_seed(published, "x").public)
    refuse_published(KEY.public)


@pytest.mark.parametrize("alg", ["Ed25519", "ES256"])
def test_key_files(tmp_path: Path, alg: Any) -> None:
    key, path = LocalKey.generate(alg, "k"), tmp_path / "k.pem"
    key.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert LocalKey.load(path, "k").public == key.public
    with pytest.raises(FileExistsError):
        key.save(path)
    path.chmod(0o644)
    refused("key.mode", LocalKey.load, path, "k")
    path.chmod(0o600)
    path.write_text("no key")
    refused("key.pem", LocalKey.load, path, "k")


def test_key_proofs_are_bound_to_station_and_key() -> None:
    proof = seal_key_proof(KEY, "s")
    good: dict[str, Any] = {"stn": "s", "kid": "k-1", "key": KEY.public}
    verify_key_proof(proof, **good)
    thief = LocalKey.from_seed(seed("thief"), "k-1")
    for changed in (
        {"stn": "t"},
        {"kid": "k-2"},
        {"key": thief.public},
        {"key": LocalKey.generate("ES256", "k-1").public},
    ):
        with pytest.raises(EmdiError, match=r"key\.proof"):
            verify_key_proof(proof, **{**good, **changed})


EVENT: dict[str, Any] = {
    "v": 1, "typ": "flag.raised", "subj": "station:s", "sseq": 0, "sprev": ZEROS, "act": "system", "ts": 5, "ref": [], "data": {},
}  # fmt: skip
EVENT_FAULTS = [
    ("v", 2), ("typ", "Flag"), ("typ", "a.b.c"), ("typ", 1), ("subj", "station:"), ("subj", "station:a b"), ("sseq", -1),
    ("sprev", "x"), ("sprev", "B" + "A" * 42), ("act", ""), ("act", "a b"), ("ts", 1.5), ("ref", {}), ("ref", [-1]), ("ref", ["a b"]),
    ("ref", [1.5]), ("ref", [1] * 257), ("data", []), ("data", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), EVENT_FAULTS)
def test_events(name: str, value: object) -> None:
    jws = sign_jws(KEY, "emdi-ev+jws", json.dumps({**EVENT, name: value}).encode())
    refused(f"envelope.{name}", parse_event, jws)


def test_events_seal_only_what_parses() -> None:
    place: dict[str, Any] = {"subj": "station:s", "sseq": 0, "sprev": bytes(32), "act": "a", "ts_ms": 1}
    event = seal_event(KEY, typ="flag.raised", data={"e": 0.25}, ref=(3, "flag:1"), **place)
    assert (event.data, event.ref) == ({"e": Decimal("0.25")}, (3, "flag:1"))
    for data in ({"x": float("nan")}, {"x": 2**53}):
        with pytest.raises(EmdiError, match=r"json\.number"):
            seal_event(KEY, typ="flag.raised", data=data, **place)
    refused("envelope.typ", parse_envelope, event.jws)


def test_chain_rules() -> None:
    def envelope(ep: int, seq: int, prev: bytes, skip: Skip | None = None) -> Any:
        one = Record("no2", 1790000000000, "mg/m3", Decimal(seq), "N")
        return seal_envelope(
            KEY, stn="s", ep=ep, seq=seq, prev=prev, iat_ms=1, cp=None, records=[one], skip=skip
        )

    first = envelope(3, 0, bytes(32))
    head = StationHead(3, 0, first.env_id)
    check_next(None, first)
    check_next(head, envelope(3, 1, first.env_id))
    check_next(head, envelope(4, 0, bytes(32)))
    check_next(head, envelope(3, 6, first.env_id, Skip(1, 5, "power")))
    cases = [
        (None, envelope(0, 1, first.env_id), "chain.gap"),
        (head, first, "chain.known"),
        (head, envelope(2, 0, bytes(32)), "chain.replayed"),
        (head, envelope(3, 2, first.env_id), "chain.gap"),
        (head, envelope(3, 1, b"x" * 32), "chain.prev"),
        (head, envelope(5, 0, bytes(32)), "chain.epoch"),
        (head, envelope(4, 1, first.env_id), "chain.gap"),
        (head, envelope(3, 6, first.env_id, Skip(2, 5, "power")), "chain.skip"),
        (head, envelope(3, 6, b"x" * 32, Skip(1, 5, "power")), "chain.prev"),
    ]
    for before, after, code in cases:
        with pytest.raises(ChainError) as caught:
            check_next(before, after)
        assert caught.value.code == code


def test_packs_written_are_packs_read() -> None:
    refused("pack.count", format_pack, "s", [])
    refused("pack.value", format_pack, "s", [Record("a", 1790000000000, "1", Decimal("NaN"), "N")])
    refused("pack.count", parse_pack, [RECORD] * 5001, "s")
