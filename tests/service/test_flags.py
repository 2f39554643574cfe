"""Flags: one per episode, extended when it lasts, listed by pages, and each said in a signed event."""

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emdi.event import parse_event
from stackwitness.db.unit import unit_of_work
from stackwitness.flags import flow
from stackwitness.flags.domain import Flag, Provenance
from stackwitness_client.simulator import Plant
from stackwitness_detectors.contract import Finding
from tests.support.plants import START_MS, pushed_plant
from tests.support.service import Service

PROVENANCE = Provenance("p-1", 0, 0, 3, "ab" * 32, "cd" * 32)


def finding(episode: str = "hold:so2:1", hours: int = 3, **changes: Any) -> Finding:
    made = Finding(
        detector="hold",
        version="1",
        family="freeze",
        kind="freeze",
        kinds=("freeze", "near_freeze"),
        verdict="cannot be",
        from_ms=START_MS,
        to_ms=START_MS + hours * 3_600_000,
        channels=("so2",),
        statistic=("hold_h", float(hours)),
        e_value=3.1e4,
        numbers={"hours": hours, "value": np.float64(12.4)},  # type: ignore[dict-item]
        text_en=f"so2 stayed at 12.4 mg/m3 for {hours} h",
        text_zh=f"so2 在 {hours} 小时内保持 12.4 mg/m3",
        innocent=("held",),
        look_at_en="the analyser's log",
        look_at_zh="分析仪日志",
        plot={"kind": "hold", "interval": [START_MS, START_MS + 1], "series": [{"v": [1.0, math.nan]}]},
        episode=episode,
        extends=False,
    )
    return dataclasses.replace(made, **changes)


@pytest.fixture
def station(service: Service, tmp_path: Path) -> str:
    with pushed_plant(service, tmp_path, "p-1", Plant(1, "glass")):
        return "p-1"


def raise_flag(service: Service, given: Finding) -> Flag | None:
    with unit_of_work(service.wiring.engine) as conn:
        return flow.raise_flag(conn, service.wiring.service_key, given, PROVENANCE)


def get(service: Service, path: str, **query: Any) -> Any:
    answer = service.client.get(path, params=query, headers=service.headers("auditor"))
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_flag_is_a_row_and_a_signed_event(service: Service, station: str) -> None:
    flag = raise_flag(service, finding())
    assert flag is not None
    shown = get(service, f"/v1/flags/{flag.flag_id}")
    assert (shown["state"], shown["kind"], shown["channels"]) == ("open", "freeze", ["so2"])
    assert shown["claims"]["numbers"] == {"hours": 3, "value": 12.4}
    assert shown["claims"]["input"] == {"ep": 0, "seq_first": 0, "seq_last": 3}
    event = get(service, f"/v1/events/{shown['event_id']}")
    assert (event["typ"], event["subj"], event["data"]["flag_id"]) == (
        "flag.raised",
        "station:p-1",
        flag.flag_id,
    )
    assert flag.flag_id == f"p-1-{event['sseq']}"
    parse_event(event["jws"].encode())
    plot = get(service, f"/v1/flags/{flag.flag_id}/plot")
    assert plot["series"] == [{"v": [1.0, None]}]
    [row] = service.rows("SELECT plot FROM flag")
    assert event["data"]["plot_sha256"] == hashlib.sha256(row.plot.encode()).hexdigest()
    assert json.loads(row.plot) == plot


def test_an_episode_is_raised_once_and_extended_when_it_lasts(service: Service, station: str) -> None:
    first = raise_flag(service, finding())
    assert first is not None
    assert raise_flag(service, finding()) is None
    assert raise_flag(service, finding(hours=2)) is None
    longer = raise_flag(service, finding(hours=6, extends=True, e_value=math.inf))
    assert longer is not None
    assert longer.flag_id == first.flag_id
    assert (longer.to_at - longer.from_at).total_seconds() == 6 * 3600
    assert "6 h" in longer.text_en
    assert longer.e_value == flow.MAX_E_VALUE
    shown = get(service, f"/v1/flags/{first.flag_id}")
    assert [e["to_at"] for e in shown["extensions"]] == [shown["to_at"]]
    assert shown["claims"]["numbers"]["hours"] == 6
    extension = get(service, f"/v1/events/{shown['extensions'][0]['event_id']}")
    assert (extension["typ"], extension["ref"]) == ("flag.extended", [shown["event_id"]])
    assert len(get(service, "/v1/flags")["flags"]) == 1


def test_the_words_follow_the_evidence_of_an_episode_that_grows(service: Service, station: str) -> None:
    first = raise_flag(service, finding(verdict="unusual", e_value=9.0))
    assert first is not None
    assert first.verdict == "unusual"
    longer = raise_flag(service, finding(hours=6, extends=True, verdict="very unlikely", e_value=40.0))
    assert longer is not None
    assert longer.verdict == "very unlikely"


def test_pages_follow_each_other_without_gap(service: Service, station: str) -> None:
    made = [raise_flag(service, finding(f"e{i}")) for i in range(7)]
    wanted = [flag.flag_id for flag in reversed(made) if flag]
    seen: list[str] = []
    after: str | None = None
    while True:
        page = get(service, "/v1/flags", limit=3, **({"after": after} if after else {}))
        seen += [flag["flag_id"] for flag in page["flags"]]
        after = page["next"]
        if after is None:
            break
    assert sorted(seen) == sorted(wanted)
    assert len(seen) == len(set(seen)) == 7
    assert get(service, "/v1/flags", station="p-2")["flags"] == []
    assert len(get(service, "/v1/flags", station="p-1", state="open")["flags"]) == 7
    assert get(service, "/v1/flags", state="decided")["flags"] == []


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/flags/p-1-999", 404, "flag.unknown"),
        ("/v1/flags/p-1-999/plot", 404, "flag.unknown"),
        ("/v1/flags/p-1-999/reviews", 404, "flag.unknown"),
        (f"/v1/events/{'00' * 32}", 404, "event.unknown"),
        ("/v1/flags?after=%21%21", 400, "flags.cursor"),
        ("/v1/flags?after=AAAA", 400, "flags.cursor"),
    ],
)
def test_what_is_not_there(service: Service, path: str, status: int, code: str) -> None:
    answer = service.client.get(path, headers=service.headers("auditor"))
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_nobody_reads_without_signing_in(service: Service) -> None:
    for path in ("/v1/flags", "/v1/flags/p-1-1", "/v1/flags/p-1-1/plot", f"/v1/events/{'00' * 32}"):
        assert service.client.get(path).status_code == 401


def test_a_flag_that_fails_leaves_nothing(service: Service, station: str) -> None:
    before = service.rows("SELECT count(*) FROM event")[0][0]

    def raise_and_fail() -> None:
        with unit_of_work(service.wiring.engine) as conn:
            flow.raise_flag(conn, service.wiring.service_key, finding(), PROVENANCE)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        raise_and_fail()
    assert service.rows("SELECT count(*) FROM event")[0][0] == before
    assert service.rows("SELECT * FROM flag") == []
