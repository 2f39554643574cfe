"""Real processes of a test: start, watch, and see that nothing is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

GONE_WITHIN_S = 30.0


def wait_until(condition: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Wait for a condition; fail with `what` when it never holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:.0f} s: {what}")
        time.sleep(0.05)


def family(pid: int) -> list[psutil.Process]:
    """Return a process and everything it started."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def users(processes: list[psutil.Process]) -> set[str]:
    """Return the names of the users that these run as; one that ended meanwhile (a finished backend) has none."""
    names = set()
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            names.add(one.username())
    return names


def runs(process: psutil.Process) -> bool:
    """Tell whether a process is there and not only a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_all_gone(processes: list[psutil.Process]) -> None:
    """Fail when any of these still runs."""
    wait_until(lambda: not any(map(runs, processes)), within_s=GONE_WITHIN_S, what="every process gone")


class Up:
    """One `stackwitness up` in a process group of its own."""

    def __init__(self, home: Path, *options: str, **settings: str) -> None:
        self.home = home
        self.output = home / "up.out"
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("STACKWITNESS_")
        }
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stackwitness.cli", "up", "--home", str(home / "state"), *options],
                env={**environment, **settings},
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        """Return what it printed so far."""
        return self.output.read_text()

    @property
    def url(self) -> str:
        """Return the address of its ready line."""
        return next(line.split()[1] for line in self.text.splitlines() if line.startswith("ready "))

    def wait_ready(self) -> None:
        """Wait for the ready line; fail with the output when it ends before."""
        wait_until(
            lambda: "\nready http" in self.text or self.process.poll() is not None, within_s=90, what="ready"
        )
        assert "\nready http" in self.text, self.text

    def signal_group(self, number: signal.Signals) -> None:
        """Signal every process of its group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def end(self) -> None:
        """Kill what a failed test left."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
