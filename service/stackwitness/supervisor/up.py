"""Start everything in order, keep it alive, stop it in reverse."""

import fcntl
import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import IO

from stackwitness import clock
from stackwitness.db.embedded import Cluster, ClusterError, migrate_database
from stackwitness.log.signer.options import passed_on, signer_command
from stackwitness.log.signer.user import default_user
from stackwitness.private_file import write_private
from stackwitness.settings import Settings
from stackwitness.supervisor.child import Child
from stackwitness.supervisor.ports import free_port
from stackwitness.supervisor.welcome import Welcome, prepare_welcome
from stackwitness.supervisor.witnesses import count_witnesses, prepare_witnesses, read_vkey, write_policy

READY_WITHIN_S = 120.0
GIVE_UP_AFTER_DEATHS = 5
POLL_S = 0.2
DEMO_WITNESSES = 3
# glibc keeps a heap per thread and what large requests once needed: for the API that only costs memory.
LEAN_HEAP = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "262144", "MALLOC_MMAP_THRESHOLD_": "262144"}
# Producers stop before the log they write to, the signer last; the database after all of them.
STOP_ORDER = (("province",), ("serve", "worker"), ("log",), ("witness", "signer"))


class StartFailed(Exception):
    """The service did not become ready; the message says which part and shows its last words."""


def run_up(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    demo: bool = False,
    honest: bool = False,
    witnesses: int | None = None,
) -> None:
    """Run every process until SIGINT or SIGTERM; children inherit `environment`. Raises StartFailed."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "up.lock").open("w") as lock:
        take_home(lock, settings)
        Supervisor(settings, environment, demo=demo, honest=honest, witnesses=witnesses).run()


def take_home(lock: IO[str], settings: Settings) -> None:
    """Lock the home folder for this process; raises StartFailed when another `up` has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise StartFailed(
            f"another `stackwitness up` runs in {settings.home}; see {settings.run_file}"
        ) from None


def say(line: str) -> None:
    """Print one line of progress at once, also into a pipe."""
    print(line, flush=True)


