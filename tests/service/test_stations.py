"""Stations, channels and keys over HTTP: what is registered is an event, what is wrong is refused by name."""

import json
from typing import Any

import pytest

from emdi.encoding import b64u_encode
from emdi.event import parse_event, seal_key_proof, verify_signature
from emdi.keys import LocalKey
from stackwitness.settings import Settings
from tests.service.rig import CHANNELS, Rig, key_form, station_form
from tests.support.service import Service


def test_every_act_is_an_event_on_the_stations_chain(service: Service) -> None:
    rig = Rig(service)
    successor = LocalKey.generate("ES256", "4711-2")
    first = rig.key
    rig.rotate(successor)
    rig.revoke(successor.kid)
    rows = service.rows("SELECT jws FROM event WHERE subj = 'station:4711' ORDER BY sseq")
    events = [parse_event(bytes(row.jws)) for row in rows]
    for event in events:
        verify_signature(event, service.wiring.service_key.public)
    expected = ["station.register", "channel.set", "key.request", "key.register", "key.rotate", "key.revoke"]
    assert [event.typ for event in events] == expected
    assert [event.act for event in events if event.act != "operator"] == ["approver"]
    assert events[3].data["approvals"] == ["operator", "approver"]
    assert events[3].data["request"] == events[2].event_id.hex()
    assert events[4].data["old_kid"] == first.kid
    keys = service.client.get("/v1/stations/4711/keys", headers=rig.operator).json()
    assert [key["revoked"] for key in keys["keys"]] == [True, True]
    assert keys["requested"] == []
    detail = service.client.get("/v1/stations/4711", headers=service.headers("auditor")).json()
    assert detail == station_form("4711")
    listed = service.client.get("/v1/stations", headers=service.headers("auditor")).json()["stations"]
    assert [station["stn"] for station in listed] == ["4711"]


def test_only_operators_change_stations(service: Service) -> None:
    body = station_form("4711")
    assert service.client.post("/v1/stations", json=body).status_code == 401
    for role in ("inspector", "regulator", "auditor"):
        answer = service.client.post("/v1/stations", json=body, headers=service.headers(role))
        assert (answer.status_code, answer.json()["code"]) == (403, "account.role")
    assert service.rows("SELECT stn FROM station") == []


CHANNEL = CHANNELS[0]
# what is wrong, changes to a good station form, status, code
BAD_STATIONS: list[tuple[str, dict[str, Any], int, str]] = [
    ("id with a slash", {"stn": "a/b"}, 422, "request.invalid"),
    ("empty name", {"name": ""}, 422, "request.invalid"),
    ("NUL in a name", {"name": "a\x00b"}, 422, "request.invalid"),
    ("lone surrogate", {"name": "\ud800"}, 422, "request.invalid"),
    ("latitude beyond the pole", {"lat": 91}, 422, "request.invalid"),
    ("unknown member", {"colour": "red"}, 422, "request.invalid"),
    ("unknown unit", {"channels": [{**CHANNEL, "unit": "stone"}]}, 422, "channel.unit"),
    ("unknown role", {"channels": [{**CHANNEL, "role": "magic"}]}, 422, "request.invalid"),
    ("channel twice", {"channels": [CHANNEL, CHANNEL]}, 422, "channel.duplicate"),
    ("resolution zero", {"channels": [{**CHANNEL, "resolution": 0}]}, 422, "request.invalid"),
]


def test_bad_stations_are_refused_by_name(service: Service) -> None:
    headers = {**service.headers("operator"), "Content-Type": "application/json"}
    for what, changes, status, code in BAD_STATIONS:
        body = _json({**station_form("4711"), **changes})
        answer = service.client.post("/v1/stations", content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code), what
    infinite = _json(station_form("4711")).replace(b"121.5", b"1e999")
    assert service.client.post("/v1/stations", content=infinite, headers=headers).status_code == 422
    assert service.client.post("/v1/stations", content=b"{", headers=headers).status_code == 400
    assert service.rows("SELECT stn FROM station") == []


