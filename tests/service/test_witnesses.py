"""The log and its witnesses: real witnesses behind real sockets, good, late, forked and talking nonsense."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import sqlalchemy as sa
import time_machine

from emdi.checkpoint import open_checkpoint, parse_checkpoint
from emdi.encoding import b64_encode
from emdi.errors import PolicyError
from emdi.event import parse_event
from emdi.merkle import leaf_hash, root_of
from emdi.note import NoteSigner, parse_note, sign_note
from emdi.policy import parse_policy
from emdi.receipt import verify_receipt
from emdi.witness import CosignatureRequest, format_request
from stackwitness import clock
from stackwitness.errors import StackwitnessError
from stackwitness.log.errors import QuorumMissing
from stackwitness.log.loop import LogLoop, Turns
from stackwitness.log.notekeys import load_note_signer
from stackwitness.log.policies import read_policy, take_policy
from stackwitness.log.status import STATUS_FILE, LogWarning, StatusFile, read_alarm, read_warnings
from stackwitness.log.witnesses import Witnesses
from stackwitness.settings import Settings
from stackwitness_client.witness.cosigner import Cosigner
from tests.emdi.making import seed
from tests.service.log_support import SmallLog, make_log
from tests.service.witness_support import Answer, Crowd
from tests.support.service import Service

TIMEOUT_S = 1.0


@pytest.fixture
def small(settings: Settings, engine: sa.Engine) -> SmallLog:
    small = make_log(settings, engine)
    small.start().sequence()
    return small


@pytest.fixture
def crowd(small: SmallLog, tmp_path: Path) -> Iterator[Crowd]:
    crowd = Crowd(small, tmp_path)
    with crowd.stack:
        yield crowd


def follow(crowd: Crowd, needed: int, *, require_quorum: bool = False) -> LogLoop:
    loop = crowd.small.start()
    policy = parse_policy(crowd.policy_text(needed))
    loop.announcer.follow(policy, TIMEOUT_S, require_quorum=require_quorum)
    crowd.stack.callback(loop.announcer.close)
    return loop


def test_receipts_carry_the_quorum(crowd: Crowd) -> None:
    for name, kind in (("w1", 4), ("w2", 4), ("w3", 6)):
        crowd.add(name, kind=kind)
    loop = follow(crowd, 3)
    made = crowd.small.note(300)
    loop.sequence()
    loop.publish()
    made += crowd.small.note(2)  # the second checkpoint: one request each, from the size they remember
    loop.sequence()
    assert loop.publish().size == 303
    assert loop.announcer.warnings == ()
    policy = parse_policy(crowd.policy_text(3))
    for event_id, jws in made[::50]:
        receipt = crowd.small.reader.receipt(event_id)
        assert receipt is not None
        assert verify_receipt(receipt, jws, policy).size == 303
    assert len(policy.check(crowd.small.reader.checkpoint()).keys) == 4


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"\xe2\x80\x94 w.example AAAA\n")


def unprocessable(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(422, "no")


def flood(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(64):
        handler.wfile.write(b"x" * 65536)


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b"x")
        time.sleep(0.1)


def restless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(409)
    handler.end_headers()
    handler.wfile.write(b"2\n" if time.monotonic_ns() // 7 % 2 else b"1\n")


def larger(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(409)
    handler.end_headers()
    handler.wfile.write(b"9999\n")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (nonsense, ""),
        (unprocessable, "answered 422"),
        (flood, "too long"),
        (drip, "in time"),
        (restless, ""),
        (larger, "FORK? it has cosigned 9999"),
        (None, ""),
    ],
)
def test_a_bad_witness_is_named_and_stops_nothing(crowd: Crowd, bad: Answer | None, says: str) -> None:
    crowd.add("w1")
    if bad is None:
        crowd.add_away("w2")
    else:
        crowd.add_bad("w2", bad)
    crowd.small.note(5)
    loop = follow(crowd, 2)
    loop.sequence()
    began = time.monotonic()
    assert loop.publish().size == 6
    assert time.monotonic() - began < 30  # a witness that drips for ever would hold this up for ever
    warnings = loop.announcer.warnings
    assert [warning.code for warning in warnings] == ["log.quorum", "log.witness"]
    assert "w2" in warnings[1].text
    assert says in warnings[1].text
    note = crowd.small.reader.checkpoint()
    with pytest.raises(PolicyError, match="quorum"):
        open_checkpoint(note, parse_policy(crowd.policy_text(2)))
    assert len(parse_policy(crowd.policy_text(1)).check(note).keys) == 2


def test_a_witness_that_cosigned_another_history_names_the_fork(crowd: Crowd) -> None:
    """The log key in a thief's hands: whoever gets to the witness first, the other gets no cosignature."""
    crowd.add("w1")
    thief = load_note_signer(crowd.small.settings.signer_dir / "log.key")
    leaves = [leaf_hash(bytes([number])) for number in range(4)]
    text = f"{crowd.small.settings.log_origin}\n4\n{b64_encode(root_of(leaves))}\n"
    note = sign_note(text, thief)
    answer = Cosigner(crowd.memories["w1"], [NoteSigner("w1.example", seed("w1"), 4)]).add_checkpoint(
        format_request(CosignatureRequest(0, (), note))
    )
    assert answer.status == 200
    loop = follow(crowd, 1)
    crowd.small.note(3)
    loop.sequence()
    assert loop.publish().size == 4
    assert "422" in loop.announcer.warnings[1].text
    crowd.small.note(3)
    loop.sequence()
    assert loop.publish().size == 7
    assert "422" in loop.announcer.warnings[1].text


