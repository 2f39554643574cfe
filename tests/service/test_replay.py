"""Replay brings a data set to the server through the SDK, once, in whatever pieces, honest or forged."""

from __future__ import annotations

import fcntl
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from stackwitness.app import create_app
from stackwitness.replay.command import run, run_arguments
from stackwitness.replay.options import (
    Forgery,
    ReplayError,
    ReplayOptions,
    parse_forgery,
    parse_speed,
    parse_time,
)
from stackwitness_client.spool import Spool
from tests.support.service import Service
from tests.support.small_server import Exchange, SmallServer, small_server

START_MS = 1_577_836_800_000
HOUR_MS = 3_600_000
MANIFEST = """
[dataset]
title = "Two mills"
[[stations]]
stn = "mill-{n}"
industry = "cement"
files = ["mill_{n}.csv"]
time = { column = "time" }
channels = [
  { column = "SO2", quantity = "SO2", unit = "mg/m3", role = "pollutant", limit = 35.0 },
  { column = "load", quantity = "load", unit = "MW", role = "load" },
]
for = [{ n = 1 }, { n = 2 }]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a data set of two stations, 400 hours each, a few values missing."""
    made = tmp_path / "data"
    made.mkdir()
    (made / "stations.toml").write_text(MANIFEST)
    for number in (1, 2):
        dice = random.Random(number)
        lines = ["time,SO2,load"]
        for hour in range(400):
            so2 = "" if hour % 97 == 5 else f"{dice.gauss(20, 4):.2f}"
            lines.append(
                f"2020-01-{1 + hour // 24:02d}T{hour % 24:02d}:00:00,{so2},{dice.uniform(80, 120):.1f}"
            )
        (made / f"mill_{number}.csv").write_text("\n".join(lines) + "\n")
    return made


READINGS = 2 * (400 * 2 - 5)


def options(folder: Path, url: str | None, **changes: Any) -> ReplayOptions:
    given = {
        "manifest": folder, "data": folder, "home": folder.parent / "home", "server": url, "token": "t",
        "readings_per_envelope": 60, "report": folder.parent / "report.json", "wait_detection": False,
        "patience_s": 20.0,
    }  # fmt: skip
    given["home"].mkdir(exist_ok=True)  # type: ignore[attr-defined]
    return ReplayOptions(**{**given, **changes})  # type: ignore[arg-type]


def report_of(folder: Path) -> Any:
    return json.loads((folder.parent / "report.json").read_text())


@pytest.fixture
def small() -> Iterator[SmallServer]:
    with small_server() as running:
        yield running


def test_everything_arrives_once_and_a_second_run_sends_nothing(folder: Path, small: SmallServer) -> None:
    assert run(options(folder, small.url)) == 0
    first = report_of(folder)
    assert (first["sent"]["readings"], first["receipts"]["readings"]) == (READINGS, READINGS)
    assert small.readings("mill-1") + small.readings("mill-2") == READINGS
    assert {row["stn"]: row["rows"]["values_missing"] for row in first["stations"]} == {
        "mill-1": 5,
        "mill-2": 5,
    }
    assert run(options(folder, small.url)) == 0
    again = report_of(folder)
    assert (again["sent"]["readings"], again["stations"][0]["rows_sent_before"]) == (0, 400)
    assert small.readings("mill-1") + small.readings("mill-2") == READINGS


def test_it_goes_on_after_what_was_sent(folder: Path, small: SmallServer) -> None:
    to_ms = START_MS + 100 * HOUR_MS
    assert run(options(folder, small.url, stations=("mill-1",), to_ms=to_ms)) == 0
    assert small.readings("mill-1") == 199
    assert run(options(folder, small.url, stations=("mill-1",))) == 0
    records = [record for envelope in small.chains["mill-1"] for record in envelope.records]
    assert len({record[:2] for record in records}) == len(records) == 795
    assert report_of(folder)["stations"][0]["rows_sent_before"] == 100


def test_a_lost_home_opens_a_new_epoch_under_a_new_key(folder: Path, small: SmallServer) -> None:
    to_ms = START_MS + 100 * HOUR_MS
    assert run(options(folder, small.url, stations=("mill-1",), to_ms=to_ms)) == 0
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    assert run(options(folder, small.url, stations=("mill-1",), home=elsewhere)) == 0
    assert {kid for kid, (stn, _) in small.keys.items() if stn == "mill-1"} == {"mill-1-1", "mill-1-2"}
    assert small.chains["mill-1"][-1].ep == 1
    assert small.readings("mill-1") == 795


