"""`stackwitness up`: ready, alive whatever is killed, gone without a trace, strict in production."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from emdi.errors import PolicyError
from emdi.policy import parse_policy
from stackwitness.settings import Settings
from tests.support.processes import Up, assert_all_gone, family, wait_until

ORIGIN = "stackwitness.example/log/test"


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a folder that the user nobody may enter."""
    folder = Path(tempfile.mkdtemp(prefix="stackwitness-up-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def answers(url: str) -> bool:
    """Tell whether an address answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def run_file(home: Path) -> dict[str, dict[str, int]]:
    """Return what HOME/run.json says."""
    found: dict[str, dict[str, int]] = json.loads((home / "state" / "run.json").read_text())
    return found


def test_the_life_of_a_service(home: Path) -> None:
    # One story, for each start costs seconds: development, everything killed, killed itself, production, Ctrl-C.
    up = Up(home, "--witnesses", "2", STACKWITNESS_LOG_ORIGIN=ORIGIN)
    try:
        up.wait_ready()
        check_welcome(home, up)
        check_witnessed(up)
        check_second_up_is_refused(home)
        check_parts_come_back(home, up)
        processes = family(up.process.pid)
        up.process.kill()
        up.process.wait()
        assert_all_gone(processes)
    finally:
        up.end()
    (home / "state" / "operator.token").unlink()
    passphrase = home / "passphrase"
    passphrase.write_text("production wants the log's key encrypted\n")
    passphrase.chmod(0o600)
    settings = {"STACKWITNESS_MODE": "production", "STACKWITNESS_LOG_ORIGIN": ORIGIN}
    again = Up(home, STACKWITNESS_SIGNER_PASSPHRASE_FILE=str(passphrase), **settings)
    try:
        again.wait_ready()
        assert "sign-in" not in again.text
        assert "INSECURE" not in again.text
        assert not (home / "state" / "operator.token").exists()
        processes = family(again.process.pid)
        again.signal_group(signal.SIGINT)
        assert again.process.wait(60) == 0
        assert_all_gone(processes)
        assert not (home / "state" / "run.json").exists()
    finally:
        again.end()


def check_welcome(home: Path, up: Up) -> None:
    """One ready line, four links under a banner, secrets for the owner only, a token that works."""
    state, lines = home / "state", up.text.splitlines()
    assert [line for line in lines if line.startswith("ready ")] == [f"ready {up.url}"]
    assert sum("/sign-in?token=" in line for line in lines) == 4
    assert any("INSECURE" in line for line in lines)
    assert answers(up.url + "readyz")
    for name in (
        "run.json",
        "operator.token",
        "approver.token",
        "postgres/password",
        "keys/service.pem",
        "signer/log.key",
    ):
        assert (state / name).stat().st_mode & 0o777 == 0o600, name
    token = (state / "operator.token").read_text().strip()
    request = urllib.request.Request(up.url + "v1/account", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=5) as response:
        assert json.load(response)["role"] == "operator"


def check_witnessed(up: Up) -> None:
    """The policy names the witnesses of this machine, and the checkpoint has what it asks for."""
    with urllib.request.urlopen(up.url + "log/policy", timeout=5) as response:
        policy = parse_policy(response.read().decode())
    assert [witness.name for witness in policy.witnesses] == ["w1", "w2"]

    def is_cosigned() -> bool:
        with urllib.request.urlopen(up.url + "log/checkpoint", timeout=5) as response:
            note = response.read()
        try:
            return len(policy.check(note).keys) == 3
        except PolicyError:
            return False

    wait_until(is_cosigned, within_s=60, what="a checkpoint both witnesses cosigned")
    assert "a rehearsal" in up.text


def check_second_up_is_refused(home: Path) -> None:
    """A home has one `up` at a time."""
    command = [sys.executable, "-m", "stackwitness.cli", "up", "--home", str(home / "state")]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "another `stackwitness up`" in second.stderr


def check_parts_come_back(home: Path, up: Up) -> None:
    """kill -9 of every part at once: all run again, and the service is ready again."""
    before = run_file(home)["pids"]
    assert {"postgres", "signer", "log", "serve", "worker", "witness-w1", "witness-w2"} == before.keys()
    for name in before:
        os.kill(before[name], signal.SIGKILL)
    wait_until(
        lambda: all(pid and pid != before[name] for name, pid in run_file(home)["pids"].items()),
        within_s=60,
        what="every part is running again",
    )
    wait_until(lambda: answers(up.url + "readyz"), within_s=60, what="ready again")


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"dev_links": True}, "dev_links"),
        ({"test_keys": True}, "test_keys"),
        ({}, "log_origin"),
    ],
)
def test_production_refuses_what_is_insecure(wrong: dict[str, bool], word: str) -> None:
    right = {"log_origin": ORIGIN} if wrong else {}
    with pytest.raises(ValueError, match=word):
        Settings(mode="production", **wrong, **right)  # type: ignore[arg-type]


def test_a_wrong_setting_is_said_in_one_line(home: Path) -> None:
    running = Up(home, STACKWITNESS_MODE="production")
    try:
        assert running.process.wait(60) == 2
        assert running.text.startswith("settings: ")
        assert "log_origin" in running.text
        assert "Traceback" not in running.text
    finally:
        running.end()
