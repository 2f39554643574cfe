"""Stations of an agency are compared once a day; what is found weighs in whom to inspect first, and is made again at will."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from emdi.pack import Record
from stackwitness.console import facts
from stackwitness.db.unit import unit_of_work
from stackwitness.detection import tasks
from stackwitness.detection.fleet import flow, queries
from stackwitness.detection.fleet.visits import Compared, read_compared
from stackwitness_client.simulator import Plant
from stackwitness_client.station import packs
from tests.detectors.plants import HOUR_MS
from tests.detectors.test_fleet import DAYS, FROM, STATIONS, changed
from tests.support.plants import DAY_MS, START_MS, PushedPlant, pushed_plant
from tests.support.service import Service


@pytest.fixture
def region(service: Service, tmp_path: Path) -> Iterator[list[PushedPlant]]:
    """Four stations of one agency in one region; the first reads low in its last week."""
    courses = changed("low")
    with ExitStack() as stack:
        plants = [
            stack.enter_context(pushed_plant(service, tmp_path, stn, Plant(7, "glass"))) for stn in STATIONS
        ]
        for plant in plants:
            values = courses[plant.stn]
            records = [
                [
                    Record("load", START_MS + i * HOUR_MS, "t/h", Decimal(100 + i % 7), "N"),
                    Record("nox", START_MS + i * HOUR_MS, "mg/m3", Decimal(str(values[i])), "N"),
                ]
                for i in range(DAYS * 24)
            ]
            plant.station.record_packs(packs(records))
            plant.station.pusher.push(give_up_s=5)
        yield plants


async def sweep(service: Service) -> None:
    assert service.settings.database_url is not None
    app = tasks.make_app(service.settings.database_url)
    async with app.open_async():
        await tasks.sweep(app, service.wiring)


def test_the_odd_one_out_is_found_kept_and_made_again(service: Service, region: list[PushedPlant]) -> None:
    assert len(region) == len(STATIONS)
    # The worker's sweep queues the comparison of the agency.
    asyncio.run(sweep(service))
    queued = service.rows("SELECT args FROM procrastinate_jobs WHERE task_name = 'detection.fleet'")
    assert [row.args for row in queued] == [{"agency": "North bureau"}]
    [agency] = flow.list_due(service.wiring)
    run = flow.compare_fleet(service.wiring, agency)
    assert run is not None
    # The last hour of the last day is still open: the day before is the last whole one.
    assert facts.ms_of(run.upto) == START_MS + (DAYS - 1) * DAY_MS
    assert {one.stn for one in run.findings} == {"a"}
    assert {one.kind for one in run.findings} <= {"lower_than_neighbours", "apart_from_neighbours"}
    assert all(one.to_ms > START_MS + FROM * HOUR_MS for one in run.findings)
    assert flow.list_due(service.wiring) == []
    with unit_of_work(service.wiring.engine, "sw_read", "*") as conn:
        [kept] = queries.list_runs(conn)
        assert read_compared(conn).findings == {"a": run.findings}
    assert kept == run
    # Nothing is compared twice; whoever has the readings makes the same run again.
    assert flow.compare_fleet(service.wiring, agency) == run
    assert flow.judge_fleet(service.wiring, kept) == run
    with unit_of_work(service.wiring.engine, "sw_read", "another agency") as conn:
        assert queries.list_runs(conn) == []
        assert read_compared(conn) == Compared({}, 0, None)
    # Over HTTP: the same findings, by pages, and whom to inspect first because of them.
    every = get(service, "/v1/neighbours")
    [comparison] = every["comparisons"]
    assert (comparison["agency"], comparison["stations"]) == (agency, list(STATIONS))
    assert [(one["stn"], one["text_en"], one["e_value"]) for one in every["findings"]] == [
        (one.stn, one.text_en, one.e_value) for one in run.findings
    ]
    paged, after = [], None
    while True:
        page = get(service, "/v1/neighbours", limit=1, after=after, station="a")
        paged += page["findings"]
        if (after := page["next"]) is None:
            break
    assert paged == every["findings"]
    assert get(service, "/v1/neighbours", station="b")["findings"] == []
    assert get(service, "/v1/neighbours", station="nobody") == {
        "comparisons": [],
        "findings": [],
        "next": None,
    }
    first = get(service, "/v1/inspect-first")
    assert (first["stations_weighed"], first["stations_compared"]) == (len(STATIONS), len(STATIONS))
    assert first["compared_upto"] == comparison["upto"]
    assert all(one["stn"] == "a" and one["apart"] == every["findings"] for one in first["visits"])


def get(service: Service, path: str, **params: str | int | None) -> Any:
    given = {name: value for name, value in params.items() if value is not None}
    return service.client.get(path, params=given, headers=service.headers("auditor")).json()