def test_a_server_that_comes_and_goes_costs_nothing_but_time(folder: Path, small: SmallServer) -> None:
    dice = random.Random(5)

    def moody(x: Exchange) -> bool:
        if dice.random() < 0.4:
            x.answer(503, b"", {"Retry-After": "0"})
            raise ConnectionAbortedError
        return False

    small.faults.append(moody)
    assert run(options(folder, small.url)) == 0
    assert small.readings("mill-1") + small.readings("mill-2") == READINGS
    assert report_of(folder)["acknowledged"]["retries"] > 0


@pytest.mark.parametrize("path", ["/v1/envelopes", "/v1/receipts"])
def test_kill_9_of_the_replay_itself_loses_and_doubles_nothing(
    folder: Path, small: SmallServer, path: str
) -> None:
    home = folder.parent / "home"
    home.mkdir()
    command = [
        sys.executable,
        "-m",
        "stackwitness.cli",
        "replay",
        "--no-wait-detection",
        "--stations",
        "mill-1",
    ]
    command += ["--manifest", str(folder), "--data", str(folder), "--home", str(home), "--server", small.url]
    children: list[subprocess.Popen[bytes]] = []

    def kill(x: Exchange) -> bool:
        if x.path != path:
            return False
        # The child dies while the server takes what came, before it learns of it.
        children[0].kill()
        children[0].wait()
        small._route(x)
        return True

    small.faults.append(kill)
    children.append(subprocess.Popen([*command, "--token", "t", "--readings-per-envelope", "60"]))
    assert children[0].wait(timeout=90) == -signal.SIGKILL
    assert run(options(folder, small.url, stations=("mill-1",))) == 0
    records = [record for envelope in small.chains["mill-1"] for record in envelope.records]
    assert len({record[:2] for record in records}) == len(records) == 795
    assert report_of(folder)["stations"][0]["receipt_readings"] == 795


