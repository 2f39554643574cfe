"""Start the real processes: PostgreSQL with durable commits, signer, log, API, and the peer."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from stackwitness.bench.peer import PEER_URL
from stackwitness.db.embedded import APP, Cluster
from stackwitness.db.migrate import migrate
from stackwitness.log.signer import SignerClient
from stackwitness.settings import Settings
from stackwitness.supervisor.witnesses import prepare_witnesses, write_policy
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


@dataclass(frozen=True)
class Server:
    """A database and the processes asked for."""

    wiring: Wiring
    cluster: Cluster
    url: str
    environ: dict[str, str]
    processes: dict[str, "subprocess.Popen[bytes]"]

    def processor_s(self) -> dict[str, float]:
        """Return the processor time of each process until now, in seconds; `postgres` is all its backends."""
        spent = {
            name: sum(psutil.Process(process.pid).cpu_times()[:2]) for name, process in self.processes.items()
        }
        return {**spent, "postgres": postgres_s(self.cluster.url())}


def postgres_s(url: str) -> float:
    """Return the processor time of the postmaster behind this address and of all it ever started, in seconds."""
    with psycopg.connect(url, autocommit=True) as conn:
        postmaster = psutil.Process(conn.info.backend_pid).parent()
        assert postmaster is not None
        spent = sum(postmaster.cpu_times()[:4])
        for backend in postmaster.children():
            with suppress(
                psutil.NoSuchProcess
            ):  # it ended meanwhile: the postmaster's own times now count it
                spent += sum(backend.cpu_times()[:2])
    return float(spent)


@contextmanager
def open_server(home: Path, *names: str, witnesses: int = 0, **arguments: list[str]) -> Iterator[Server]:
    """Start PostgreSQL below `home` and the commands of these names, each with its arguments; stop all at the
    end. With `witnesses` so many run beside them, and the processes after the signer follow a policy that asks most.
    """
    with ExitStack() as stack:
        cluster = Cluster(home)
        cluster.start()
        stack.callback(cluster.stop)
        migrate(cluster.url(), APP)
        url = cluster.app_url()
        environ = {**os.environ, "STACKWITNESS_HOME": str(home), "STACKWITNESS_DATABASE_URL": url}
        wiring = wire(Settings(home=home, database_url=cluster.url()))  # ours fills tables directly
        stack.callback(wiring.engine.dispose)
        processes = {}
        for name in names:
            command = [sys.executable, "-m", "stackwitness.cli", name, *arguments.get(name, [])]
            processes[name] = _start(stack, home, name, command, environ)
            if name == "signer":
                _await_file(wiring.settings.signer_socket)
                if witnesses:
                    policy = _start_witnesses(stack, wiring.settings, witnesses, environ)
                    environ["STACKWITNESS_POLICY_FILE"] = str(policy)
        yield Server(wiring, cluster, url, environ, processes)


@contextmanager
def open_stage(home: Path) -> Iterator[Stage]:
    """Start everything below `home` and the peer, on loopback; stop it all at the end."""
    port, peer_port = free_port(), free_port()
    with ExitStack() as stack:
        names = ("signer", "log", "serve")
        server = stack.enter_context(open_server(home, *names, serve=["--port", str(port)]))
        with psycopg.connect(server.cluster.url(), autocommit=True) as conn:
            conn.execute("CREATE DATABASE peer")
        peer_url = server.cluster.url("peer").replace("postgresql://", "postgresql+psycopg://")
        peer = [sys.executable, "-m", "uvicorn", "--factory", "stackwitness.bench.peer:create_peer"]
        environ = {**server.environ, PEER_URL: peer_url}
        other = _start(stack, home, "peer", [*peer, "--port", str(peer_port), "--no-access-log"], environ)
        await_port(port)
        await_port(peer_port)
        api = psutil.Process(server.processes["serve"].pid)
        yield Stage(server.wiring, server.cluster.url(), port, peer_port, api, psutil.Process(other.pid))


def _start_witnesses(stack: ExitStack, settings: Settings, count: int, environ: dict[str, str]) -> Path:
    vkey = SignerClient(settings.signer_socket).vkey()
    local = prepare_witnesses(settings, vkey, count)
    for item in local:
        _start(stack, settings.home, f"witness-{item.name}", item.command, environ)
    for item in local:
        await_port(item.port)
    return write_policy(settings, vkey, local)


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


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(port: int) -> None:
    """Wait until somebody listens; raises OSError."""
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


def _await_file(path: Path) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} does not appear")
        time.sleep(0.1)
