"""Detection in the service: what is stored is judged once, whatever dies in between."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from emdi.event import parse_event
from stackwitness.db.unit import unit_of_work
from stackwitness.detection import flow, queries, tasks
from stackwitness.flags import flow as flags
from stackwitness_client.simulator import Cheat, Plant
from tests.support.plants import DAY_MS, START_MS, PushedPlant, pushed_plant
from tests.support.service import Service

DAYS = 9
FORGED_MS = START_MS + 7 * DAY_MS
END_MS = START_MS + DAYS * DAY_MS
# Every quarter of an hour: the same road, a third of the readings.
STEP_S = 900
NIGHTS = (Cheat("hold", ("nox",), FORGED_MS, 9.0),)


@pytest.fixture
def forging(service: Service, tmp_path: Path) -> Iterator[PushedPlant]:
    with pushed_plant(service, tmp_path, "glass-1", Plant(77, "glass"), NIGHTS) as pushed:
        yield pushed


def scan(service: Service, stn: str = "glass-1") -> int:
    return flow.scan(service.wiring, stn)


def work(service: Service) -> None:
    """Work off every job with the real worker."""
    asyncio.run(tasks.serve(service.wiring, wait=False, install_signal_handlers=False))


def episodes(service: Service) -> list[tuple[Any, ...]]:
    query = (
        "SELECT f.episode, f.kind, f.from_at, greatest(f.to_at, max(x.to_at)) FROM flag f"
        " LEFT JOIN flag_extension x USING (flag_id) GROUP BY f.flag_id ORDER BY 1"
    )
    return [tuple(row) for row in service.rows(query)]


def memory(service: Service) -> list[Any]:
    return service.rows("SELECT stn, upto, state_hash FROM detection_state ORDER BY stn")


def get(service: Service, path: str) -> Any:
    return service.client.get(path, headers=service.headers("inspector")).json()


def test_the_road_from_a_forged_night_to_a_decision(service: Service, forging: PushedPlant) -> None:
    # 1 The station pushes signed readings; ingest queues the scan.
    forging.push(START_MS, END_MS, STEP_S)
    queued = service.rows("SELECT task_name, args FROM procrastinate_jobs WHERE status = 'todo'")
    assert ("detection.scan", {"stn": "glass-1"}) in [tuple(row) for row in queued]
    # 2 The worker judges them.
    work(service)
    listed = get(service, "/v1/flags?station=glass-1&state=open")["flags"]
    nights = [flag for flag in listed if flag["channels"] == ["nox"] and flag["from_at"] >= "2026-01-12"]
    assert nights, listed
    # 3 The flag names its readings and what judged them.
    flag = get(service, f"/v1/flags/{nights[0]['flag_id']}")
    claims = flag["claims"]
    [first] = service.rows(
        "SELECT min(seq), max(seq) FROM envelope WHERE first_at <= :to_at AND last_at >= :from_at",
        from_at=flags.at_of(claims["from_ms"]),
        to_at=flags.at_of(claims["to_ms"]),
    )
    assert (claims["input"]["seq_first"], claims["input"]["seq_last"]) == tuple(first)
    [config] = service.rows("SELECT jws FROM event WHERE subj = 'detector'")
    assert parse_event(bytes(config.jws)).data["config_hash"] == claims["config_hash"]
    assert get(service, f"/v1/flags/{flag['flag_id']}/plot")["series"]
    # 4 An inspector decides; the log holds flag and decision.
    answer = service.client.post(
        f"/v1/flags/{flag['flag_id']}/reviews",
        json={"decision": "confirmed_odd", "reason": "Nine hours without any movement while the furnace ran"},
        headers=service.headers("inspector"),
    )
    assert answer.status_code == 201
    service.settle()
    logged = {
        bytes(row.entry_id).hex() for row in service.rows("SELECT entry_id FROM log_entry WHERE kind = 2")
    }
    assert {flag["event_id"], answer.json()["event_id"]} <= logged
    # 5 Receipts came back, the spool is free.
    forging.station.pusher.drain(give_up_s=5)
    assert forging.station.spool.count().waiting == 0


def test_what_is_judged_is_not_judged_again(service: Service, forging: PushedPlant) -> None:
    forging.push(START_MS, END_MS, STEP_S)
    assert scan(service) > 0
    before, found = memory(service), episodes(service)
    assert scan(service) == 0
    assert (memory(service), episodes(service)) == (before, found)
    assert tasks.list_lagging(service.wiring) == []


def test_any_chunks_give_the_same_memory_and_flags(
    service: Service, forging: PushedPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "CHUNK", timedelta(hours=31))
    for day in range(0, DAYS, 3):
        forging.push(START_MS + day * DAY_MS, START_MS + (day + 3) * DAY_MS, STEP_S)
        scan(service)
    piecewise, found = memory(service), episodes(service)
    # The memory is a cache: lost, it is made again from the readings, and no flag is raised twice.
    with unit_of_work(service.wiring.engine) as conn:
        conn.exec_driver_sql("DELETE FROM detection_state")
    monkeypatch.undo()
    assert scan(service) == 0
    assert memory(service) == piecewise
    assert episodes(service) == found


def test_a_memory_of_other_detectors_is_made_anew(service: Service, forging: PushedPlant) -> None:
    forging.push(START_MS, END_MS, STEP_S)
    scan(service)
    before, found = memory(service), episodes(service)
    with unit_of_work(service.wiring.engine) as conn:
        conn.exec_driver_sql("UPDATE detection_state SET state = 'of another version'")
    forging.push(END_MS, END_MS + 2 * 3_600_000, STEP_S)
    scan(service)
    [row] = memory(service)
    assert row.upto > before[0].upto
    assert {e[0] for e in found} <= {e[0] for e in episodes(service)}
    [count] = service.rows("SELECT count(*), count(DISTINCT episode) FROM flag")
    assert count[0] == count[1]


def test_a_failing_detector_loses_nothing(
    service: Service, forging: PushedPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    forging.push(START_MS, END_MS, STEP_S)

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(flow, "run", fail)
    work(service)
    assert memory(service) == []
    assert tasks.list_lagging(service.wiring) == ["glass-1"]
    monkeypatch.undo()
    with unit_of_work(service.wiring.engine) as conn:
        conn.exec_driver_sql("DELETE FROM procrastinate_jobs")
    # No reading came since and no job waits: the sweep sees the lag.
    work(service)
    assert episodes(service)
    assert tasks.list_lagging(service.wiring) == []


def test_flags_and_memory_are_stored_together_or_not_at_all(
    service: Service, forging: PushedPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    forging.push(START_MS, END_MS, STEP_S)
    real, calls = flags.raise_flag, []

    def fail_at_second(*given: Any, **more: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            raise ZeroDivisionError
        return real(*given, **more)

    monkeypatch.setattr(flags, "raise_flag", fail_at_second)
    with pytest.raises(ZeroDivisionError):
        scan(service)
    assert (memory(service), episodes(service)) == ([], [])
    monkeypatch.undo()
    assert scan(service) > 0


def test_the_job_of_a_killed_worker_is_taken_back(service: Service, forging: PushedPlant) -> None:
    forging.push(START_MS, END_MS, STEP_S)
    with unit_of_work(service.wiring.engine) as conn:
        # What kill -9 leaves: a job being done by a worker that is no more.
        conn.exec_driver_sql("UPDATE procrastinate_jobs SET status = 'doing', worker_id = NULL")
    work(service)
    assert episodes(service)
    assert service.rows("SELECT 1 FROM procrastinate_jobs WHERE status = 'doing'") == []


def test_whoever_follows_a_killed_worker_looks_again_when_its_jobs_have_stalled(
    service: Service, forging: PushedPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    forging.push(START_MS, END_MS, STEP_S)
    with unit_of_work(service.wiring.engine) as conn:
        # Killed a moment ago: its last sign of life is fresh.
        killed = conn.exec_driver_sql(
            "INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id"
        ).scalar()
        conn.exec_driver_sql(f"UPDATE procrastinate_jobs SET status = 'doing', worker_id = {killed}")
    monkeypatch.setattr(tasks, "STALLED_S", 2.0)

    async def follow() -> None:
        worker = asyncio.create_task(tasks.serve(service.wiring, install_signal_handlers=False))
        while not worker.done() and not episodes(service):
            await asyncio.sleep(0.1)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    asyncio.run(asyncio.wait_for(follow(), 50))
    assert episodes(service)


def test_the_first_value_seen_is_the_one_judged(service: Service, forging: PushedPlant) -> None:
    forging.push(START_MS, START_MS + DAY_MS, STEP_S)
    with unit_of_work(service.wiring.engine) as conn:
        before = queries.load_series(conn, "glass-1", flags.at_of(START_MS), flags.at_of(START_MS + DAY_MS))
    honest = Plant(78, "glass")
    forging.station.record_pack(honest.readings(START_MS + 3_600_000))
    forging.station.pusher.push(give_up_s=5)
    with unit_of_work(service.wiring.engine) as conn:
        after = queries.load_series(conn, "glass-1", flags.at_of(START_MS), flags.at_of(START_MS + DAY_MS))
    assert after == before
    assert service.rows("SELECT count(*) FROM reading")[0][0] == (96 + 1) * len(honest.channels)


def test_years_without_readings_are_stepped_over(service: Service, forging: PushedPlant) -> None:
    forging.push(START_MS - 3000 * DAY_MS, START_MS - 2999 * DAY_MS, STEP_S)
    scan(service)
    forging.push(START_MS, START_MS + DAY_MS, STEP_S)
    scan(service)
    assert tasks.list_lagging(service.wiring) == []
    [row] = memory(service)
    assert row.upto == flags.at_of(START_MS + DAY_MS - 3_600_000)


@pytest.mark.parametrize(
    ("industry", "seed", "step_s"), [("gas_turbine", 11, 300), ("steel_sinter", 12, 900)]
)
def test_an_honest_month_raises_no_flag(
    service: Service, tmp_path: Path, industry: str, seed: int, step_s: int
) -> None:
    with pushed_plant(service, tmp_path, "honest-1", Plant(seed, industry)) as pushed:
        pushed.push(START_MS, START_MS + 31 * DAY_MS, step_s)
    scan(service, "honest-1")
    raised = service.rows("SELECT detector, kind, verdict, channels, text_en FROM flag")
    assert [tuple(row) for row in raised] == []


def test_everybody_signed_in_sees_how_far_a_station_is_judged(service: Service, forging: PushedPlant) -> None:
    forging.push(START_MS, START_MS + DAY_MS, STEP_S)
    assert get(service, "/v1/detection")["stations"][0]["lag_h"] is None
    scan(service)
    [shown] = get(service, "/v1/detection")["stations"]
    assert (shown["stn"], shown["lag_h"], shown["judged_upto"]) == (
        "glass-1",
        0.0,
        shown["readings_upto"],
    )
    assert service.client.get("/v1/detection").status_code == 401
