"""Epochs wait for an inspector, admitted losses become flags, limits change without a past that is overwritten."""

from typing import Any

from emdi.envelope import ZERO_HASH
from emdi.event import parse_event
from stackwitness.log.fsck import fsck
from tests.service.rig import Rig
from tests.support.service import Service


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def events(service: Service, typ: str) -> list[Any]:
    rows = service.rows("SELECT jws FROM event WHERE typ = :typ ORDER BY subj, sseq", typ=typ)
    return [parse_event(bytes(row.jws)) for row in rows]


def test_a_new_epoch_waits_for_an_inspector(service: Service) -> None:
    rig = Rig(service)
    rig.post(rig.next())
    rig.ep, rig.seq, rig.prev = 2, 0, ZERO_HASH
    first = rig.next()
    rig.post(first)
    (opened,) = events(service, "epoch.open")
    assert opened.data == {"ep": 2, "prev_ep": 1, "env_id": first.env_id.hex()}
    path, inspector = "/v1/stations/4711/epochs", service.headers("inspector")
    (epoch,) = rig.client.get(path, headers=inspector).json()["epochs"]
    assert (epoch["ep"], epoch["prev_ep"], epoch["acknowledged_by"]) == (2, 1, None)
    why = {"why": "logger replaced, record seen"}
    assert code(rig.client.post(f"{path}/2/ack", json=why, headers=rig.operator)) == (403, "account.role")
    assert code(rig.client.post(f"{path}/1/ack", json=why, headers=inspector)) == (404, "epoch.unknown")
    assert rig.client.post(f"{path}/2/ack", json=why, headers=inspector).status_code == 201
    assert code(rig.client.post(f"{path}/2/ack", json=why, headers=inspector)) == (409, "epoch.acknowledged")
    (epoch,) = rig.client.get(path, headers=inspector).json()["epochs"]
    assert epoch["acknowledged_by"] == "inspector"
    (acked,) = events(service, "epoch.ack")
    assert acked.data.keys() == {"ep", "why_sha256"}  # the words stay out of the public log
    service.settle()
    assert fsck(service.wiring.engine, service.settings.log_dir).findings == []


def test_an_admitted_loss_is_an_event_and_a_flag(service: Service) -> None:
    rig = Rig(service)
    rig.post(rig.next())
    rig.at_ms += 3 * 3_600_000
    admitting = rig.skip(4)
    rig.post(admitting)
    (gap,) = events(service, "gap.opened")
    expected = {"ep": 1, "from": 1, "to": 4, "why": "spool lost", "env_id": admitting.env_id.hex()}
    assert gap.data == expected
    service.work()
    service.work()  # a second scan says nothing twice
    flags = rig.client.get("/v1/flags", headers=rig.operator).json()["flags"]
    (flag,) = [one for one in flags if one["kind"] == "skipped_data"]
    assert (flag["verdict"], flag["detector"]) == ("unusual", "continuity")
    assert "4 envelopes are lost (epoch 1, seq 1-4, reason given: spool lost). 3.02 hours" in flag["text_en"]
    assert "4 个数据包" in flag["text_zh"]
    shown = rig.client.get(f"/v1/flags/{flag['flag_id']}", headers=rig.operator).json()
    assert shown["claims"]["innocent"] == ["logger_replaced", "communication_loss", "acquisition_hold"]
    service.settle()
    assert fsck(service.wiring.engine, service.settings.log_dir).findings == []


def test_a_station_cannot_make_its_evidence_endless(service: Service, monkeypatch: Any) -> None:
    monkeypatch.setattr("stackwitness.ingest.queries.MAX_SET_ASIDE_A_DAY", 3)
    rig = Rig(service)
    kept = rig.next()
    rig.post(kept)
    for earlier_ms in range(1, 8):
        twin = rig.seal(ep=kept.ep, seq=0, prev=ZERO_HASH, iat_ms=kept.iat_ms - earlier_ms)
        assert code(rig.post(twin)) == (409, "chain.equivocation")
    assert len(service.rows("SELECT 1 FROM quarantine")) == 3
    assert len(events(service, "equivocation")) == 3


def test_limits_change_and_the_past_keeps_its_own(service: Service) -> None:
    rig = Rig(service)
    path, inspector = "/v1/stations/4711/limits", service.headers("inspector")

    def change(limit: float | None, at: str, headers: dict[str, str] = rig.operator) -> tuple[int, str]:
        form = {"channel": "nox", "limit": limit, "from": at, "why": "permit 7"}
        return code(rig.client.post(path, json=form, headers=headers))

    assert change(40.0, "2026-03-01T00:00:00Z", inspector) == (403, "account.role")
    assert change(40.0, "2026-03-01T00:00:00+08:00") == (201, "")
    assert change(40.0, "2026-04-01T00:00:00Z") == (409, "limit.same")
    assert change(30.0, "2026-02-01T00:00:00Z") == (409, "limit.order")
    assert change(None, "2026-06-01T00:00:00Z") == (201, "")
    unknown = {"channel": "co", "limit": 1.0, "from": "2026-03-01T00:00:00Z", "why": "x"}
    assert code(rig.client.post(path, json=unknown, headers=rig.operator)) == (404, "channel.unknown")
    listed = rig.client.get(path, headers=inspector).json()["limits"]
    assert [(one["limit"], one["from"]) for one in listed if one["channel"] == "nox"] == [
        (50.0, None),
        (40.0, "2026-02-28T16:00:00Z"),
        (None, "2026-06-01T00:00:00Z"),
    ]
    first, _ = events(service, "limit.change")
    assert {name: first.data[name] for name in ("channel", "old", "new")} == {
        "channel": "nox", "old": 50, "new": 40,
    }  # fmt: skip
    service.settle()
    assert fsck(service.wiring.engine, service.settings.log_dir).findings == []
