"""A client that hopes for a 500, for a file it may not have, or for something half stored."""

import base64
import json
from typing import Any

import pytest
from sqlalchemy import text

from tests.service.rig import Rig, key_form
from tests.support.service import Service

PERIOD = {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


PATHS = [
    "/v1/exports/%00",
    "/v1/exports?station=%00",
    f"/v1/flags?after={cursor('1:' + chr(0))}",
    f"/v1/flags?after={cursor('-62135596800000001:x')}",
    f"/v1/flags?after={cursor('9' * 5000 + ':x')}",
    "/v1/readings?station=4711&from=0001-01-01T00:00:00%2B14:00&to=9999-12-31T23:59:59-14:00",
    "/v1/readings?station=4711&from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z&channel=%00",
    "/stations/%00",
    "/flags/%00",
    "/exports/%00",
    "/v1/stations/..%2f..%2f/head",
    "/v1/stations/%00/head",
    "/v1/receipts/%00",
    "/log/tile/..%2f..%2fkeys%2fservice.pem",
    "/log/tile/%2e%2e/%2e%2e/signer/log.key",
    "/log/tile/entries/000.p/..",
    "/log/tile/0/000.p/%00",
    "/v1/exports/..%2f..%2fkeys%2fexport.key/bundle",
    "/v1/exports/x%2e%2e/bundle",
    "/static/..%2f..%2fsettings.py",
    "/sign-in?token=%00",
]
EXPORTS: list[dict[str, Any]] = [
    {"purpose": "a\0b"},
    {"purpose": "a\x1b[2Jb"},
    {"purpose": "audit\u202egpj.exe"},
    {"from": "0001-01-01T00:00:00+14:00"},
    {"from": "0001-01-01T00:00:00Z"},
    {"from": "1969-12-31T23:59:59Z"},
    {"to": "9999-12-31T23:59:59.999999-14:00"},
    {"from": -1e300},
    {"station": ".."},
    {"redacted": True},  # a misspelt `redact` would disclose what it means to withhold
]
WHYS = [
    "",
    " ",
    "\u3000",
    "a\0b",
    "two\nlines",
    "\u2028",
    "audit\u202egpj.exe",
    "\u200b",
    "x" * 501,
    None,
    5,
    ["a"],
    {},
]


@pytest.mark.timeout(60)
def test_nothing_sent_makes_a_server_error(service: Service) -> None:
    rig = Rig(service)
    rig.post(rig.next())
    service.settle()
    reader, regulator = service.headers("auditor"), service.headers("regulator")
    answered = {path: service.client.get(path, headers=reader) for path in PATHS}
    secret = (service.settings.key_dir / "service.pem").read_bytes().splitlines()[1]
    for path, answer in answered.items():
        assert answer.status_code < 500, (path, answer.text)
        assert secret not in answer.content
    for change in EXPORTS:
        body = {"station": "4711", **PERIOD, "purpose": "audit", **change}
        answer = service.client.post("/v1/exports", json=body, headers=regulator)
        assert 400 <= answer.status_code < 500, (change, answer.text)
    surrogate = (
        b'{"station":"4711","from":"2026-01-01T00:00:00Z","to":"2026-02-01T00:00:00Z","purpose":"\\ud800"}'
    )
    headers = {**regulator, "content-type": "application/json"}
    assert service.client.post("/v1/exports", content=surrogate, headers=headers).status_code == 422
    assert service.rows("SELECT 1 FROM export_request") == []
    operator, key = service.headers("operator"), "/v1/stations/4711/keys/4711-1"
    for path, more in ((f"{key}/compromise", {"suspect_from_idx": 0}), (f"{key}/revoke", {})):
        for why in WHYS:
            answer = service.client.post(path, json={"why": why, **more}, headers=operator)
            assert answer.status_code == 422, (path, why, answer.text)


def test_a_key_speaks_for_its_own_station_only(service: Service) -> None:
    mine, theirs = Rig(service, "a"), Rig(service, "b")
    envelope = theirs.next()
    assert theirs.post(envelope).status_code == 202
    forged = mine.seal(signer=mine.key, stn="b", ep=envelope.ep, seq=1, prev=envelope.env_id)
    borrowed = theirs.seal(signer=mine.key)
    for attempt in (forged, borrowed):
        answer = mine.post(attempt)
        assert (answer.status_code, answer.json()["code"]) == (403, "key.station")
        assert "env_id" not in json.dumps(answer.json())  # nothing is said about the other's chain
    taken = {**key_form(mine.key, "a"), "kid": theirs.key.kid}
    answer = service.client.post("/v1/stations/a/keys", json=taken, headers=mine.operator)
    assert answer.status_code in (409, 422)
    mixed = mine.post(mine.seal(), theirs.seal())
    assert (mixed.status_code, mixed.json()["code"], mixed.json()["line"]) == (422, "body.stations", 2)
    assert mine.stored() == [(1, 0)]
    mine.next()


def test_equivocation_inside_one_request_keeps_both_as_evidence(service: Service) -> None:
    rig = Rig(service)
    first = rig.seal()
    second = rig.seal(iat_ms=first.iat_ms - 1)
    answer = rig.post(first, second)
    assert (answer.status_code, answer.json()["code"], answer.json()["line"]) == (
        409,
        "chain.equivocation",
        2,
    )
    rig.next(iat_ms=first.iat_ms)
    service.settle()
    assert rig.stored() == [(1, 0)]
    kinds = {}
    for envelope in (first, second):
        receipt = service.client.get(f"/v1/receipts/{envelope.env_id.hex()}").text
        kinds[envelope] = base64.b64decode(receipt.split("\n")[1].removeprefix("extra "))[4]
    assert list(kinds.values()) == [1, 3]  # the receipt itself says which of the two was accepted
    assert len(service.rows("SELECT 1 FROM event WHERE typ = 'equivocation'")) == 1


def test_the_twin_of_an_ecdsa_signature_is_no_second_envelope(service: Service) -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    rig = Rig(service, alg="ES256")
    envelope = rig.next()
    signing_input, _, signature = envelope.jws.rpartition(b".")
    raw = base64.urlsafe_b64decode(signature + b"==")
    twin = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    twin_jws = signing_input + b"." + base64.urlsafe_b64encode(twin).rstrip(b"=")
    answer = rig.post(envelope, twin_jws)
    assert (answer.status_code, len(answer.json()["stored"]), len(answer.json()["known"])) == (202, 1, 1)
    assert len(service.rows("SELECT 1 FROM quarantine")) == 0


def test_a_revoked_key_stores_nothing_whatever_it_claims(service: Service) -> None:
    rig = Rig(service)
    first = rig.next()
    rig.post(first)
    waiting = rig.seal()
    rig.revoke(rig.key.kid)
    attempts = [
        waiting,
        rig.seal(ep=rig.ep + 1, seq=0, prev=bytes(32)),
        rig.seal(ep=first.ep, seq=first.seq, prev=first.prev, iat_ms=first.iat_ms - 5),
    ]
    for attempt in attempts:
        answer = rig.post(attempt)
        assert (answer.status_code, answer.json()["code"]) == (403, "key.revoked")
    assert rig.post(first).status_code == 200  # known: signed and stored while the key was good
    assert rig.stored() == [(1, 0)]
    assert service.rows("SELECT 1 FROM quarantine") == []


def test_a_database_older_than_its_log_is_not_ready(service: Service) -> None:
    rig = Rig(service)
    rig.post(rig.next())
    service.settle()
    assert service.client.get("/readyz").status_code == 200
    newest = service.rows("SELECT size, prev, root, at FROM log_head ORDER BY size DESC LIMIT 1")[0]._mapping
    put_back = "INSERT INTO log_head VALUES (:size, :prev, :root, :at)"
    for statement, ready in (("DELETE FROM log_head WHERE size = :size", 503), (put_back, 200)):
        with service.wiring.engine.begin() as conn:
            conn.execute(text("ALTER TABLE log_head DISABLE TRIGGER append_only_row"))
            conn.execute(text(statement), dict(newest))
            conn.execute(text("ALTER TABLE log_head ENABLE ALWAYS TRIGGER append_only_row"))
        answer = service.client.get("/readyz")
        assert answer.status_code == ready, answer.text
        assert answer.json().get("code", "log.forked") == "log.forked"
