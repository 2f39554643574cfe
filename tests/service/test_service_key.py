"""The key that signs events changes: nothing signed before is lost, nothing signed with the old one counts behind it."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from emdi.event import parse_event, seal_event
from emdi.keys import LocalKey
from stackwitness.accounts.domain import Account
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import NotFound, Unprocessable
from stackwitness.evidence import build as build_module
from stackwitness.evidence import flow as evidence
from stackwitness.log.errors import ServiceKeyUnusable
from stackwitness.log.events import append_event, read_subject
from stackwitness.log.fsck import fsck
from stackwitness.log.loop import ensure_genesis
from stackwitness.log.service_keys import load_key, open_service_key
from stackwitness.log.service_rotation import declare_compromise, rotate_service_key
from stackwitness.settings import Settings
from stackwitness.wiring import Wiring
from stackwitness_client.verify import verify_bundle
from tests.service.evidence_support import Shop, make_shop
from tests.support.service import Service

REGULATOR = Account("regulator-1", "r", "regulator")


def kids(engine: sa.Engine) -> list[str]:
    """Return the key of each event in the order of the log."""
    query = (
        "SELECT w.jws FROM event w JOIN log_entry e ON e.kind = 2 AND e.entry_id = w.event_id ORDER BY e.idx"
    )
    with engine.begin() as conn:
        return [parse_event(bytes(jws)).kid for jws in conn.scalars(sa.text(query))]


def rotate(wiring: Wiring) -> str:
    return rotate_service_key(wiring.engine, wiring.service_key, act="operator")


def forge(engine: sa.Engine, key: LocalKey, typ: str = "log.note", subj: str = "log") -> bytes:
    """Store an event signed with a key that may not sign any more, past the program."""
    with engine.begin() as conn:
        head = read_subject(conn, subj)
        assert head is not None
        event = seal_event(
            key, typ=typ, subj=subj, sseq=head.sseq + 1, sprev=head.event_id, act="test", ts_ms=1, data={}
        )
        conn.execute(
            sa.text("INSERT INTO event VALUES (:id, :typ, :subj, :sseq, :sprev, :jws, 1)"),
            {"id": event.event_id, "typ": typ, "subj": subj, "sseq": event.sseq, "sprev": event.sprev, "jws": event.jws},
        )  # fmt: skip
        conn.execute(
            sa.text("UPDATE subject_head SET sseq = :sseq, event_id = :id WHERE subj = :subj"),
            {"id": event.event_id, "subj": subj, "sseq": event.sseq},
        )
    return event.event_id


def test_every_process_signs_with_the_new_key_and_old_tokens_still_open(service: Service) -> None:
    wiring = service.wiring
    headers = service.headers("inspector")
    elsewhere = open_service_key(service.settings.key_dir)
    assert rotate(wiring) == "service-2"
    with unit_of_work(wiring.engine) as conn:  # another process, which heard of nothing
        assert (
            append_event(conn, elsewhere, typ="log.note", subj="log", act="test", data={}).kid == "service-2"
        )
    assert service.client.get("/v1/account", headers=headers).status_code == 200
    assert service.client.get("/v1/account", headers=service.headers("operator")).status_code == 200
    assert rotate(wiring) == "service-3"
    assert service.client.get("/v1/account", headers=headers).status_code == 200
    service.headers("regulator")
    service.settle()
    order = kids(wiring.engine)
    assert order == sorted(order)
    assert set(order) == {"service-1", "service-2", "service-3"}
    names = sorted(path.name for path in service.settings.key_dir.glob("service*.pem"))
    assert names == ["service-2.pem", "service-3.pem", "service.pem"]


def test_a_process_with_an_ended_key_only_signs_nothing(service: Service) -> None:
    old = load_key(service.settings.key_dir, "service-1")
    rotate(service.wiring)
    with pytest.raises(ServiceKeyUnusable), unit_of_work(service.wiring.engine) as conn:
        append_event(conn, old, typ="log.note", subj="log", act="test", data={})


def test_a_token_the_thief_of_the_old_key_issues_opens_nothing(service: Service) -> None:
    from stackwitness.accounts import flow, queries

    engine = service.wiring.engine
    service.headers("inspector")
    old = load_key(service.settings.key_dir, "service-1")
    rotate(service.wiring)
    token = "t" * 43
    data = {"account_id": "inspector", "kind": "bearer", "token_sha256": flow.hash_token(token).hex()}
    data |= {"expires_ms": 4_000_000_000_000}  # type: ignore[dict-item]
    with engine.begin() as conn:
        head = read_subject(conn, "account:inspector")
        assert head is not None
        event = seal_event(
            old, typ="access.token", subj="account:inspector", sseq=head.sseq + 1, sprev=head.event_id,
            act="service:test", ts_ms=1, data=data,
        )  # fmt: skip
        conn.execute(
            sa.text("INSERT INTO event VALUES (:id, :typ, :subj, :sseq, :sprev, :jws, 1)"),
            {"id": event.event_id, "typ": event.typ, "subj": event.subj, "sseq": event.sseq, "sprev": event.sprev,
             "jws": event.jws},
        )  # fmt: skip
        queries.insert_token(
            conn, flow.hash_token(token), "inspector", "bearer", data["expires_ms"], event.event_id
        )  # type: ignore[arg-type]
    for _ in range(2):
        answer = service.client.get("/v1/account", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
        service.settle()
    report = fsck(engine, service.settings.log_dir)
    assert "key.revoked" in {finding.code for finding in report.findings}
    service.check = lambda: None  # type: ignore[method-assign]


def test_a_token_issued_while_the_key_was_suspect_opens_nothing(service: Service) -> None:
    wiring, before = service.wiring, service.headers("auditor")
    first_bad = service.settle()
    headers = service.headers("inspector")
    service.settle()
    rotate(wiring)
    service.settle()
    for kid, idx, error in (
        ("service-9", 1, NotFound),
        ("service-2", 1, Unprocessable),
        ("service-1", 10**9, Unprocessable),
    ):
        with pytest.raises(error):
            declare_compromise(wiring.engine, wiring.service_key, kid, idx, "x", act="operator")
    declare_compromise(
        wiring.engine, wiring.service_key, "service-1", first_bad, "laptop stolen", act="operator"
    )
    assert service.client.get("/v1/account", headers=headers).status_code == 401
    assert service.client.get("/v1/account", headers=before).status_code == 200
    service.settle()
    report = fsck(wiring.engine, service.settings.log_dir)
    assert report.exit_code == 0, report.findings


def test_the_log_process_starts_again_and_knows_its_key(service: Service) -> None:
    settings, wiring = service.settings, service.wiring
    rotate(wiring)
    signer = service.loop._signer
    ensure_genesis(wiring.engine, settings, open_service_key(settings.key_dir), signer)
    (settings.key_dir / "service.pem").unlink()  # ended keys may be destroyed
    ensure_genesis(wiring.engine, settings, open_service_key(settings.key_dir), signer)
    LocalKey.generate("Ed25519", "service-2").save(settings.key_dir / "other.pem")
    (settings.key_dir / "other.pem").rename(settings.key_dir / "service-2.pem")
    with pytest.raises(ServiceKeyUnusable):
        ensure_genesis(wiring.engine, settings, open_service_key(settings.key_dir), signer)


def test_events_that_come_while_the_key_changes_stand_under_the_right_one(service: Service) -> None:
    wiring, stop = service.wiring, threading.Event()

    def append(name: str) -> None:
        signer = open_service_key(service.settings.key_dir)
        while not stop.is_set():
            with unit_of_work(wiring.engine, "sw_seq") as conn:
                append_event(conn, signer, typ="log.note", subj=f"note:{name}", act="test", data={})

    threads = [threading.Thread(target=append, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for _ in range(3):
        rotate(wiring)
    stop.set()
    for thread in threads:
        thread.join()
    service.settle()
    order = kids(wiring.engine)
    assert order == sorted(order)
    assert order[-1] == "service-4"


KILLED = """
import os, signal, sys
from pathlib import Path
from stackwitness.db.engine import make_engine
from stackwitness.log import service_rotation as module
from stackwitness.log.service_keys import open_service_key

