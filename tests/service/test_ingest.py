"""What ingest promises over HTTP: everything good is kept once, everything bad is refused by name."""

import base64
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from emdi.envelope import ZERO_HASH, Skip
from emdi.keys import LocalKey
from emdi.pack import Record
from stackwitness import clock
from tests.service.rig import CHANNELS, START_MS, Rig, minute
from tests.support.service import Service


@pytest.fixture
def rig(service: Service) -> Rig:
    """Give a registered station."""
    return Rig(service)


def test_single_envelope_is_stored_with_its_readings(rig: Rig) -> None:
    envelope = rig.next()
    answer = rig.post(envelope)
    assert answer.status_code == 202
    env_id = envelope.env_id.hex()
    expected = {
        "env_id": env_id,
        "ep": 1,
        "seq": 0,
        "readings": 3,
        "receipt": f"/v1/receipts/{env_id}",
    }
    assert answer.json() == {"stored": [expected], "known": []}
    rows = rig.service.rows(
        "SELECT c.name, r.value, r.status::text FROM reading r JOIN channel c USING (channel_no) ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [("load", None, "D"), ("nox", 12.5, "N"), ("so2", 3.25, "N")]


def test_receipt_comes_with_wait(rig: Rig) -> None:
    envelope = rig.next()
    rig.post(envelope)
    rig.service.settle()
    answer = rig.post(envelope, wait="5")
    assert answer.status_code == 201
    assert answer.text.startswith("c2sp.org/tlog-proof@v1\n")


def test_wait_gives_up(rig: Rig) -> None:
    assert rig.post(rig.next(), wait="0.1").status_code == 202


def test_replay_is_answered_the_same_and_stored_once(rig: Rig) -> None:
    envelopes = [rig.next() for _ in range(3)]
    first = rig.post(*envelopes)
    again = rig.post(*envelopes)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == {"stored": [], "known": first.json()["stored"]}
    assert rig.stored() == [(1, 0), (1, 1), (1, 2)]


def test_replay_by_a_key_revoked_meanwhile_is_still_known(rig: Rig) -> None:
    envelope = rig.next()
    rig.post(envelope)
    rig.revoke(rig.key.kid)
    assert rig.post(envelope).status_code == 200
    refused = rig.post(rig.next())
    assert (refused.status_code, refused.json()["code"]) == (403, "key.revoked")


def test_half_a_batch(rig: Rig) -> None:
    good = [rig.next() for _ in range(2)]
    bad = rig.seal(records=[Record("o3", START_MS, "mg/m3", Decimal(1), "N")])
    late = rig.next()
    answer = rig.post(*good, bad, late)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["line"]) == (422, "reading.channel", 3)
    assert [item["seq"] for item in problem["stored"]] == [0, 1]
    assert rig.stored() == [(1, 0), (1, 1)]
    assert rig.post(*good, late).status_code == 202
    assert rig.stored() == [(1, 0), (1, 1), (1, 2)]


def test_half_a_batch_broken_by_the_chain(rig: Rig) -> None:
    good, _lost, late = rig.next(), rig.next(), rig.next()
    problem = rig.post(good, late).json()
    assert (problem["code"], problem["line"], len(problem["stored"])) == ("chain.gap", 2, 1)
    assert problem["head"] == {"ep": 1, "seq": 0, "env_id": good.env_id.hex()}


def test_gap_names_the_head(rig: Rig) -> None:
    first = rig.next()
    rig.post(first)
    rig.next()
    answer = rig.post(rig.next())
    assert answer.status_code == 409
    assert answer.json()["head"] == {"ep": 1, "seq": 0, "env_id": first.env_id.hex()}
    head = rig.client.get(f"/v1/stations/{rig.stn}/head")
    assert head.json() == answer.json()["head"]


def test_equivocation_is_kept_as_evidence_once(rig: Rig) -> None:
    rig.post(rig.next())
    twin = rig.seal(seq=0, prev=ZERO_HASH, records=minute(START_MS, "1.5"))
    for _ in range(2):
        answer = rig.post(twin)
        assert (answer.status_code, answer.json()["code"]) == (409, "chain.equivocation")
    rows = rig.service.rows("SELECT env_id, why FROM quarantine")
    assert [(bytes(row.env_id), row.why) for row in rows] == [(twin.env_id, "equivocation")]
    events = rig.service.rows("SELECT typ FROM event WHERE subj = 'station:4711' ORDER BY sseq")
    assert [row.typ for row in events].count("equivocation") == 1
    rig.service.settle()
    assert rig.client.get(f"/v1/receipts/{twin.env_id.hex()}").status_code == 200


