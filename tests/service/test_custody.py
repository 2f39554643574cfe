"""Who looked at evidence stands in the log: once per account, object and UTC day, before anything is shown."""

import pytest

from emdi.event import parse_event
from stackwitness import clock
from stackwitness.errors import DatabaseUnavailable
from stackwitness.evidence.flow import build_export
from stackwitness.log.custody import Custody, list_looks
from stackwitness.log.fsck import fsck
from tests.service.console_seed import seed
from tests.service.evidence_support import running
from tests.support.service import Service


def looks(service: Service) -> list[tuple[str, dict[str, object]]]:
    rows = service.rows("SELECT jws FROM event WHERE typ LIKE 'evidence.%' ORDER BY recv_ms, sseq")
    events = [parse_event(bytes(row.jws)) for row in rows]
    assert all(event.act == event.data["by"] for event in events)
    return [(event.typ, event.data) for event in events]


def test_a_look_is_signed_once_a_day(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    [flag] = seed(service, stations=1, flags_each=1, days=1)
    flag_id = flag.flag_id
    inspector, auditor = service.headers("inspector"), service.headers("auditor")
    for headers in (inspector, inspector, auditor):
        assert service.client.get(f"/v1/flags/{flag_id}", headers=headers).status_code == 200
        assert service.client.get(f"/v1/flags/{flag_id}/plot", headers=headers).status_code == 200
    found = looks(service)
    assert [(typ, data["what"], data["id"], data["by"]) for typ, data in found] == [
        ("evidence.viewed", "flag", flag_id, "inspector"),
        ("evidence.viewed", "flag", flag_id, "auditor"),
    ]
    # Another process remembers nothing, and writes nothing twice all the same.
    stn = service.rows("SELECT stn FROM flag")[0].stn
    again = Custody(service.wiring.engine, service.wiring.service_key)
    again.note(
        "evidence.viewed", stns=[stn], what="flag", object_id=flag_id, account_id="inspector", agency="*"
    )
    assert len(looks(service)) == 2
    tomorrow = clock.now_utc().replace(year=clock.now_utc().year + 1)
    monkeypatch.setattr(clock, "now_utc", lambda: tomorrow)
    again.note(
        "evidence.viewed", stns=[stn], what="flag", object_id=flag_id, account_id="inspector", agency="*"
    )
    assert len(looks(service)) == 3
    monkeypatch.undo()  # next year the auditor's token is void
    listed = service.client.get(f"/v1/flags/{flag_id}/custody", headers=auditor).json()["custody"]
    assert [(one["act"], one["account_id"]) for one in listed] == [
        ("evidence.viewed", "inspector"),
        ("evidence.viewed", "auditor"),
        ("evidence.viewed", "inspector"),
    ]
    service.settle()
    assert [one.line() for one in fsck(service.wiring.engine, service.settings.log_dir).findings] == []


def test_a_stranger_and_a_list_leave_no_trace(service: Service) -> None:
    [flag] = seed(service, stations=1, flags_each=1, days=1)
    flag_id = flag.flag_id
    assert service.client.get(f"/v1/flags/{flag_id}").status_code == 401
    assert service.client.get("/v1/flags", headers=service.headers("auditor")).status_code == 200
    assert service.client.get("/v1/flags/x-0", headers=service.headers("auditor")).status_code == 404
    assert looks(service) == []


def test_what_cannot_be_written_down_is_not_shown(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    [flag] = seed(service, stations=1, flags_each=1, days=1)
    flag_id = flag.flag_id
    auditor = service.headers("auditor")

    def fail(self: Custody, *_: object, **__: object) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(Custody, "note", fail)
    assert service.client.get(f"/v1/flags/{flag_id}", headers=auditor).status_code == 503


def test_every_station_of_an_export_has_it_in_its_custody(service: Service) -> None:
    seed(service, stations=2, flags_each=1, days=1)
    stns = sorted(row.stn for row in service.rows("SELECT stn FROM station"))
    service.settle()
    asked = {
        "stations": stns,
        "from": "2026-01-02T00:00:00Z",
        "to": "2026-01-03T00:00:00Z",
        "purpose": "audit",
    }
    regulator = service.headers("regulator")
    export_id = service.client.post("/v1/exports", json=asked, headers=regulator).json()["export_id"]
    with running(service.loop):
        build_export(service.wiring, export_id)
    for _ in range(2):
        answer = service.client.get(f"/v1/exports/{export_id}/bundle", headers=regulator)
        assert answer.status_code == 200
    written = service.rows("SELECT subj, typ FROM event WHERE typ = 'evidence.downloaded' ORDER BY subj")
    assert [row.subj for row in written] == [f"station:{stn}" for stn in stns]
    # To people it is one look.
    with service.wiring.engine.connect() as conn:
        [look] = list_looks(conn, "export", export_id)
    assert (look.act, look.account_id) == ("evidence.downloaded", "regulator")
    service.settle()
    assert [one.line() for one in fsck(service.wiring.engine, service.settings.log_dir).findings] == []