place, url, folder = sys.argv[1:]
name, when = place.split(" ")
whole = getattr(module, name)

def dies(*given, **named):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    whole(*given, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(module, name, dies)
module.rotate_service_key(make_engine(url), open_service_key(Path(folder)), act="operator")
"""


def test_a_kill_anywhere_leaves_one_key_in_use_and_the_command_goes_on(service: Service) -> None:
    wiring, settings = service.wiring, service.settings
    url = wiring.engine.url.render_as_string(hide_password=False)
    wanted = 1
    for place in (
        "save_key before", "save_key after", "_log_succession before", "append_event after", "_log_succession after",
        "_settle after",
    ):  # fmt: skip
        done = subprocess.run([sys.executable, "-c", KILLED, place, url, str(settings.key_dir)], check=False)
        assert done.returncode == -9
        with unit_of_work(wiring.engine, "sw_seq") as conn:
            append_event(conn, wiring.service_key, typ="log.note", subj="log", act="test", data={})
        wanted += (
            1 if place != "_settle after" else 2
        )  # cut off behind the end it was done: asked again, it is another
        assert rotate(wiring) == f"service-{wanted}", place
        assert [path.name for path in settings.key_dir.glob("*.next.pem*")] == []
    service.settle()
    report = fsck(wiring.engine, settings.log_dir)
    assert report.findings == []


@pytest.fixture
def shop(settings: Settings, engine: sa.Engine) -> Shop:
    return make_shop(settings, engine)


def export(shop: Shop) -> Path:
    with unit_of_work(shop.engine, "sw_export", "*") as conn:
        asked = evidence.request_export(
            conn, shop.service_key, REGULATOR, stn="S1", purpose="audit", defer=False
        )
    with shop.running_log():
        return evidence.build_export(shop, asked.export_id)  # type: ignore[arg-type]


def test_bundles_tell_of_the_change_and_verify(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    first = export(shop)
    rotate_service_key(shop.engine, shop.service_key, act="operator")  # type: ignore[arg-type]
    report = verify_bundle(export(shop), shop.policy_text)
    assert report.exit_code == 0, report.text()
    assert "the service's key service-1 signs up to idx" in report.text()
    assert verify_bundle(first, shop.policy_text).exit_code == 0
    seal, calls = build_module.seal, []

    def rotate_then_seal(*given: object) -> None:
        if not calls:
            calls.append(rotate_service_key(shop.engine, shop.service_key, act="operator"))  # type: ignore[arg-type]
        seal(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(build_module, "seal", rotate_then_seal)
    report = verify_bundle(export(shop), shop.policy_text)
    assert report.exit_code == 0, report.text()
    assert "service-2 signs up to idx" in report.text()


def test_an_event_of_the_ended_key_is_named_by_fsck_and_verifier(shop: Shop) -> None:
    rotate_service_key(shop.engine, shop.service_key, act="operator")  # type: ignore[arg-type]
    forge(shop.engine, load_key(shop.settings.key_dir, "service-1"), subj="station:S1")
    report = verify_bundle(export(shop), shop.policy_text)
    assert "key.revoked" in {finding.code for finding in report.findings}, report.text()
    named = fsck(shop.engine, shop.settings.log_dir)
    assert "key.revoked" in {finding.code for finding in named.findings}