def test_bad_keys_and_channels_are_refused_by_name(service: Service) -> None:
    rig, other = Rig(service, "4711"), Rig(service, "4712")
    fresh, stranger = LocalKey.generate("Ed25519", "fresh"), LocalKey.generate("Ed25519", "fresh")
    good = key_form(fresh, "4711")
    taken = LocalKey.generate("Ed25519", other.key.kid)
    cases: list[tuple[str, dict[str, Any], int, str]] = [
        ("kid taken", key_form(taken, "4711"), 409, "key.taken"),
        ("proof for another station", key_form(fresh, "4712"), 422, "key.proof"),
        ("proof by another key", {**good, "proof": seal_key_proof(stranger, "4711")}, 422, "key.proof"),
        ("proof of another kid", {**good, "kid": "other"}, 422, "key.proof"),
        ("proof is no JWS", {**good, "proof": "a.b"}, 422, "key.proof"),
        ("proof is not ASCII", {**good, "proof": "é.b.c"}, 422, "key.proof"),
        ("short key", {**good, "public_b64u": b64u_encode(bytes(31))}, 422, "key.public"),
        ("padded key", {**good, "public_b64u": good["public_b64u"] + "="}, 422, "encoding.base64"),
        ("point off the curve", {**good, "alg": "ES256"}, 422, "key.public"),
        ("unknown algorithm", {**good, "alg": "RS256"}, 422, "request.invalid"),
    ]
    for what, body, status, code in cases:
        answer = service.client.post("/v1/stations/4711/keys", json=body, headers=rig.operator)
        assert (answer.status_code, answer.json()["code"]) == (status, code), what
    paths: list[tuple[str, str, dict[str, Any], int, str]] = [
        ("POST", "nobody/keys", key_form(fresh, "nobody"), 404, "station.unknown"),
        ("POST", f"4711/keys/{other.key.kid}/revoke", {"why": "x"}, 404, "key.unknown"),
        ("POST", "4711/keys/none/rotate", {"new": good, "old_proof": good["proof"]}, 404, "key.unknown"),
        ("PUT", "nobody/channels", {"channels": [CHANNEL]}, 404, "station.unknown"),
        ("PUT", "4711/channels", {"channels": [{**CHANNEL, "limit": 1.0}]}, 409, "channel.fixed"),
        ("POST", "%00/keys", good, 422, "request.invalid"),
    ]
    for method, path, body, status, code in paths:
        answer = service.client.request(method, f"/v1/stations/{path}", json=body, headers=rig.operator)
        assert (answer.status_code, answer.json()["code"]) == (status, code), path
    again = service.client.post("/v1/stations", json=station_form("4711"), headers=rig.operator)
    assert (again.status_code, again.json()["code"]) == (409, "station.exists")
    rig.revoke(rig.key.kid)
    path = f"/v1/stations/4711/keys/{rig.key.kid}/revoke"
    twice = service.client.post(path, json={"why": "again"}, headers=rig.operator)
    assert (twice.status_code, twice.json()["code"]) == (409, "key.revoked")


@pytest.fixture
def settings(tmp_path: Any, database_url: str) -> Settings:
    """Give settings in development mode: published keys are refused there."""
    home = tmp_path / "home"
    home.mkdir()
    return Settings(mode="development", home=home, database_url=database_url)


def test_published_test_keys_are_refused_outside_test_mode(service: Service) -> None:
    rig = Rig(service)
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    form = key_form(LocalKey.from_seed(seed, "rfc8037"), "4711")
    answer = service.client.post("/v1/stations/4711/keys", json=form, headers=rig.operator)
    assert (answer.status_code, answer.json()["code"]) == (422, "key.published")


def _json(members: dict[str, Any]) -> bytes:
    return json.dumps(members).encode("ascii")
