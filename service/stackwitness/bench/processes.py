"""Start the real processes: PostgreSQL with durable commits, signer, log, API, and the peer."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from stackwitness.bench.peer import PEER_URL
from stackwitness.db.embedded import Cluster
from stackwitness.db.migrate import migrate
from stackwitness.settings import Settings
from stackwitness.wiring import Wiring, wire

START_WITHIN_S = 30.0


@dataclass(frozen=True)
class Stage:
    """Everything that runs during a bench."""

    wiring: Wiring
    url: str
    port: int
    peer_port: int
    api: psutil.Process
    peer: psutil.Process


@contextmanager
def open_stage(home: Path) -> Iterator[Stage]:
    """Start everything below `home`, on loopback; stop it all at the end."""
    with ExitStack() as stack:
        cluster = Cluster(home)
        url = cluster.start()
        stack.callback(cluster.stop)
        migrate(url)
        wiring = wire(Settings(home=home, database_url=url))
        stack.callback(wiring.engine.dispose)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("CREATE DATABASE peer")
        port, peer_port = _free_port(), _free_port()
        peer_url = cluster.url("peer").replace("postgresql://", "postgresql+psycopg://")
        environ = {
            **os.environ,
            "STACKWITNESS_HOME": str(home),
            "STACKWITNESS_DATABASE_URL": url,
            PEER_URL: peer_url,
        }
        cli = [sys.executable, "-m", "stackwitness.cli"]
        _start(stack, home, "signer", [*cli, "signer"], environ)
        _start(stack, home, "log", [*cli, "log"], environ)
        api = _start(stack, home, "serve", [*cli, "serve", "--port", str(port)], environ)
        peer = [sys.executable, "-m", "uvicorn", "--factory", "stackwitness.bench.peer:create_peer"]
        other = _start(stack, home, "peer", [*peer, "--port", str(peer_port), "--no-access-log"], environ)
        _await_port(port)
        _await_port(peer_port)
        yield Stage(wiring, url, port, peer_port, psutil.Process(api.pid), psutil.Process(other.pid))


def _start(
    stack: ExitStack, home: Path, name: str, command: list[str], environ: dict[str, str]
) -> "subprocess.Popen[bytes]":
    output = stack.enter_context((home / f"{name}.log").open("wb"))
    process = subprocess.Popen(command, env=environ, stdout=output, stderr=output)

    def stop() -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(stop)
    return process


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_port(port: int) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