def test_skip_is_accepted_and_noted(rig: Rig) -> None:
    rig.post(rig.next())
    assert rig.post(rig.skip(4)).status_code == 202
    assert rig.stored() == [(1, 0), (1, 5)]
    events = rig.service.rows("SELECT typ FROM event WHERE subj = 'station:4711' ORDER BY sseq")
    assert events[-1].typ == "gap.opened"


def test_skip_from_the_wrong_place_is_refused(rig: Rig) -> None:
    rig.post(rig.next())
    answer = rig.post(rig.seal(seq=9, skip=Skip(5, 8, "lost")))
    assert (answer.status_code, answer.json()["code"]) == (409, "chain.skip")


def test_new_epoch_starts_at_zero(rig: Rig) -> None:
    rig.post(rig.next())
    rig.ep, rig.seq, rig.prev = 2, 0, ZERO_HASH
    assert rig.post(rig.next()).status_code == 202
    assert rig.stored() == [(1, 0), (2, 0)]


def test_rotation_keeps_the_chain(rig: Rig) -> None:
    rig.post(rig.next())
    successor = LocalKey.generate("ES256", "4711-2")
    first = rig.key
    rig.rotate(successor)
    old = rig.post(rig.seal(signer=first))
    assert (old.status_code, old.json()["code"]) == (403, "key.revoked")
    assert rig.post(rig.next(), rig.next()).status_code == 202
    assert rig.stored() == [(1, 0), (1, 1), (1, 2)]


def test_channel_added_later_is_seen_at_once(rig: Rig) -> None:
    rig.post(rig.next())
    channels = [*CHANNELS, {**CHANNELS[0], "name": "co", "quantity": "CO"}]
    path = "/v1/stations/4711/channels"
    assert rig.client.put(path, json={"channels": channels}, headers=rig.operator).status_code == 200
    records = [*minute(rig.at_ms), Record("co", rig.at_ms, "mg/m3", Decimal(1), "N")]
    assert rig.post(rig.next(records=records)).status_code == 202


def test_old_readings_are_welcome(rig: Rig) -> None:
    assert rig.post(rig.next(records=minute(1_300_000_000_000))).status_code == 202
    assert rig.post(rig.next(records=minute(300_000_000_000) + minute(START_MS))).status_code == 202


def forge(jws: bytes, part: int, change: Callable[[bytes], bytes]) -> bytes:
    """Change one decoded part of a JWS and encode it again; the signature then fits no more."""
    parts = jws.split(b".")
    text = base64.urlsafe_b64decode(parts[part] + b"=" * (-len(parts[part]) % 4))
    parts[part] = base64.urlsafe_b64encode(change(text)).rstrip(b"=")
    return b".".join(parts)


def resigned(rig: Rig, change: Callable[[bytes], bytes]) -> bytes:
    """Change the payload and sign it with the station's own key."""
    header, payload, _ = forge(rig.seal().jws, 1, change).split(b".")
    signature = base64.urlsafe_b64encode(rig.key.sign(header + b"." + payload)).rstrip(b"=")
    return b".".join((header, payload, signature))


