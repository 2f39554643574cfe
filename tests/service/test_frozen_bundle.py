"""Bundles of a frozen log: whole up to its last head, the same bytes for the same question, and no custody claimed."""

import shutil
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from emdi.keys import LocalKey
from emdi.layout import LOGGED
from emdi.note import NoteSigner, parse_note, sign_note
from emdi.scope import parse_scope
from stackwitness.accounts import flow as accounts
from stackwitness.accounts.domain import Account
from stackwitness.accounts.routes import SESSION_COOKIE
from stackwitness.db.unit import unit_of_work
from stackwitness.detection import flow as detection
from stackwitness.errors import Conflict, LogFrozen
from stackwitness.evidence import flow
from stackwitness.evidence.domain import Export
from stackwitness.log.disk import Disk
from stackwitness.log.fsck import fsck
from stackwitness.log.shards import find_end, freeze
from stackwitness.settings import Settings
from stackwitness_client.simulator import Cheat, Plant
from stackwitness_client.verify import Report, verify_bundle
from tests.service.evidence_support import Shop, make_shop
from tests.service.log_station import SmallStation
from tests.service.test_console import HTML, csrf_of
from tests.support.plants import DAY_MS, START_MS, pushed_plant
from tests.support.service import Service

NEXT = "stackwitness.local/log/2027"
REGULATOR, AUDITOR = Account("regulator-1", "r", "regulator"), Account("auditor-1", "a", "auditor")
FROM, TO = datetime(2026, 1, 2, 0, 10, tzinfo=UTC), datetime(2026, 1, 2, 0, 30, tzinfo=UTC)


def end(shop: Shop) -> bytes:
    event_id = freeze(
        shop.engine, shop.log.disk, shop.service_key, successor_origin=NEXT, why="end of the year"
    )
    shop.loop.sequence()
    shop.loop.publish()
    return event_id


@pytest.fixture
def shop(settings: Settings, engine: sa.Engine) -> Shop:
    """Give the small log, with a station that never spoke and with entries that wait, frozen."""
    shop = make_shop(settings, engine)
    shop.grant(AUDITOR)
    SmallStation(shop.log, "S2", LocalKey.from_seed(b"2" * 32, "k2")).register()
    shop.station.push(1)
    shop.station.raise_flag()
    end(shop)
    return shop


def ask(shop: Shop, account: Account = REGULATOR, **given: Any) -> Export:
    given = {"stn": ["S1", "S2"], "purpose": "a court asks", **given}
    with unit_of_work(shop.engine) as conn:
        return flow.request_export(conn, shop.service_key, account, defer=False, **given)


def build(shop: Shop, **given: Any) -> Path:
    return flow.build_export(shop, ask(shop, **given).export_id)


def verify(shop: Shop, bundle: Path) -> Report:
    return verify_bundle(bundle, shop.policy_text)


def test_the_last_head_covers_all_that_waited(shop: Shop) -> None:
    with unit_of_work(shop.engine) as conn:
        found = find_end(conn)
        assert found is not None
        head, end = found.head, found.freeze
    size = shop.log_reader.snapshot().size
    assert (head.as_of, end.idx, end.successor_origin) == (size - 2, size - 1, NEXT)
    lines = shop.log_reader.head_file(head.as_of).decode()
    assert "station S1 0 40 " in lines
    assert "station S2 " not in lines
    assert "subject station:S2 " in lines
    clean = fsck(shop.engine, shop.settings.log_dir, shop.log.policy, signer_dir=shop.settings.signer_dir)
    assert clean.findings == []


def test_a_bundle_of_all_verifies_and_says_that_nobody_logged_it(shop: Shop) -> None:
    bundle = build(shop)
    report = verify(shop, bundle)
    assert report.exit_code == 0, report.text()
    assert (report.counts["envelopes"], report.counts["flags"], report.counts["reviews"]) == (41, 3, 1)
    seal = report.step(7)
    assert seal.state == "not checked"
    assert "the custody of this export is not logged" in seal.skipped
    assert "is not unique" in seal.skipped
    assert NEXT in seal.skipped
    (step,) = [step for step in report.to_json()["steps"] if step["number"] == 7]
    assert "not logged" in step["why"]
    with zipfile.ZipFile(bundle) as archive:
        assert LOGGED.isdisjoint(archive.namelist())
        assert "report.pdf" in archive.namelist()


def test_the_same_question_is_the_same_bytes_and_another_is_another_id(shop: Shop) -> None:
    first = build(shop)
    data, export_id = first.read_bytes(), first.stem
    assert build(shop) == first
    first.unlink()
    assert build(shop).read_bytes() == data
    # As if nobody had ever asked: in a copy of this home, or after its table of requests is gone.
    with shop.engine.begin() as conn:
        conn.execute(sa.text("DELETE FROM frozen_export"))
    first.unlink()
    assert build(shop).read_bytes() == data
    others = [
        ask(shop, purpose="another court asks"),
        ask(shop, stn="S1"),
        ask(shop, from_at=FROM),
        ask(shop, to_at=TO),
        ask(shop, entries=(1, 20)),
        ask(shop, redact=True),
        ask(shop, AUDITOR),
    ]
    assert len({export_id, *(other.export_id for other in others)}) == 8


def test_cosignatures_that_come_later_change_no_bundle(shop: Shop) -> None:
    first = build(shop)
    data = first.read_bytes()
    path = shop.settings.log_dir / "checkpoint"
    note = path.read_bytes()
    path.write_bytes(
        note + sign_note(parse_note(note).text, NoteSigner("w.example", b"w" * 32)).split(b"\n")[-2] + b"\n"
    )
    first.unlink()
    assert build(shop).read_bytes() == data
    with zipfile.ZipFile(build(shop, stn="S1")) as other:
        assert other.read("checkpoint") == note != path.read_bytes()


