"""The embedded PostgreSQL: nothing left after kill -9, data kept, started again over a crash's remains."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from stackwitness.db import server_place
from stackwitness.db.embedded import Cluster, open_database
from stackwitness.settings import Settings
from tests.support.processes import assert_all_gone, family, users, wait_until

OWNER = """
import sys, time
from pathlib import Path
from stackwitness.db.embedded import Cluster
cluster = Cluster(Path(sys.argv[1]), throwaway=True)
cluster.start()
print(cluster.pid, flush=True)
time.sleep(600)
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes to the user nobody")


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a folder that the user nobody may enter (pytest's own may not be)."""
    folder = Path(tempfile.mkdtemp(prefix="stackwitness-life-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def remember(url: str, word: str) -> None:
    """Store a word."""
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS remembered (word text)")
        conn.execute("INSERT INTO remembered VALUES (%s)", [word])


def recall(url: str) -> list[str]:
    """Return every stored word."""
    with psycopg.connect(url) as conn:
        return [row[0] for row in conn.execute("SELECT word FROM remembered ORDER BY 1")]


def test_kill_9_of_the_owner_leaves_no_server_and_no_loss(home: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(home)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    server = int(owner.stdout.readline())
    remember(Cluster(home).url(), "before")
    processes = family(server)
    if os.geteuid() == 0:
        assert users(processes) == {"nobody"}
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert_all_gone(processes)
    again = Cluster(home, throwaway=True)
    try:
        assert recall(again.start()) == ["before"]
    finally:
        again.stop()


def test_kill_9_of_the_server_is_recovered_and_the_port_kept(home: Path) -> None:
    cluster = Cluster(home, throwaway=True)
    try:
        url = cluster.start()
        remember(url, "durable")
        pid = cluster.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: cluster.pid is None, within_s=10, what="the server is dead")
        assert cluster.start() == url
        assert recall(url) == ["durable"]
        assert (home / "postgres" / "password").stat().st_mode & 0o777 == 0o600
    finally:
        cluster.stop()


def test_a_pid_file_of_another_program_does_not_stop_the_start(home: Path) -> None:
    cluster = Cluster(home, throwaway=True)
    cluster.start()
    assert cluster.place is not None
    pid_file = cluster.place.data_dir / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    cluster.stop()
    bystander = subprocess.Popen(["sleep", "600"], **cluster.place.run_as())
    try:
        pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
        cluster.place.give(pid_file)
        cluster.start()
        assert cluster.pid is not None
    finally:
        cluster.stop()
        bystander.kill()
        bystander.wait()


def test_a_second_command_joins_the_running_server_and_leaves_it(home: Path) -> None:
    cluster = Cluster(home, throwaway=True)
    try:
        url = cluster.start()
        with open_database(Settings(home=home, database_url=None), owner=True) as joined:
            assert joined == url
        with open_database(Settings(home=home, database_url=None)) as joined, psycopg.connect(joined) as conn:
            rights = conn.execute("SELECT usename, usesuper, usecreatedb FROM pg_user WHERE usename = user")
            assert rights.fetchall() == [("stackwitness_app", False, False)]
        assert cluster.pid is not None
    finally:
        cluster.stop()
    with open_database(Settings(home=home, database_url=None), owner=True) as own:
        remember(own, "ours")
        server = psutil.Process(int((home / "postgres" / "data" / "postmaster.pid").read_text().split()[0]))
    assert not server.is_running()


@needs_root
def test_a_home_closed_to_nobody_gets_its_database_elsewhere(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = home / "shared"
    monkeypatch.setattr(server_place, "SHARED_FOLDER", shared)
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    cluster = Cluster(closed, throwaway=True)
    try:
        remember(cluster.start(), "elsewhere")
        assert cluster.place is not None
        assert cluster.place.data_dir.is_relative_to(shared)
        cluster.stop()
        assert recall(cluster.start()) == ["elsewhere"]
    finally:
        cluster.stop()


@needs_root
def test_binaries_closed_to_nobody_are_copied(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_place, "SHARED_FOLDER", home / "shared")
    nobody = pwd.getpwnam("nobody").pw_uid
    closed = home / "closed"
    (closed / "bin").mkdir(parents=True)
    closed.chmod(0o700)
    (closed / "bin" / "postgres").write_text("#!/bin/sh\n")
    (closed / "bin" / "postgres").chmod(0o700)
    assert not server_place.reachable(closed / "bin" / "postgres", nobody)
    copy = server_place.copy_install(closed)
    assert server_place.reachable(copy / "bin" / "postgres", nobody)
    assert server_place.copy_install(closed) == copy
