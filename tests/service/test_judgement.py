"""What the last run could not judge is kept, shown, and follows from the detectors' memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stackwitness.db.unit import unit_of_work
from stackwitness.detection import flow, queries
from stackwitness.evidence.rerun import rerun_database
from stackwitness_client.simulator import Plant
from stackwitness_detectors.engine import notes_of
from tests.support.plants import DAY_MS, START_MS, PushedPlant, pushed_plant
from tests.support.service import Service

STN = "glass-1"


@pytest.fixture
def plant(service: Service, tmp_path: Path) -> Iterator[PushedPlant]:
    with pushed_plant(service, tmp_path, STN, Plant(77, "glass"), ()) as pushed:
        yield pushed


def read(service: Service, stn: str = STN) -> Any:
    return service.client.get(f"/v1/stations/{stn}/judgement", headers=service.headers("inspector"))


def test_what_cannot_be_judged_is_kept_shown_and_made_again_from_the_memory(
    service: Service, plant: PushedPlant
) -> None:
    # 1 Nothing is judged yet, and it says so.
    assert read(service).json() == {"stn": STN, "judged_upto": None, "channels": [], "cannot": []}
    assert read(service, "nobody").status_code == 404
    # 2 Two days: too little past for nearly all.
    plant.push(START_MS, START_MS + 2 * DAY_MS, 3600)
    flow.scan(service.wiring, STN)
    young = {c["channel"]: c for c in read(service).json()["channels"]}
    assert {note["code"] for note in young["nox"]["cannot"]} >= {"history"}
    assert young["nox"]["least_bias_percent"] is None
    # 3 Eight weeks: the smallest bias that would be found.
    plant.push(START_MS + 2 * DAY_MS, START_MS + 56 * DAY_MS, 3600)
    flow.scan(service.wiring, STN)
    old = read(service).json()
    nox = next(c for c in old["channels"] if c["channel"] == "nox")
    assert 2.5 <= nox["least_bias_percent"] < 100
    assert nox["judged_since"] < old["judged_upto"]
    assert "level" not in {note["detector"] for note in nox["cannot"]}
    assert "no_visits" in {note["code"] for note in old["cannot"]}
    # 4 One row, of the memory that the last run left.
    [row] = service.rows(
        "SELECT j.upto = d.upto AND j.state_hash = d.state_hash FROM judgement j JOIN detection_state d USING (stn)"
    )
    assert tuple(row) == (True,)
    with unit_of_work(service.wiring.engine, "sw_detect") as conn:
        memory, kept = queries.find_memory(conn, STN), queries.find_judgement(conn, STN)
        assert memory is not None
        assert kept is not None
        context = flow.load_context(conn, STN, memory.upto)
    again = notes_of(context, memory.state)
    assert [(n.detector, n.channel, n.code, n.reason, dict(n.numbers)) for n in again] == [
        (n.detector, n.channel, n.code, n.reason, n.numbers) for n in kept.notes
    ]
    # 5 Whoever has the readings runs the detectors again: an edited row is named.
    assert differences(service) == []
    gone = "UPDATE judgement SET notes = notes - 0"
    older = "UPDATE judgement SET upto = upto - interval '1 day'"
    for statement, code in ((gone, "judgement.edited"), (older, "judgement.stale")):
        with service.wiring.engine.begin() as conn:
            conn.exec_driver_sql(statement)
        assert differences(service) == [code]


def differences(service: Service) -> list[str]:
    with unit_of_work(service.wiring.engine, "sw_export", "*") as conn:
        [report] = rerun_database(conn, [STN])
    assert report.runs > 1
    return [one.code for one in report.differences]