def test_a_witness_that_was_late_holds_up_nothing_the_quorum_does_not_need(crowd: Crowd) -> None:
    release = threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        release.wait(60)

    crowd.add("w1")
    crowd.add_bad("w2", stall)
    crowd.stack.callback(release.set)
    loop = crowd.small.start()
    witnesses = Witnesses(parse_policy(crowd.policy_text(1)), TIMEOUT_S)
    crowd.stack.callback(witnesses.close)
    loop.publish()
    note, tiles = crowd.small.reader.checkpoint(), crowd.small.reader.tiles()
    first = witnesses.cosign(note, tiles)
    assert (first.quorum, first.missing) == (True, ("w2: no answer in time",))
    witnesses.timeout_s = witnesses._asked[1]._client.timeout = 100
    began = time.monotonic()
    assert witnesses.cosign(note, tiles).quorum
    assert time.monotonic() - began < 50


def test_fail_closed_publishes_nothing_until_the_quorum_is_back(crowd: Crowd, settings: Settings) -> None:
    crowd.add_away("w1")
    crowd.small.note(3)
    loop = follow(crowd, 1, require_quorum=True)
    turns, status = Turns(loop, lambda: None), StatusFile(settings.home / STATUS_FILE)
    turns.take(settings, status)
    assert "quorum" in (read_alarm(settings.home) or "")
    assert not (settings.log_dir / "checkpoint").exists()
    crowd.small.note(3)
    turns.take(settings, status)  # blocked: nothing more is sequenced, so the queue tells ingest
    with crowd.small.engine.connect() as conn:
        assert conn.execute(sa.text("SELECT count(*) FROM log_pending")).scalar_one() == 3
    crowd.witnesses.clear()
    crowd.add("w1")
    loop.announcer.follow(parse_policy(crowd.policy_text(1)), TIMEOUT_S, require_quorum=True)
    turns.take(settings, status)
    assert read_alarm(settings.home) is None
    parse_policy(crowd.policy_text(1)).check(crowd.small.reader.checkpoint())


def test_an_idle_log_gets_fresh_cosignatures(crowd: Crowd) -> None:
    crowd.add("w1")
    loop = follow(crowd, 1)
    policy = parse_policy(crowd.policy_text(1))

    def published() -> tuple[int, int]:
        loop.publish()
        note = crowd.small.reader.checkpoint()
        return parse_checkpoint(parse_note(note).text).size, max(policy.check(note).times_s)

    with time_machine.travel(clock.now_ms() / 1000, tick=False) as traveller:
        size, first_s = published()
        traveller.shift(60)
        assert published() == (size, first_s)
        traveller.shift(600)
        assert published() == (size, first_s + 660)


def test_a_missing_witness_is_asked_again_soon(crowd: Crowd) -> None:
    crowd.add_away("w1")
    loop = follow(crowd, 1)
    loop.publish()
    assert loop.announcer.warnings
    away = crowd.witnesses.pop()
    crowd.add("w1")
    loop.announcer._witnesses._asked[0]._url = crowd.witnesses[0].split()[3] + "add-checkpoint"  # type: ignore[union-attr]
    assert away.split()[2] == crowd.witnesses[0].split()[2]
    with time_machine.travel(clock.now_ms() / 1000 + 16, tick=True):
        loop.publish()
    assert loop.announcer.warnings == ()


