"""The life of a key: two officers, rotation, revocation and compromise, decided by the order of the log."""

import threading
from typing import Any

import pytest
from pydantic import ValidationError

from emdi.event import parse_event, seal_succession
from emdi.keys import LocalKey
from stackwitness.log.fsck import fsck
from stackwitness.settings import Settings
from tests.service.rig import Rig, key_form
from tests.support.service import Service

KEYS = "/v1/stations/4711/keys"


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def problems(service: Service) -> list[str]:
    """Return what fsck finds, one line each."""
    report = fsck(service.wiring.engine, service.settings.log_dir)
    return [finding.line() for finding in report.findings]


def test_nothing_is_signed_before_another_officer_approves(service: Service) -> None:
    rig, new = Rig(service), LocalKey.generate("Ed25519", "4711-2")
    form, approve = key_form(new, "4711"), f"{KEYS}/4711-2/approve"
    assert code(rig.client.post(approve, headers=rig.approver)) == (404, "key.unrequested")
    for _ in range(2):  # asking again, by whomever, changes nothing
        asked = rig.client.post(KEYS, json=form, headers=rig.operator)
        assert (asked.status_code, asked.json()) == (202, {"kid": "4711-2", "state": "requested"})
    listed = rig.client.get(KEYS, headers=rig.operator).json()
    assert [(one["kid"], one["account_id"]) for one in listed["requested"]] == [("4711-2", "operator")]
    assert code(rig.post(rig.seal(signer=new))) == (403, "key.station")
    assert code(rig.client.post(approve, headers=rig.operator)) == (409, "key.same_officer")
    assert code(rig.client.post(approve, headers=service.headers("inspector"))) == (403, "account.role")
    other = key_form(LocalKey.generate("Ed25519", "4711-2"), "4711")
    assert code(rig.client.post(KEYS, json=other, headers=rig.approver)) == (409, "key.taken")
    assert rig.client.post(approve, headers=rig.approver).status_code == 201
    assert rig.post(rig.next(signer=new)).status_code == 202
    assert code(rig.client.post(approve, headers=rig.approver)) == (409, "key.taken")
    service.settle()
    assert problems(service) == []


def test_only_the_old_key_names_its_successor(service: Service) -> None:
    rig, new = Rig(service), LocalKey.generate("ES256", "4711-2")
    stranger = LocalKey.generate("Ed25519", rig.key.kid)
    rotate = f"{KEYS}/{rig.key.kid}/rotate"
    for old_proof in (
        key_form(new, "4711")["proof"],
        seal_succession(stranger, "4711", new.kid, new.public),
        seal_succession(rig.key, "4712", new.kid, new.public),
        seal_succession(rig.key, "4711", new.kid, stranger.public),
    ):
        form = {"new": key_form(new, "4711"), "old_proof": old_proof}
        assert code(rig.client.post(rotate, json=form, headers=rig.operator)) == (422, "key.old_proof")
    rig.post(rig.next())
    rig.rotate(new)
    assert rig.post(rig.next()).status_code == 202
    service.settle()
    assert problems(service) == []


