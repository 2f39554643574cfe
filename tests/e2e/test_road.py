"""The whole road over real processes: replay under kill -9, flags, export, verification, and an insider's edits."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stackwitness.db.embedded import Cluster
from tests.support.dataset import write_plant
from tests.support.processes import Up, wait_until

DAYS = 60


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a folder that the user nobody may enter."""
    folder = Path(tempfile.mkdtemp(prefix="stackwitness-road-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def run_program(name: str, *arguments: str, code: int) -> str:
    """Run one of the installed programs and check its exit code; return what it printed."""
    program = Path(sys.executable).parent / name
    done = subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def running(home: Path) -> dict[str, Any]:
    """Return what HOME/run.json says."""
    found: dict[str, Any] = json.loads((home / "state" / "run.json").read_text())
    return found


def count(home: Path, table: str) -> int:
    """Count a table's rows; 0 while the database is away."""
    with (
        contextlib.suppress(psycopg.OperationalError),
        psycopg.connect(Cluster(home / "state").url()) as conn,
    ):
        row = conn.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[arg-type]
        return int(row[0]) if row else 0
    return 0


@contextlib.contextmanager
def insider(home: Path) -> Iterator[psycopg.Connection]:
    """Open the database as its superuser, with every trigger switched off."""
    with psycopg.connect(Cluster(home / "state").url()) as conn:
        for table in ("envelope", "flag", "flag_extension", "review"):
            conn.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")  # type: ignore[arg-type]
        yield conn


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_road_of_a_reading(home: Path) -> None:
    manifest, readings = write_plant(home, days=DAYS)
    up = Up(home, "--witnesses", "3")  # every receipt and bundle below must carry two of their signatures
    try:
        up.wait_ready()
        report = replay_under_fire(home, manifest)
        assert report["sent"]["readings"] == report["stored"]["readings"] == readings
        assert count(home, "reading") == readings
        assert report["flagged"].get("hold", 0) >= 1
        policy = save_policy(home, up)
        check_exported(home, policy, readings)
        assert "clean" in run_program("stackwitness", "fsck", "--home", str(home / "state"), code=0)
        check_insider(home, policy)
        up.signal_group(signal.SIGTERM)
        assert up.process.wait(60) == 0
    finally:
        up.end()


def replay_under_fire(home: Path, manifest: Path) -> dict[str, Any]:
    """Replay with a forged hold while API, log, signer and PostgreSQL are killed; return the report."""
    arguments = [
        *("replay", "--home", str(home / "state"), "--manifest", str(manifest), "--data", str(home)),
        *("--readings-per-envelope", "12", "--report", str(home / "report.json")),
        *("--forge", "freeze:mill-1:nox:2025-02-20T00:00:00:2025-02-22T00:00:00"),
    ]
    program = Path(sys.executable).parent / "stackwitness"
    with (home / "replay.out").open("w") as output:
        replay = subprocess.Popen([str(program), *arguments], stdout=output, stderr=output)
    try:
        for share, parts in ((0.1, ("serve",)), (0.3, ("log", "signer")), (0.5, ("postgres", "worker"))):
            target = int(share * DAYS * 24)
            wait_until(
                lambda t=target: count(home, "envelope") >= t, within_s=120, what=f"{target} envelopes"
            )
            for part in parts:
                os.kill(running(home)["pids"][part], signal.SIGKILL)
        assert replay.wait(240) == 0, (home / "replay.out").read_text()
    finally:
        if replay.poll() is None:
            replay.kill()
            replay.wait()
    found: dict[str, Any] = json.loads((home / "report.json").read_text())
    return found


def save_policy(home: Path, up: Up) -> Path:
    """Fetch the policy once, as a verifier would keep it."""
    policy = home / "policy.txt"
    with urllib.request.urlopen(up.url + "log/policy", timeout=10) as response:
        policy.write_bytes(response.read())
    return policy


def export(home: Path, name: str) -> str:
    """Export everything of the station; return the bundle's path."""
    bundle = str(home / name)
    run_program(
        *("stackwitness", "export", "--home", str(home / "state"), "--station", "mill-1"),
        *("--from", "2025-01-01", "--to", "2025-12-31", "-o", bundle),
        code=0,
    )
    return bundle


def check_exported(home: Path, policy: Path, readings: int) -> None:
    """An untouched export verifies, and holds as many readings as were sent."""
    bundle = export(home, "honest.emdi.zip")
    report = home / "verified.json"
    run_program("stackwitness-verify", bundle, "--policy", str(policy), "--json", str(report), code=0)
    assert json.loads(report.read_text())["counts"]["readings"] == readings


def check_insider(home: Path, policy: Path) -> None:
    """Edit a value, edit an envelope, delete a flag: both checks name each, and both fail."""
    with insider(home) as conn:
        conn.execute(
            "UPDATE reading SET value = value * 0.5 FROM channel c WHERE c.channel_no = reading.channel_no "
            "AND c.name = 'so2' AND reading.at = (SELECT max(at) FROM reading)"
        )
        conn.execute(
            "UPDATE envelope SET jws = overlay(jws placing 'AAAA'::bytea from 200) WHERE stn = 'mill-1' AND seq = 5"
        )
        row = conn.execute("SELECT flag_id FROM flag ORDER BY raised_at LIMIT 1").fetchone()
        assert row is not None
        conn.execute("DELETE FROM flag_extension WHERE flag_id = %s", row)
        conn.execute("DELETE FROM flag WHERE flag_id = %s", row)
    said = run_program("stackwitness", "fsck", "--home", str(home / "state"), code=1)
    assert row[0] in said
    assert "tampered: reading mill-1/" in said
    assert " so2 2025-03-01T23:00:00.000Z" in said
    assert "tampered: envelope " in said
    verified = run_program(
        "stackwitness-verify", export(home, "edited.emdi.zip"), "--policy", str(policy), code=1
    )
    assert row[0] in verified
    assert "so2" in verified