def test_two_replays_of_one_station_at_once_are_refused(folder: Path, small: SmallServer) -> None:
    home = folder.parent / "home" / "replay" / "mill-1"
    home.mkdir(parents=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(options(folder, small.url, stations=("mill-1",))) == 2
    assert small.readings("mill-1") == 0


def test_forgeries_are_signed_and_nothing_else_changes(folder: Path, small: SmallServer) -> None:
    from_ms, to_ms = START_MS + 200 * HOUR_MS, START_MS + 260 * HOUR_MS
    forgery = Forgery("scale", "mill-2", "SO2", from_ms, to_ms, 0.5)
    assert run(options(folder, small.url, forgeries=(forgery,))) == 0
    with small_server() as honest:
        assert run(options(folder, honest.url, home=folder.parent / "honest")) == 0
        for stn in ("mill-1", "mill-2"):
            told = [r for e in small.chains[stn] for r in e.records]
            true = [r for e in honest.chains[stn] for r in e.records]
            assert [r[:3] for r in told] == [r[:3] for r in true]
            differing = [t for t, h in zip(told, true, strict=True) if t != h]
            assert all(r.name == "SO2" and from_ms <= r.at_ms < to_ms for r in differing)
            assert (len(differing) > 50) == (stn == "mill-2")


def test_paced_replay_keeps_the_data_s_own_rhythm(folder: Path, small: SmallServer) -> None:
    limited = {"stations": ("mill-1",), "to_ms": START_MS + 5 * HOUR_MS, "speed": 36_000.0}
    assert run(options(folder, small.url, **limited)) == 0
    # Each row came when it was due: no envelope holds two.
    assert [len(envelope.records) for envelope in small.chains["mill-1"]] == [2] * 5


def test_a_lying_server_is_its_own_exit_code_and_frees_nothing(folder: Path, small: SmallServer) -> None:
    def lie(x: Exchange) -> bool:
        if x.path != "/v1/receipts":
            return False
        asked = json.loads(x.body)["env_ids"]
        x.answer(200, {"receipts": dict.fromkeys(asked, "trust me\n")})
        return True

    small.faults.append(lie)
    assert run(options(folder, small.url, stations=("mill-1",))) == 6
    with closing(Spool(folder.parent / "home/replay/mill-1/spool.db", "mill-1")) as spool:
        assert spool.count().receipts == 0
    assert run(options(folder, small.url, stations=("mill-1",))) == 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"server": None}, 3),
        ({"token": None}, 3),
        ({"server": "http://127.0.0.1:9", "patience_s": 0.0}, 4),
        ({"stations": ("mill-9",)}, 2),
        ({"forgeries": (Forgery("melt", "mill-1", "SO2", 0, 1),)}, 2),
        ({"forgeries": (Forgery("scale", "mill-1", "NOX", 0, 1),)}, 2),
        ({"forgeries": (Forgery("scale", "mill-1", "SO2", 0, 1),)}, 2),
        ({"manifest": Path("nowhere")}, 2),
        ({"data": Path("nowhere")}, 7),
        ({"files": ("other*",)}, 7),
    ],
)
def test_what_cannot_be_done_has_its_exit_code(
    folder: Path, small: SmallServer, changes: dict[str, Any], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(options(folder, small.url, **changes)) == code
    assert "[" in capsys.readouterr().err


def test_options_are_read_strictly() -> None:
    forgery = parse_forgery("scale:uci-gt:a:b:2013-06-01:2013-08-01T06:30Z:0.25")
    assert forgery == Forgery(
        "scale", "uci-gt", "a:b", parse_time("2013-06-01"), parse_time("2013-08-01T0630"), 0.25
    )
    assert parse_forgery("freeze:s:NOX:2013-06-01T00:2013-06-02T00").strength is None
    assert parse_speed("max") is None
    assert parse_speed("3600") == 3600.0
    for text in (
        "",
        "scale:s:NOX:2013-06-01",
        "scale:s:NOX:2013-06-02:2013-06-01",
        "scale:s:NOX:2013-02-30:2013-06-01",
    ):
        with pytest.raises(ReplayError):
            parse_forgery(text)
    for text in ("fast", "0", "-1", "inf", "nan"):
        with pytest.raises(ReplayError):
            parse_speed(text)
    for text in ("soon", "2013", "2013-13-01", "2013-01-01T25:00", "2013-01-01T00:00+02:00"):
        with pytest.raises(ReplayError):
            parse_time(text)
    assert run_arguments(speed="fast", forgeries=[], stations="", files="", from_at="", to_at="") == 2


@pytest.fixture
def served(service: Service) -> Iterator[str]:
    """Serve the whole service on a loopback port; its log and its worker move by themselves."""
    server = uvicorn.Server(uvicorn.Config(create_app(service.wiring), port=0, log_level="warning"))
    stop = threading.Event()

    def move() -> None:
        while not stop.is_set():
            service.settle()
            service.work()
            stop.wait(0.2)

    threads = [threading.Thread(target=server.run), threading.Thread(target=move)]
    for thread in threads:
        thread.start()
    while not server.started:
        stop.wait(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    stop.set()
    server.should_exit = True
    for thread in threads:
        thread.join()


def test_the_whole_service_stores_proves_and_judges_a_replay(
    folder: Path, service: Service, served: str
) -> None:
    token, other = (
        service.headers(name)["Authorization"].removeprefix("Bearer ") for name in ("operator", "approver")
    )
    forgery = Forgery("freeze", "mill-1", "SO2", START_MS + 250 * HOUR_MS, START_MS + 350 * HOUR_MS)
    asked = options(
        folder,
        served,
        token=token,
        approver_token=other,
        forgeries=(forgery,),
        wait_detection=True,
        detection_within_s=60.0,
    )
    assert run(asked) == 0
    report = report_of(folder)
    assert (
        report["sent"]["readings"]
        == report["stored"]["readings"]
        == report["receipts"]["readings"]
        == READINGS
    )
    by_station = {row["stn"]: row for row in report["stations"]}
    assert all(row["detection_caught_up"] for row in by_station.values())
    assert sum(by_station["mill-1"]["flagged"].values()) >= 1
    count = service.rows("SELECT count(*), count(DISTINCT (channel_no, at)) FROM reading")[0]
    assert tuple(count) == (READINGS, READINGS)
    assert run(asked) == 0
    assert report_of(folder)["sent"]["readings"] == 0
    assert report_of(folder)["stored"]["readings"] == READINGS