def test_status_tells_of_warnings(settings: Settings, crowd: Crowd) -> None:
    crowd.add_away("w1")
    loop = follow(crowd, 1)
    turns, status = Turns(loop, lambda: None), StatusFile(settings.home / STATUS_FILE)
    turns.take(settings, status)
    assert [warning.code for warning in read_warnings(settings.home)] == ["log.quorum", "log.witness"]
    assert read_alarm(settings.home) is None
    status.clear(1)
    assert read_warnings(settings.home) == ()
    (settings.home / STATUS_FILE).write_text('{"warnings": [1]}')
    assert read_warnings(settings.home) == ()


def test_a_changed_policy_is_an_event(crowd: Crowd, tmp_path: Path) -> None:
    small, path = crowd.small, tmp_path / "policy.txt"

    def take(text: str | None) -> str:
        if text is not None:
            path.write_text(text)
        take_policy(small.engine, small.service_key, small.vkey, None if text is None else path)
        with small.engine.connect() as conn:
            return read_policy(conn) or ""

    genesis = take(None)
    assert genesis == f"log {small.vkey}\nquorum none\n"
    crowd.add_away("w1")
    text = crowd.policy_text(1)
    assert take(text) == text
    assert take(text) == text
    assert take(None) == text  # without a file, what was logged last stays in force
    assert take(genesis) == genesis
    with small.engine.connect() as conn:
        jws = conn.execute(
            sa.text("SELECT jws FROM event WHERE typ = 'policy.change' ORDER BY sseq")
        ).scalars()
        assert [parse_event(bytes(item)).data["policy"] for item in jws] == [text, genesis]


def test_unusable_policy_files(crowd: Crowd, tmp_path: Path) -> None:
    small, path = crowd.small, tmp_path / "policy.txt"
    other = NoteSigner(small.settings.log_origin, seed("other")).vkey
    for text in (None, "", "nonsense\n", f"log {other}\nquorum none\n"):
        if text is not None:
            path.write_text(text)
        with pytest.raises(StackwitnessError) as caught:
            take_policy(small.engine, small.service_key, small.vkey, path)
        assert caught.value.code == "log.policy"


def test_readiness_and_metrics_tell_of_warnings(service: Service) -> None:
    status = StatusFile(service.settings.home / STATUS_FILE)
    assert service.client.get("/readyz").json()["warnings"] == []
    status.clear(
        1, [LogWarning("log.quorum", "q"), LogWarning("log.witness", "w1"), LogWarning("log.anchor", "t")]
    )
    assert service.client.get("/readyz").json()["warnings"] == [
        {"code": "log.quorum", "text": "q"},
        {"code": "log.witness", "text": "w1"},
        {"code": "log.anchor", "text": "t"},
    ]
    lines = service.client.get("/metrics").text.splitlines()
    for name in ("quorum", "witnesses", "anchors"):
        assert f"stackwitness_{name}_missing 1.0" in lines


def test_the_policy_in_force_is_served(service: Service, tmp_path: Path) -> None:
    first = service.client.get("/log/policy").text
    path = tmp_path / "policy.txt"
    path.write_text(f"# ours\n{first}")
    vkey = parse_policy(first).logs[0].key.format()
    take_policy(service.wiring.engine, service.wiring.service_key, vkey, path)
    assert service.client.get("/log/policy").text == f"# ours\n{first}"
    service.settle()


def test_a_key_retired_while_the_log_runs_stops_nothing_that_needs_the_quorum(
    crowd: Crowd, settings: Settings, tmp_path: Path
) -> None:
    """The policy the process began with knows the old key alone; the one in force by now has the new one too."""
    crowd.add("w1")
    text, small = crowd.policy_text(1), crowd.small
    loop = small.start()
    file = tmp_path / "policy.txt"
    file.write_text(text)
    take_policy(small.engine, small.service_key, small.vkey, file)
    before = text.replace(small.vkey, NoteSigner(settings.log_origin, seed("the key before")).vkey)
    loop.announcer.follow(parse_policy(before), TIMEOUT_S, require_quorum=True)
    loop.sequence()
    with pytest.raises(QuorumMissing):
        loop.publish()
    loop.publish()
    assert loop.warnings == ()
    parse_policy(text).check(small.reader.checkpoint())
