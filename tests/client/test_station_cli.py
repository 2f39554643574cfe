"""The station's command line from key to receipt, and its documented exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emdi.encoding import b64u_decode
from emdi.envelope import Skip
from emdi.event import verify_key_proof
from emdi.keys import PublicKey
from stackwitness_client.home import load_config
from stackwitness_client.http import ServerLink
from stackwitness_client.station_cli import main
from tests.support.small_server import POLICY_TEXT, Exchange, SmallServer, small_server

LINE = '{"at": "2026-01-02T03:04:00+08:00", "values": {"NOX": 41.20, "SO2": {"value": null, "status": "D"}}}'


@pytest.fixture
def server() -> Iterator[SmallServer]:
    with small_server() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, server: SmallServer, capsys: pytest.CaptureFixture[str]) -> Path:
    """Make a station by `init`, and have an operator register what it prints."""
    home = tmp_path / "home"
    assert init(home, server.url) == 0
    request = json.loads(capsys.readouterr().out)
    link = ServerLink(server.url)
    link.ask("POST", "/v1/stations", data={"stn": "s1", "channels": []})
    link.ask(request["method"], request["path"], data=request["body"])
    link.close()
    return home


def init(home: Path, url: str, *more: str) -> int:
    policy = home.with_name("policy.txt")
    policy.write_text(POLICY_TEXT)
    channels = ["--channel", "NOX=mg/m3", "--channel", "SO2=mg/m3"]
    return main(
        [
            "init",
            "--home",
            str(home),
            "--station",
            "s1",
            "--server",
            url,
            "--policy",
            str(policy),
            *channels,
            *more,
        ]
    )


def test_from_key_to_receipt(home: Path, server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "--home", str(home), LINE]) == 0
    ep, seq, env_id = capsys.readouterr().out.split()
    assert (ep, seq) == ("0", "0")
    assert main(["push", "--home", str(home), "--give-up", "5"]) == 0
    assert "proven 1" in capsys.readouterr().out
    nox, so2 = server.chains["s1"][0].records
    assert (str(nox.value), nox.status, nox.at_ms) == ("41.20", "N", 1767294240000)
    assert (so2.value, so2.status) == (None, "D")
    assert main(["status", "--home", str(home)]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["head"] == {"ep": 0, "seq": 0, "env_id": env_id}
    assert (status["waiting"], status["stored"], status["receipts"], status["checkpoint"]["size"]) == (
        0,
        0,
        1,
        2,
    )


def test_readings_come_from_stdin_too(home: Path, server: SmallServer) -> None:
    lines = "\n".join(LINE.replace("03:04", f"03:{minute:02d}") for minute in range(5)) + "\n\n"
    command = [
        sys.executable,
        "-m",
        "stackwitness_client.station_cli",
        "record",
        "--home",
        str(home),
        "--push",
    ]
    done = subprocess.run(command, input=lines, text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert server.readings("s1") == 10


def test_every_file_of_the_home_is_private(home: Path) -> None:
    assert {path.stat().st_mode & 0o077 for path in home.iterdir()} == {0}
    assert home.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("alg", ["Ed25519", "ES256"])
def test_the_registration_request_proves_possession(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], alg: str
) -> None:
    assert init(tmp_path / "home", "http://127.0.0.1:9", "--alg", alg, "--kid", "k-7") == 0
    request = json.loads(capsys.readouterr().out)
    body = request["body"]
    assert (request["method"], request["path"], body["kid"], body["alg"]) == (
        "POST",
        "/v1/stations/s1/keys",
        "k-7",
        alg,
    )
    key = PublicKey.from_bytes(alg, b64u_decode(body["public_b64u"]))
    verify_key_proof(body["proof"], stn="s1", kid="k-7", key=key)


def test_trust_on_first_use_is_said_aloud(
    tmp_path: Path, server: SmallServer, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["init", "--home", str(tmp_path / "home"), "--station", "s1", "--server", server.url]
    assert main(command) == 0
    assert "INSECURE" in capsys.readouterr().err
    assert (tmp_path / "home" / "policy.txt").read_text() == POLICY_TEXT


def test_a_key_is_never_replaced(home: Path, server: SmallServer) -> None:
    before = (home / "key.pem").read_bytes()
    assert init(home, server.url) == 3
    assert (home / "key.pem").read_bytes() == before


def test_an_open_key_file_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.chmod(home / "key.pem", 0o644)
    assert main(["record", "--home", str(home), LINE]) == 3
    assert "key.mode" in capsys.readouterr().err


def test_no_home_is_a_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--home", str(tmp_path / "none")]) == 3
    assert "init" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        '{"values": {"NOX": 1}}',
        '{"at": "yesterday", "values": {"NOX": 1}}',
        '{"at": "2026-01-02T03:04:00", "values": {"NOX": 1}}',
        '{"at": "2026-01-02T03:04:00Z", "values": {"CO": 1}}',
        '{"at": "2026-01-02T03:04:00Z", "values": {"NOX": null}}',
        '{"at": "2026-01-02T03:04:00Z", "values": {"NOX": "a lot"}}',
        '{"at": "2026-01-02T03:04:00Z", "values": {"NOX": NaN}}',
        '{"at": "2026-01-02T03:04:00Z", "values": {}}',
        '{"at": 7, "values": {"NOX": 1}}',
    ],
)
def test_what_is_no_reading_is_refused_and_nothing_of_it_kept(
    home: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    assert main(["record", "--home", str(home), line]) == 7
    capsys.readouterr()
    main(["status", "--home", str(home)])
    assert json.loads(capsys.readouterr().out)["sealed"] == 0


def test_the_exit_code_says_what_the_server_did(home: Path, server: SmallServer) -> None:
    assert main(["record", "--home", str(home), LINE]) == 0

    def lie(x: Exchange) -> bool:
        if x.path == "/v1/receipts":
            x.answer(200, {"receipts": dict.fromkeys(json.loads(x.body)["env_ids"], "trust me\n")})
        return x.path == "/v1/receipts"

    def refuse(x: Exchange) -> bool:
        x.problem(403, "key.revoked")
        return True

    def rest(x: Exchange) -> bool:
        x.answer(503, b"")
        return True

    push = ["push", "--home", str(home), "--give-up", "0"]
    server.faults.append(rest)
    assert main(push) == 4
    server.faults.append(refuse)
    assert main(push) == 5
    server.faults.append(lie)
    assert main(push) == 6
    assert main([*push[:-1], "5"]) == 0


def test_a_new_home_can_start_at_a_later_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(tmp_path / "home", "http://127.0.0.1:9", "--epoch", "3") == 0
    capsys.readouterr()
    assert main(["record", "--home", str(tmp_path / "home"), LINE]) == 0
    assert capsys.readouterr().out.startswith("3 0 ")


def test_a_lost_spool_goes_on_in_a_new_epoch(home: Path, server: SmallServer) -> None:
    push = ["push", "--home", str(home), "--give-up", "5"]
    assert main(["record", "--home", str(home), LINE]) == 0
    assert main(push) == 0
    for path in home.glob("spool.db*"):
        path.unlink()
    assert main(["new-epoch", "--home", str(home)]) == 0
    assert main(["record", "--home", str(home), LINE.replace("03:04", "03:05")]) == 0
    assert main(push) == 0
    assert [(envelope.ep, envelope.seq) for envelope in server.chains["s1"]] == [(0, 0), (1, 0)]


def test_a_lost_spool_goes_on_in_the_same_epoch_and_admits_the_loss(
    home: Path, server: SmallServer, capsys: pytest.CaptureFixture[str]
) -> None:
    push = ["push", "--home", str(home), "--give-up", "5"]
    skip = ["skip", "--home", str(home), "--lost", "7", "--why", "disk replaced"]
    assert main(skip) == 7  # the server knows nothing yet
    assert main(["record", "--home", str(home), LINE]) == 0
    assert main(skip) == 7
    assert main(push) == 0
    for path in home.glob("spool.db*"):
        path.unlink()
    assert main([*skip[:-1], 'quotes "and" such']) == 7
    assert main([*skip[:4], "0", *skip[5:]]) == 7
    capsys.readouterr()
    assert main(skip) == 0
    assert capsys.readouterr().out == "the next envelope admits the loss of epoch 0, seq 1 to 7\n"
    for minute in ("03:05", "03:06"):
        assert main(["record", "--home", str(home), LINE.replace("03:04", minute)]) == 0
    assert main(skip) == 3  # what waits is pushed first
    assert main(push) == 0
    chain = server.chains["s1"]
    assert [(envelope.seq, envelope.skip) for envelope in chain] == [
        (0, None),
        (8, Skip(1, 7, "disk replaced")),
        (9, None),
    ]
    assert chain[1].prev == chain[0].env_id


def test_a_key_is_rotated_and_the_chain_goes_on(
    home: Path, server: SmallServer, capsys: pytest.CaptureFixture[str]
) -> None:
    token = home.with_name("token")
    token.write_text("t\n")
    rotate = ["rotate-key", "--home", str(home), "--token-file", str(token), "--give-up", "5"]
    assert main([*rotate[:4], str(home / "absent")]) == 3
    assert main(["record", "--home", str(home), LINE]) == 0
    capsys.readouterr()
    assert main(rotate) == 0  # what the old key signed is sent first
    assert "key s1-2 signs from now on" in capsys.readouterr().out
    assert main(["record", "--home", str(home), LINE.replace("03:04", "03:05"), "--push"]) == 0
    assert [(e.seq, e.kid) for e in server.chains["s1"]] == [(0, "s1-1"), (1, "s1-2")]
    assert server.chains["s1"][1].prev == server.chains["s1"][0].env_id
    assert load_config(home).key == "key-s1-2.pem"
    assert main([*rotate, "--alg", "ES256", "--kid", "mill"]) == 0
    assert server.keys["mill"][1].alg == "ES256"


def test_a_rotation_that_lost_its_answer_is_finished(home: Path, server: SmallServer) -> None:
    token = home.with_name("token")
    token.write_text("t")
    rotate = ["rotate-key", "--home", str(home), "--token-file", str(token), "--give-up", "1"]

    def swallow(x: Exchange) -> bool:
        if not x.path.endswith("/rotate"):
            return False
        form = json.loads(x.body)["new"]
        server.keys[form["kid"]] = ("s1", PublicKey.from_bytes(form["alg"], b64u_decode(form["public_b64u"])))
        server.ended.add("s1-1")
        x.answer(503, b"")
        return True

    server.faults.append(swallow)
    assert main(rotate) == 4
    assert load_config(home).kid == "s1-1"
    assert main(rotate) == 0
    assert load_config(home).kid == "s1-2"
    assert main(["record", "--home", str(home), LINE, "--push"]) == 0