@pytest.mark.parametrize("redact", [False, True])
def test_part_of_the_time_with_and_without_texts(shop: Shop, redact: bool) -> None:
    bundle = build(shop, stn="S1", from_at=FROM, to_at=TO, redact=redact)
    report = verify(shop, bundle)
    assert report.exit_code == 0, report.text()
    assert (report.counts["envelopes"], report.counts["flags"]) == (22, 3)
    with zipfile.ZipFile(bundle) as archive:
        assert bool(archive.read("disclosures.jsonl")) is not redact
        assert parse_scope(archive.read("scope.json")).redacted is redact


def test_whoever_was_silent_all_the_year_is_shown_so(shop: Shop) -> None:
    report = verify(shop, build(shop, stn="S2"))
    assert report.exit_code == 0, report.text()
    assert "S2: no envelopes" in report.text()


def test_an_interrupted_making_goes_on(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    export = ask(shop)
    with monkeypatch.context() as broken:
        broken.setattr(flow, "zip_members", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            flow.build_export(shop, export.export_id)
    bundle = flow.build_export(shop, export.export_id)
    assert verify(shop, bundle).exit_code == 0
    data = bundle.read_bytes()
    bundle.unlink()
    assert build(shop).read_bytes() == data


def test_two_do_not_make_one_bundle_at_once(shop: Shop) -> None:
    export = ask(shop)
    folder = shop.settings.export_dir / f"{export.export_id}.parts"
    with flow.alone(export, folder), pytest.raises(Conflict) as refused:
        flow.build_export(shop, export.export_id)
    assert refused.value.code == "export.building"
    assert verify(shop, flow.build_export(shop, export.export_id)).exit_code == 0


def test_another_agency_sees_no_request(shop: Shop) -> None:
    export = ask(shop)
    for role in ("sw_read", "sw_review", "sw_export"):
        for agency, seen in (("agency", [export]), ("another", []), ("", [])):
            with unit_of_work(shop.engine, role, agency) as conn:  # type: ignore[arg-type]
                assert flow.list_exports(conn) == seen, (role, agency)


def test_an_unlogged_request_is_for_frozen_logs_alone(settings: Settings, engine: sa.Engine) -> None:
    shop = make_shop(settings, engine)
    asked = (
        "INSERT INTO frozen_export (export_id, stns, from_at, to_at, purpose, account_id, redacted, requested_at)"
        " VALUES ('x', '{S1}', now(), now(), 'none', 'regulator-1', false, now())"
    )
    with pytest.raises(sa.exc.IntegrityError, match="not frozen"), unit_of_work(engine) as conn:
        conn.execute(sa.text(asked))
    open_request = ask(shop, stn="S1")
    end(shop)
    with pytest.raises(LogFrozen):  # asked while the log grew: its event names it, and no seal can
        flow.build_export(shop, open_request.export_id)
    assert verify(shop, build(shop, stn="S1")).exit_code == 0


def test_a_log_frozen_without_a_last_head_says_why_there_is_no_bundle(
    settings: Settings, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = make_shop(settings, engine)
    monkeypatch.setattr("stackwitness.log.shards.seal_head", lambda *_: None)
    monkeypatch.setattr("stackwitness.log.shards.count_pending", lambda conn: -1)
    end(shop)
    with pytest.raises(LogFrozen) as refused:
        ask(shop, stn="S1")
    assert refused.value.code == "log.frozen"
    assert "frozen without a last head" in refused.value.detail
    shutil.rmtree(shop.settings.export_dir, ignore_errors=True)


def test_over_http_and_from_the_console(service: Service, tmp_path: Path) -> None:
    """A regulator who is signed in when the log is frozen asks, and gets a bundle whose findings can be made again."""
    with pushed_plant(
        service, tmp_path, "glass-1", Plant(77, "glass"), (Cheat("hold", ("nox",), START_MS, 9.0),)
    ) as plant:
        plant.push(START_MS, START_MS + 2 * DAY_MS, 900)
    detection.scan(service.wiring, "glass-1")
    regulator = service.headers("regulator")
    wiring = service.wiring
    with unit_of_work(wiring.engine) as conn:
        link = accounts.issue_link(conn, wiring.service_key, "regulator")
        session = accounts.redeem_link(conn, wiring.service_key, link)
    browser = TestClient(service.client.app, headers=HTML, cookies={SESSION_COOKIE: session.token})
    freeze(
        wiring.engine,
        Disk(service.settings.log_dir),
        wiring.service_key,
        successor_origin=NEXT,
        why="the year ends",
    )
    size = service.settle()
    asked = {"station": "glass-1", "purpose": "a court asks"}
    first, again = (service.client.post("/v1/exports", json=asked, headers=regulator) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202), first.text
    assert first.json() == again.json()
    service.work()
    made = service.client.get(first.headers["location"], headers=regulator).json()
    assert made["state"] == "done", made
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(service.client.get(made["bundle"], headers=regulator).content)
    report = verify_bundle(bundle, service.client.get("/log/policy").text, rerun_detectors=True)
    assert report.exit_code == 0, report.text()
    assert "glass-1: " in report.step(13).done

    page = browser.get("/stations/glass-1").text
    day = "2026-01-06"
    form = {"csrf": csrf_of(page), "from": day, "to": day, "purpose": "Hearing"}
    shown = browser.post("/stations/glass-1/exports", data=form)
    assert shown.status_code == 200, shown.text
    service.work()
    done = browser.get(shown.url.path).text
    assert f"/v1{shown.url.path}/bundle" in done
    assert made["export_id"] in browser.get("/exports").text
    assert service.settle() == size
    service.check()
