"""Readings that come late are judged as if they had come in time, at a bounded cost, and the log says how."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emdi.entry import KIND_EVENT, parse_entry
from emdi.event import Event, parse_event, seal_event
from emdi.runs import Run, parse_run
from stackwitness.db.unit import unit_of_work
from stackwitness.detection import flow, keeping, queries, tasks
from stackwitness.detection.frames import make_frame
from stackwitness.detection.late import BEGINNING, load_standing
from stackwitness.evidence.reanalysis import reanalyse, reanalyse_all, run_reanalysis
from stackwitness.evidence.rerun import rerun_leaves
from stackwitness.flags import flow as flags
from stackwitness.pool import open_pool
from stackwitness_client.simulator import Cheat, Plant
from stackwitness_detectors import run, state_hash
from tests.support.plants import DAY_MS, START_MS, PushedPlant, pushed_plant
from tests.support.service import Service

STN = "glass-1"
DAYS = 9
HELD_MS = START_MS + 6 * DAY_MS
STEP_S = 900
HOUR_MS = 3_600_000
NIGHTS = (Cheat("hold", ("nox",), HELD_MS, 9.0),)


@pytest.fixture
def forging(service: Service, tmp_path: Path) -> Iterator[PushedPlant]:
    with pushed_plant(service, tmp_path, STN, Plant(77, "glass"), NIGHTS) as pushed:
        yield pushed


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "HOURS_A_SECOND", float("inf"))


def scan(service: Service) -> int:
    return flow.scan(service.wiring, STN)


def events(service: Service, *types: str) -> list[Event]:
    with unit_of_work(service.wiring.engine) as conn:
        return queries.list_events(conn, f"station:{STN}", types)


def runs(service: Service) -> list[Run]:
    return [parse_run(event) for event in events(service, "detector.run")]


def read(service: Service, path: str) -> dict[str, Any]:
    answer = service.client.get(path, headers=service.headers("inspector"))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def rerun_says(service: Service) -> list[str]:
    size, tiles = service.settle(), service.wiring.log_reader.tiles()
    entries = [parse_entry(tiles.entry(idx)) for idx in range(size)]
    return rerun_leaves(STN, [(idx, e.kind, e.body) for idx, e in enumerate(entries)]).lines()[1:]


def in_time(service: Service) -> tuple[str, dict[str, tuple[Any, ...]]]:
    """Judge all that is stored in one go, in the order of time: memory, and episodes as last told."""
    with unit_of_work(service.wiring.engine) as conn:
        progress = queries.find_progress(conn, STN)
        assert progress is not None
        assert progress.upto == progress.closed
        frame = make_frame(queries.load_series(conn, STN, BEGINNING, progress.closed))
        result = run(flow.load_context(conn, STN, flags.at_of(START_MS)), None, frame)
    told = {f.episode: (f.kind, int(f.from_ms), int(f.to_ms), f.text_en) for f in result.findings}
    return state_hash(result.state), told


def standing(service: Service) -> tuple[str, dict[str, tuple[Any, ...]]]:
    """Return the memory kept, and the flags that have not lapsed as they were last told."""
    with unit_of_work(service.wiring.engine) as conn:
        known = load_standing(conn, STN, always=True)
        memory = queries.find_memory(conn, STN)
    assert known is not None
    assert memory is not None
    told = {}
    for event in events(service, "flag.raised", "flag.extended"):
        one = event.data
        if not known.told[one["episode"]].lapsed:
            told[one["episode"]] = (one["kind"], one["from_ms"], one["to_ms"], one["text_en"])
    return state_hash(memory.state), told


def day(forging: PushedPlant, number: int) -> None:
    forging.push(START_MS + number * DAY_MS, START_MS + (number + 1) * DAY_MS, STEP_S)


WEEK_LATER = [0, 8, 1, 2, 3, 4, 5, 6, 7]
A_DAY_LATE = [1, 0, 3, 2, 5, 4, 7, 6, 8]


@pytest.mark.parametrize(
    "order",
    [WEEK_LATER, A_DAY_LATE, random.Random(3).sample(range(DAYS), DAYS)],
    ids=["a week later", "a day late", "any order"],
)
def test_what_comes_late_is_judged_as_if_it_had_come_in_time(
    service: Service, forging: PushedPlant, restless: None, order: list[int]
) -> None:
    for number in order:
        day(forging, number)
        scan(service)
    assert tasks.list_lagging(service.wiring) == []
    assert standing(service) == in_time(service)
    assert any(one.from_ms < before.upto_ms for before, one in pairwise(runs(service)))
    assert rerun_says(service) == []


def test_it_goes_back_to_a_kept_memory_and_not_to_the_beginning(
    service: Service, forging: PushedPlant, restless: None
) -> None:
    for number in (0, 1, 2, 3, 4, 5, 7, 6, 8):
        day(forging, number)
        scan(service)
    back = [one for before, one in pairwise(runs(service)) if one.from_ms < before.upto_ms]
    assert len(back) == 1
    assert back[0].state_before
    assert START_MS + 3 * DAY_MS <= back[0].from_ms <= START_MS + 6 * DAY_MS
    assert standing(service) == in_time(service)
    assert rerun_says(service) == []


def test_a_memory_kept_that_no_run_left_is_not_gone_back_to(
    service: Service, forging: PushedPlant, restless: None
) -> None:
    for number in (0, 1, 2, 4):
        day(forging, number)
        scan(service)
    with unit_of_work(service.wiring.engine) as conn:
        conn.exec_driver_sql(
            "UPDATE detection_kept SET state = (SELECT state FROM detection_state WHERE stn = detection_kept.stn)"
        )
    day(forging, 3)
    scan(service)
    assert [one.state_before == "" for one in runs(service)].count(True) == 2
    assert standing(service) == in_time(service)


def test_a_flag_that_no_longer_holds_is_kept_and_said_so(
    service: Service, forging: PushedPlant, restless: None
) -> None:
    night_ms = HELD_MS + 21 * HOUR_MS
    end_ms = night_ms + 9 * HOUR_MS
    forging.push(START_MS, night_ms, STEP_S)
    forging.push(night_ms, end_ms, 2 * STEP_S)
    forging.push(end_ms, START_MS + DAYS * DAY_MS, STEP_S)
    scan(service)
    held = [
        e
        for e in events(service, "flag.raised")
        if e.data["from_ms"] >= HELD_MS and "nox" in e.data["channels"]
    ]
    assert held
    # What comes late shows that the channel moved in between.
    honest = Plant(77, "glass")
    for at_ms in range(night_ms + STEP_S * 1000, end_ms, 2 * STEP_S * 1000):
        forging.station.record_pack(honest.readings(at_ms))
    forging.station.pusher.push(give_up_s=5)
    scan(service)
    lapsed = events(service, "flag.lapsed")
    assert {e.data["flag_id"] for e in held} <= {e.data["flag_id"] for e in lapsed}
    assert lapsed[0].ref == (
        next(e for e in held if e.data["flag_id"] == lapsed[0].data["flag_id"]).event_id.hex(),
    )
    kept = {row[0] for row in service.rows("SELECT flag_id FROM flag")}
    assert {e.data["flag_id"] for e in lapsed} <= kept
    assert standing(service) == in_time(service)
    assert rerun_says(service) == []
    # It stays listed, said to have lapsed, and by which run.
    listed = {one["flag_id"]: one for one in read(service, f"/v1/flags?station={STN}&limit=1000")["flags"]}
    assert {name for name, one in listed.items() if one["lapsed"]} == {e.data["flag_id"] for e in lapsed}
    shown = listed[lapsed[0].data["flag_id"]]
    assert shown["lapsed"]["event_id"] == lapsed[0].event_id.hex()
    assert shown["lapsed"]["run_event_id"] == events(service, "detector.run")[-1].event_id.hex()
    assert read(service, f"/v1/flags/{shown['flag_id']}")["lapsed"] == shown["lapsed"]
    assert shown["state"] == "open"
    # It is said once.
    day(forging, DAYS)
    scan(service)
    assert len(events(service, "flag.lapsed")) == len(lapsed)


def test_a_station_that_is_late_all_the_time_is_gone_back_to_now_and_then(
    service: Service, forging: PushedPlant
) -> None:
    for number in range(3):
        day(forging, number)
    scan(service)
    honest = Plant(78, "glass")

    def send_late(minute: int) -> None:
        forging.station.record_pack(honest.readings(START_MS + minute * 60_000 + 1000))
        forging.station.pusher.push(give_up_s=5)
        scan(service)

    def steps() -> int:
        return sum(one.from_ms < before.upto_ms for before, one in pairwise(runs(service)))

    for minute in range(5):
        send_late(minute)
    assert steps() == 1
    assert len(events(service, "late.arrival")) == 5
    assert tasks.list_lagging(service.wiring) == [STN]
    # Judging goes on meanwhile; when it has rested long enough it goes back once for all.
    day(forging, 3)
    scan(service)
    assert steps() == 1
    with unit_of_work(service.wiring.engine) as conn:
        conn.exec_driver_sql("UPDATE detection_state SET stepped_at = stepped_at - interval '1 hour'")
    scan(service)
    assert steps() == 2
    assert tasks.list_lagging(service.wiring) == []
    assert standing(service) == in_time(service)
    assert rerun_says(service) == []


@given(
    st.lists(st.integers(1, 40 * 24), min_size=1, max_size=60), st.integers(0, 10_000), st.integers(0, 500)
)
def test_kept_memories_are_few_and_near(lengths: list[int], start_day: int, late_days: int) -> None:
    kept, at = keeping.Kept(), (20_000 + start_day) * DAY_MS
    first = at
    ends = []
    for hours in lengths:
        kept.keep(at, at + hours * HOUR_MS, b"", "")
        at += hours * HOUR_MS
        ends.append(at)
    found = [end for end in ends if kept.find(end, "") is not None]
    assert len(found) <= 3 * 14
    late_ms = at - late_days * DAY_MS
    before = [end for end in ends if end <= late_ms]
    if late_ms > first + (3 * late_days + 1) * DAY_MS and before:
        newest = max((end for end in found if end <= late_ms), default=first)
        longest = max(lengths) * HOUR_MS
        assert late_ms - newest <= (2 * late_days + 1) * DAY_MS + longest


def test_the_longer_the_way_back_the_longer_the_rest() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    assert keeping.may_step(now, None, 1e6)
    assert not keeping.may_step(now, now - timedelta(minutes=1), 72)
    assert keeping.may_step(now, now - timedelta(minutes=4), 72)
    assert not keeping.may_step(now, now - timedelta(hours=10), 2 * 365 * 24)


def test_stations_are_judged_again_in_parallel_and_give_what_the_log_says(
    service: Service, forging: PushedPlant, restless: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (0, 1, 3, 2, 4, 5, 6, 7):
        day(forging, number)
        scan(service)
    service.settle()
    accounts = []
    for jobs, scheduler in ((1, ""), (2, ""), (2, "local")):
        with open_pool(jobs, scheduler) as pool:
            accounts.append(list(reanalyse_all(service.wiring, [STN], pool, 2)))
    assert accounts[1:] == accounts[:1] * 2
    [told] = accounts[0]
    assert told["ok"]
    assert (told["runs"], told["skipped"], told["anew"]) == (len(runs(service)), [], None)
    # Of another version's runs: all is judged anew, and held against the flags of then.
    anew = reanalyse(STN, leaves_of_another_version(service))["anew"]
    assert anew["new"] == anew["not_found"] == []
    assert sum(anew["found"].values()) > 0
    assert run_reanalysis(service.wiring, [STN], 1, "", as_json=False) == 0
    assert "1 stations, " in capsys.readouterr().out


def leaves_of_another_version(service: Service) -> list[tuple[int | None, int, bytes]]:
    size, tiles = service.settle(), service.wiring.log_reader.tiles()
    found: list[tuple[int | None, int, bytes]] = []
    for idx in range(size):
        entry = parse_entry(tiles.entry(idx))
        body = entry.body
        if entry.kind == KIND_EVENT and (event := parse_event(body)).typ == "detector.run":
            body = seal_event(
                service.wiring.service_key, typ=event.typ, subj=event.subj, sseq=event.sseq, sprev=event.sprev,
                act=event.act, ts_ms=event.ts_ms, ref=event.ref, data={**event.data, "version": "0.9"},
            ).jws  # fmt: skip
        found.append((idx, entry.kind, body))
    return found
