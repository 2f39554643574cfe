"""The end of a year with real processes: `freeze`, `up` of the successor, and everybody follows."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx2
import pytest

from emdi.keys import LocalKey
from emdi.policy import parse_policy
from stackwitness_client.errors import ServerRefused
from stackwitness_client.http import ServerLink
from stackwitness_client.registration import register
from stackwitness_client.station import Station
from stackwitness_client.verify import verify_bundle
from tests.support.processes import Up, wait_until

OLD, NEW = "stackwitness.example/log/2026", "stackwitness.example/log/2027"
STATION = {
    "stn": "S1",
    "name": "Stack S1",
    "agency": "Test bureau",
    "industry": "power",
    "lat": 31.2,
    "lon": 121.5,
    "utc_offset_min": 480,
    "channels": [
        {
            "name": "nox",
            "quantity": "NOx",
            "unit": "mg/m3",
            "role": "pollutant",
            "limit": 50.0,
            "resolution": 0.1,
        }
    ],
}
PROGRAM = [sys.executable, "-m", "stackwitness.cli"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that the database's user may enter."""
    made = Path(tempfile.mkdtemp(prefix="stackwitness-shards-"))
    made.chmod(0o755)
    for name in ("old", "new"):
        (made / name).mkdir(mode=0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def run(*arguments: str, home: Path | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the service to its end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STACKWITNESS_")}
    command = [*PROGRAM, *arguments, *(["--home", str(home)] if home else [])]
    return subprocess.run(command, env={**clean, **settings}, capture_output=True, text=True, check=False)


def policy_of(up: Up) -> str:
    """Return the log line of a server's policy, with the server's address."""
    link = ServerLink(up.url)
    line = next(line for line in link.policy().splitlines() if line.startswith("log "))
    link.close()
    return f"{line} {up.url}\n"


def record(station: Station, count: int) -> None:
    """Record some minutes up to now."""
    now_ms = time.time_ns() // 1_000_000
    for n in range(count):
        station.record({"nox": Decimal(20 + n)}, now_ms - 60_000 + 1000 * n)


def watch(folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    """Take one turn of a monitor."""
    options = (
        "--log",
        url,
        "--policy",
        str(folder / "policy.txt"),
        "--home",
        str(folder / "monitor"),
        "--once",
    )
    return run("monitor", "run", *options)


def test_everybody_follows_into_the_next_year(folder: Path) -> None:
    old = Up(folder / "old", STACKWITNESS_LOG_ORIGIN=OLD)
    new = None
    try:
        old.wait_ready()
        tokens = [
            (folder / f"old/state/{name}.token").read_text().strip() for name in ("operator", "approver")
        ]
        operator, approver = (ServerLink(old.url, token=token) for token in tokens)
        key = LocalKey.generate("Ed25519", "S1-1")
        register(operator, STATION, key, approver)
        policy = policy_of(old)
        (folder / "policy.txt").write_text(policy + "quorum none\n")
        before = Station(
            folder / "station",
            "S1",
            key,
            old.url,
            parse_policy(policy + "quorum none\n"),
            units={"nox": "mg/m3"},
        )
        record(before, 3)
        before.pusher.drain(give_up_s=30)
        record(before, 1)
        before.pusher.push(give_up_s=30)  # whose receipt it collects after the freeze
        assert watch(folder, old.url).returncode == 0

        regulator = sign_in(old, "regulator")
        command = ("freeze", "--successor-home", str(folder / "new/state"))
        done, again = (
            run(*command, home=folder / "old/state", STACKWITNESS_LOG_ORIGIN=OLD) for _ in range(2)
        )
        assert done.returncode == 0, done.stderr
        assert NEW in done.stdout
        assert (again.returncode, again.stdout) == (0, done.stdout), again.stderr
        other = run(
            *command, "--successor-origin", OLD + "x", home=folder / "old/state", STACKWITNESS_LOG_ORIGIN=OLD
        )
        assert (other.returncode, NEW in other.stderr) == (3, True), other
        record(before, 2)
        with pytest.raises(ServerRefused, match=r"docs/runbooks/shards\.md") as refused:
            before.pusher.push(give_up_s=30)
        assert refused.value.code == "log.frozen"
        before.close()
        assert "names no address" in watch(folder, old.url).stdout

        new = Up(folder / "new", STACKWITNESS_LOG_ORIGIN=NEW)
        new.wait_ready()
        both = policy + policy_of(new) + "quorum none\n"
        (folder / "policy.txt").write_text(both)
        station = Station(folder / "station", "S1", key, old.url, parse_policy(both), units={"nox": "mg/m3"})
        account = station.pusher.drain(give_up_s=30)
        assert (account.sent, account.freed) == (2, 3)
        record(station, 2)
        station.pusher.drain(give_up_s=30)
        assert station.pusher.collect().freed == 0
        head = ServerLink(new.url).station_head("S1")
        assert head is not None
        assert head[1] == 7  # one chain: 4 in the old log, 4 in the new one
        station.close()

        check_monitor(folder, old.url)
        check_bundle(folder)
        check_bundle_of_old(folder, regulator)
        check_at_rest(old)
        end_gently(old)
        assert watch(folder, old.url).returncode == 0  # a log that was read to its end may be switched off
        old = Up(folder / "old", STACKWITNESS_LOG_ORIGIN=OLD)
        old.wait_ready()  # and on again, years later
        export_old(folder, "another court asks")
        report = verify_bundle(folder / "old.zip", (folder / "policy.txt").read_text())
        assert report.exit_code == 0, report.text()
    finally:
        old.end()
        if new is not None:
            new.end()


def check_monitor(folder: Path, url: str) -> None:
    """One monitor follows from the old log into the new one, and knows that they belong together."""
    done = watch(folder, url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "successor: size" in done.stdout
    assert (folder / "monitor/successor/mirror/previous/head").exists()
    assert not list((folder / "monitor").rglob("alarms/*.json"))


def check_bundle(folder: Path) -> None:
    """A bundle of the new log begins where the old one ended, and says so."""
    bundle = folder / "bundle.zip"
    made = run(
        "export", "--station", "S1", "-o", str(bundle),
        home=folder / "new/state", STACKWITNESS_LOG_ORIGIN=NEW,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    report = verify_bundle(bundle, (folder / "policy.txt").read_text())
    assert report.exit_code == 0, report.text()
    assert f"S1: the chain goes on from {OLD}, whose last envelope of it is epoch" in report.text()
    assert f"bring a bundle of {OLD}" in report.text()


def sign_in(up: Up, role: str) -> httpx2.Client:
    """Follow the sign-in link that a development server printed."""
    link = next(line.split()[1] for line in up.text.splitlines() if line.startswith(f"  {role}: "))
    browser = httpx2.Client(base_url=up.url)
    assert browser.get(link).status_code == 303
    return browser


def export_old(folder: Path, purpose: str) -> bytes:
    """Return a bundle of all of the frozen log, by the command."""
    bundle = folder / "old.zip"
    made = run(
        "export", "--station", "S1", "--purpose", purpose, "-o", str(bundle),
        home=folder / "old/state", STACKWITNESS_LOG_ORIGIN=OLD,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    return bundle.read_bytes()


def check_bundle_of_old(folder: Path, regulator: httpx2.Client) -> None:
    """The frozen log still gives bundles, the same over HTTP as from the command; its checker finds nothing wrong."""
    contents = export_old(folder, "a court asks")
    report = verify_bundle(folder / "old.zip", (folder / "policy.txt").read_text(), rerun_detectors=True)
    assert report.exit_code == 0, report.text()
    assert report.counts["envelopes"] == 4
    assert f"{NEW} goes on. So the custody of this export is not logged" in report.text()
    asked = regulator.post("/v1/exports", json={"station": "S1", "purpose": "a court asks"})
    assert asked.status_code == 202, asked.text
    place = asked.headers["location"]
    wait_until(
        lambda: regulator.get(place).json()["state"] == "done", within_s=60, what="the bundle over HTTP"
    )
    assert regulator.get(f"{place}/bundle").content == contents
    checked = run("fsck", home=folder / "old/state", STACKWITNESS_LOG_ORIGIN=OLD)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def check_at_rest(up: Up) -> None:
    """The old log's processes have nothing to complain of, and its size does not change."""
    link = ServerLink(up.url)
    assert link.ask("GET", "/readyz").json()["warnings"] == []
    link.close()
    assert "log.stopped" not in up.text


def end_gently(up: Up) -> None:
    """Stop an `up` as a terminal does."""
    up.signal_group(signal.SIGINT)
    wait_until(lambda: up.process.poll() is not None, within_s=60, what="the old log's end")