def other_station_key(rig: Rig) -> bytes:
    """Sign for this station with the registered key of another."""
    other = Rig(rig.service, "4712")
    return rig.seal(signer=other.key).jws


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Return the replacement of `old`, which must be there."""

    def change(text: bytes) -> bytes:
        assert old in text
        return text.replace(old, new)

    return change


# name: (what to post, status, code)
BAD: dict[str, tuple[Callable[[Rig], bytes], int, str]] = {
    "empty": (lambda rig: b"", 400, "body.empty"),
    "only newlines": (lambda rig: b"\n\n", 422, "envelope.form"),
    "not a JWS": (lambda rig: b"hello", 422, "envelope.form"),
    "foreign bytes": (lambda rig: b"\xff\x00.\x80.\xfe", 422, "envelope.base64"),
    "padding": (lambda rig: rig.seal().jws + b"==", 422, "envelope.base64"),
    "carriage return": (lambda rig: rig.seal().jws + b"\r\n", 422, "envelope.base64"),
    "257 lines": (lambda rig: b"\n".join([rig.seal().jws] * 257), 413, "body.lines"),
    "too long a line": (lambda rig: b"a" * 50_000, 422, "envelope.size"),
    "unknown station": (lambda rig: rig.seal(stn="nobody").jws, 403, "station.unknown"),
    "unknown key": (
        lambda rig: rig.seal(signer=LocalKey.generate("Ed25519", "stranger")).jws,
        403,
        "key.station",
    ),
    "wrong station for key": (other_station_key, 403, "key.station"),
    "impostor under the right kid": (
        lambda rig: rig.seal(signer=LocalKey.generate("Ed25519", rig.key.kid)).jws,
        422,
        "envelope.signature",
    ),
    "other algorithm under the right kid": (
        lambda rig: rig.seal(signer=LocalKey.generate("ES256", rig.key.kid)).jws,
        422,
        "envelope.alg",
    ),
    "changed value": (
        lambda rig: forge(rig.seal().jws, 1, swap(b"12.5", b"12.4")),
        422,
        "envelope.signature",
    ),
    "extra header member": (
        lambda rig: forge(rig.seal().jws, 0, swap(b"{", b'{"crit":["b64"],')),
        422,
        "envelope.header",
    ),
    "alg none": (lambda rig: forge(rig.seal().jws, 0, swap(b"Ed25519", b"none")), 422, "envelope.alg"),
    "duplicate claim": (lambda rig: resigned(rig, swap(b'"v":1', b'"v":1,"v":1')), 422, "json.duplicate"),
    "NaN": (lambda rig: resigned(rig, swap(b"12.5", b"NaN")), 422, "json.number"),
    "1e400": (lambda rig: resigned(rig, swap(b"12.5", b"1e400")), 422, "json.number"),
    "seq as text": (lambda rig: resigned(rig, swap(b'"seq":0', b'"seq":"1_000"')), 422, "envelope.seq"),
    "gap": (lambda rig: rig.seal(seq=7, prev=bytes([1]) * 32).jws, 409, "chain.gap"),
    "future clock": (lambda rig: rig.seal(iat_ms=clock.now_ms() + 600_000).jws, 422, "clock.future"),
    "reading after its signature": (
        lambda rig: rig.seal(records=minute(clock.now_ms() + 400_000)).jws,
        422,
        "clock.reading",
    ),
    "unknown channel": (
        lambda rig: rig.seal(records=[Record("o3", START_MS, "mg/m3", Decimal(1), "N")]).jws,
        422,
        "reading.channel",
    ),
    "unit of another channel": (
        lambda rig: rig.seal(records=[Record("nox", START_MS, "MW", Decimal(1), "N")]).jws,
        422,
        "reading.unit",
    ),
    "unknown unit": (lambda rig: resigned(rig, swap(b"mg/m3", b"stone")), 422, "pack.unit"),
    "two stations in one batch": (
        lambda rig: rig.seal().jws + b"\n" + Rig(rig.service, "4713").seal().jws,
        422,
        "body.stations",
    ),
}


def test_bad_input_is_refused_by_name(rig: Rig, subtests: pytest.Subtests) -> None:
    for name, (make, status, code) in BAD.items():
        with subtests.test(name):
            answer = rig.client.post("/v1/envelopes", content=make(rig))
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (status, code)
            assert answer.headers["content-type"] == "application/problem+json"
            assert problem["type"].endswith(code)
            # Only the last leaves something behind: the good line before the bad one.
            assert rig.stored() == ([(1, 0)] if name == "two stations in one batch" else [])


def test_oversize_body_is_cut_off(rig: Rig) -> None:
    limit = rig.service.settings.max_body_bytes

    def stream() -> Any:
        for _ in range(limit // 2**20 + 2):
            yield b"a" * 2**20

    answer = rig.client.post("/v1/envelopes", content=stream())
    assert (answer.status_code, answer.json()["code"]) == (413, "request.too_large")


def test_bad_wait_is_refused(rig: Rig) -> None:
    for wait in ("-1", "abc", "21", "1e1", "", "99", "1.", "\u0661"):
        answer = rig.client.post("/v1/envelopes", params={"wait": wait}, content=rig.seal().jws)
        assert (answer.status_code, answer.json()["code"]) == (400, "query.wait"), wait
    assert rig.stored() == []


def test_scan_is_queued_once_per_closed_hour(rig: Rig) -> None:
    for _ in range(59):
        rig.next()
    rig.ep, rig.seq, rig.prev = 1, 0, ZERO_HASH
    rig.post(rig.next())  # 00:59
    jobs = "SELECT task_name, queueing_lock, lock, args, status::text FROM procrastinate_jobs"
    assert rig.service.rows(jobs) == []
    rig.post(rig.next())  # 01:00 closes hour 0
    (job,) = rig.service.rows(jobs)
    assert tuple(job) == ("detection.scan", "scan:4711", "scan:4711", {"stn": "4711"}, "todo")
    rig.at_ms += 3_600_000
    rig.post(rig.next())
    assert len(rig.service.rows(jobs)) == 1


def test_answer_is_json_line_by_line(rig: Rig) -> None:
    body = b"\n".join(rig.next().jws for _ in range(20)) + b"\n"
    answer = rig.client.post("/v1/envelopes", content=body)
    assert len(json.loads(answer.content)["stored"]) == 20