class Supervisor:
    """Hold the children of one run."""

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        *,
        demo: bool,
        honest: bool,
        witnesses: int | None = None,
    ) -> None:
        self.settings = settings
        self.demo, self.honest = demo, honest
        kept = count_witnesses(settings)
        self.witnesses = witnesses if witnesses is not None else kept or (DEMO_WITNESSES if demo else 0)
        self.port = settings.port or free_port(settings.host)
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
        self.api_url = f"http://{host}:{self.port}"
        self.cluster = Cluster(settings.home) if settings.database_url is None else None
        self.database_url = ""
        self.children: list[Child] = []
        self.stopping = threading.Event()
        self.environment = dict(environment)

    def run(self) -> None:
        """Set up, say `ready`, supervise until a signal, stop."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.stopping.set())
        try:
            self._open_database()
            welcome = prepare_welcome(self.settings, self.database_url)
            self._start("signer")
            if self.witnesses:
                self._start_witnesses()
            self._start("log", "serve", "worker")
            say("starting: signer, log, api, worker")
            self._wait_until(lambda: self._answers("/readyz"))
            if self.demo:
                say("starting: a simulated province" + (", all of it honest" if self.honest else ""))
                self._start_province()
            if not self.stopping.is_set():
                self._greet(welcome)
            while not self.stopping.wait(POLL_S):
                self._keep_alive()
        except ClusterError as error:
            raise StartFailed(str(error)) from error
        finally:
            self._stop()

    def _open_database(self) -> None:
        if self.cluster is not None:
            say(f"database: PostgreSQL in {self.cluster.folder}")
            self.cluster.start()
        say("database: migrating")
        migrate_database(self.settings)
        self.database_url = self.settings.database_url or ""
        if self.cluster is not None:
            self.database_url = self.cluster.app_url()

    def _child(self, name: str, *command: str) -> Child:
        environment = {
            **(LEAN_HEAP if name == "serve" else {}),
            **self.environment,
            "STACKWITNESS_HOME": str(self.settings.home.absolute()),
            "STACKWITNESS_MODE": self.settings.mode,
            "STACKWITNESS_HOST": self.settings.host,
            "STACKWITNESS_PORT": str(self.port),
            "STACKWITNESS_DATABASE_URL": self.database_url,
            "STACKWITNESS_LOG_ORIGIN": self.settings.log_origin,
        }
        return Child(
            name, [sys.executable, "-m", *command], environment, self.settings.logs_dir / f"{name}.log"
        )

    def _start(self, *names: str) -> None:
        for name in names:
            room = "stackwitness.serving" if name == "serve" else "stackwitness.cli"
            child = self._signer() if name == "signer" else self._child(name, room, name)
            child.start()
            self.children.append(child)
        self._write_run_file()

    def _signer(self) -> Child:
        """Return the one child that gets neither the database's address nor anything else of ours."""
        command = signer_command(self.settings, default_user=default_user())
        return Child("signer", command, passed_on(self.environment), self.settings.logs_dir / "signer.log")

    def _start_witnesses(self) -> None:
        """Start witnesses of our own, unless a policy already names others."""
        if self.settings.policy_file is not None:
            raise StartFailed("--witnesses and the setting policy_file exclude each other")
        self._wait_until(lambda: read_vkey(self.settings) is not None)
        vkey = read_vkey(self.settings)
        if vkey is None:  # told to stop meanwhile
            return
        local = prepare_witnesses(self.settings, vkey, self.witnesses)
        for item in local:
            name = f"witness-{item.name}"
            log_file = self.settings.logs_dir / f"{name}.log"
            child = Child(name, item.command, passed_on(self.environment), log_file)
            child.start()
            self.children.append(child)
        self.environment["STACKWITNESS_POLICY_FILE"] = str(write_policy(self.settings, vkey, local))
        say(f"starting: {len(local)} witnesses on this machine, a rehearsal: real ones run elsewhere")

    def _start_province(self) -> None:
        child = self._child("province", "stackwitness.province", *(["--honest"] if self.honest else []))
        child.start()
        self.children.append(child)
        self._write_run_file()

    def _wait_until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not self.stopping.wait(POLL_S):
            if done():
                return
            self._keep_alive()
            failing = next((child for child in self.children if child.deaths >= GIVE_UP_AFTER_DEATHS), None)
            if failing is not None:
                raise StartFailed(f"{failing.name} does not start\n{failing.last_words()}")
            if time.monotonic() > deadline:
                words = "\n".join(f"--- {child.name}\n{child.last_words()}" for child in self.children)
                raise StartFailed(f"not ready after {READY_WITHIN_S:.0f} s\n{words}")

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(self.api_url + path, timeout=5) as response:
                return bool(response.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def _keep_alive(self) -> None:
        """Restart what died: the database first, and everyone when its address changed."""
        changed = False
        if self.cluster is not None and self.cluster.pid is None:
            self.cluster.start()
            url = self.cluster.app_url()
            changed = True
            if url != self.database_url:
                self.database_url = url
                for child in self.children:
                    if child.name == "signer":  # has no database
                        continue
                    child.environment["STACKWITNESS_DATABASE_URL"] = url
                    child.ask_to_stop()
        for child in self.children:
            changed |= child.revive()
        if changed:
            self._write_run_file()

    def _greet(self, welcome: Welcome | None) -> None:
        if welcome is not None:
            for line in welcome.lines(self.api_url):
                say(line)
        say(f"ready {self.api_url}/")

    def _write_run_file(self) -> None:
        pids = {child.name: child.pid for child in self.children}
        if self.cluster is not None:
            pids["postgres"] = self.cluster.pid
        members = {
            "api_url": self.api_url,
            "database_url": self.database_url,
            "pid": os.getpid(),
            "pids": pids,
            "written_ms": clock.now_ms(),
        }
        write_private(self.settings.run_file, json.dumps(members, indent=1))

    def _stop(self) -> None:
        for names in STOP_ORDER:
            group = [child for child in self.children if child.name.partition("-")[0] in names]
            for child in group:
                child.ask_to_stop()
            for child in group:
                child.wait_stopped()
        if self.cluster is not None:
            self.cluster.stop()
        self.settings.run_file.unlink(missing_ok=True)