def test_what_a_compromised_key_signed_is_suspect_and_stays(service: Service) -> None:
    rig = Rig(service)
    rig.post(rig.next(), rig.next())
    size = service.settle()
    rig.post(rig.next())
    service.settle()
    path = f"{KEYS}/{rig.key.kid}/compromise"

    def compromise(idx: int) -> tuple[int, str]:
        form = {"why": "logger stolen", "suspect_from_idx": idx}
        return code(rig.client.post(path, json=form, headers=rig.operator))

    assert compromise(10_000) == (422, "key.suspect")
    assert compromise(size) == (200, "")
    assert compromise(size) == (409, "key.compromised")
    assert code(rig.post(rig.seal())) == (403, "key.revoked")
    query = {"station": "4711", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
    page = rig.client.get("/v1/readings", params=query, headers=rig.operator).json()
    (suspect,) = page["suspect"]
    assert (suspect["kid"], suspect["suspect_from_idx"], suspect["envelopes"]) == (rig.key.kid, size, 1)
    assert suspect["from"] == suspect["to"] == "2026-01-01T00:02:00.000Z"
    assert len(page["rows"]) == 9  # nothing is deleted
    assert compromise(size - 1) == (200, "")  # it was earlier than was thought
    (key,) = rig.client.get(KEYS, headers=rig.operator).json()["keys"]
    assert (key["revoked"], key["suspect_from_idx"]) == (True, size - 1)
    service.settle()
    assert problems(service) == []


def test_the_log_decides_a_race_between_revocation_and_envelopes(service: Service) -> None:
    """Whatever was accepted stands before the revocation in the log; nothing of the key stands behind it."""
    rig = Rig(service)
    envelopes = [rig.next() for _ in range(40)]
    answers: list[int] = []
    started = threading.Event()

    def push() -> None:
        for number, envelope in enumerate(envelopes):
            answers.append(rig.post(envelope).status_code)
            if number == 5:
                started.set()

    thread = threading.Thread(target=push)
    thread.start()
    started.wait(20)
    rig.revoke(rig.key.kid)
    thread.join()
    service.settle()
    ended = service.rows(
        "SELECT e.idx FROM log_entry e JOIN event v ON v.event_id = e.entry_id WHERE v.typ = 'key.revoke'"
    )[0].idx
    accepted = [row.idx for row in service.rows("SELECT idx FROM log_entry WHERE kind = 1 ORDER BY idx")]
    assert len(accepted) == answers.count(202) >= 6
    assert max(accepted) < ended
    assert set(answers) <= {202, 403}
    assert problems(service) == []


def test_an_envelope_logged_behind_the_revocation_is_named(service: Service) -> None:
    """An insider takes the revocation out of the tables; what the key signs then is logged, and found."""
    rig = Rig(service)
    rig.post(rig.next())
    rig.revoke(rig.key.kid)
    service.settle()
    with service.wiring.engine.begin() as conn:
        conn.exec_driver_sql("ALTER TABLE key_revocation DISABLE TRIGGER ALL")
        conn.exec_driver_sql("DELETE FROM key_revocation")
        conn.exec_driver_sql("ALTER TABLE key_revocation ENABLE ALWAYS TRIGGER append_only_row")
        conn.exec_driver_sql("ALTER TABLE key_revocation ENABLE ALWAYS TRIGGER append_only_table")
    rig.service.wiring.engine.dispose()
    service.client.app.state.committer.rosters._rosters.clear()  # type: ignore[attr-defined]
    assert rig.post(rig.next()).status_code == 202
    service.settle()
    report = fsck(service.wiring.engine, service.settings.log_dir)
    found = {(finding.code, finding.table) for finding in report.findings}
    assert {("key.revoked", "envelope"), ("key_revocation.missing", "key_revocation")} <= found


def test_one_officer_registers_alone_only_outside_production(tmp_path: Any) -> None:
    with pytest.raises(ValidationError, match="key_approvals"):
        Settings(mode="production", home=tmp_path, log_origin="log.example/1", key_approvals=1)
    assert Settings(mode="test", home=tmp_path, key_approvals=1).key_approvals == 1


def test_every_event_of_a_key_stands_on_its_station(service: Service) -> None:
    rig = Rig(service)
    rig.rotate(LocalKey.generate("Ed25519", "4711-2"))
    rig.revoke("4711-2")
    rows = service.rows("SELECT jws FROM event WHERE typ LIKE 'key.%' ORDER BY sseq")
    events = [parse_event(bytes(row.jws)) for row in rows]
    assert [(event.typ, event.subj, event.act) for event in events] == [
        ("key.request", "station:4711", "operator"),
        ("key.register", "station:4711", "approver"),
        ("key.rotate", "station:4711", "operator"),
        ("key.revoke", "station:4711", "operator"),
    ]
