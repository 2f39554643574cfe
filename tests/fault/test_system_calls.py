"""Every fsync, rename and open of the real publisher and the real signer fails with EIO, or is their last act.

strace injects the fault into call number N of the running process, for N = 1, 2, ... until a run ends untouched.
After tessera's run of the same kind. `make test` takes a few of them, `make test-faults` all.
"""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stackwitness.log.signer.options import passed_on, signer_command
from stackwitness.log.signer.user import default_user
from stackwitness.tether import tether
from tests.fault.conftest import Note
from tests.fault.faults import DRAFT
from tests.fault.world import Base, World
from tests.support.processes import wait_until

CALLS = {"fsync": "fsync,fdatasync", "rename": "rename,renameat,renameat2", "open": "open,openat"}
FAULTS = {"EIO": "error=EIO", "SIGKILL": "signal=KILL"}
WITHIN_S = 60.0


def why_not() -> str | None:
    """Return why no system call can be tampered with here; None when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    command = [
        "strace",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "inject=fsync:error=EIO",
        sys.executable,
        "-c",
        "pass",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"strace may not trace here: {done.stderr.strip()[:100]}"
    return None if os.geteuid() == 0 else "the signer lets only root trace it"


@pytest.fixture(scope="session", autouse=True)
def strace() -> None:
    """Skip, saying why, where there is no strace or no permission."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


class Running:
    """The log process and the signer over one world; each is started again when it died."""

    def __init__(self, world: World, signer_user: str | None = None) -> None:
        self.world = world
        self._signer_user = signer_user
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            **os.environ,
            "STACKWITNESS_MODE": "test",
            "STACKWITNESS_HOME": str(world.settings.home),
            "STACKWITNESS_DATABASE_URL": str(world.settings.database_url),
            "STACKWITNESS_CHECKPOINT_MS": "50",
            "STACKWITNESS_INTEGRATE_MS": "20",
        }

    def start(self, name: str) -> None:
        """Start one of the two."""
        command, environment = [sys.executable, "-m", "stackwitness.cli", "log"], self._environment
        if name == "signer":
            settings = self.world.settings.model_copy(update={"signer_user": self._signer_user})
            command = signer_command(settings, default_user=default_user())
            environment = passed_on(environment)
        output = (self.world.settings.home / f"{name}.out").open("ab")
        with output:
            self._processes[name] = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, preexec_fn=tether(signal.SIGKILL)
            )

    def revive(self) -> list[str]:
        """Start again what died; return the names."""
        dead = [name for name, process in self._processes.items() if process.poll() is not None]
        for name in dead:
            self.start(name)
        return dead

    def pid(self, name: str) -> int:
        """Return the pid."""
        return self._processes[name].pid

    def stop(self) -> None:
        """Kill both."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    def await_published(self) -> list[str]:
        """Wait until all that was acknowledged is published; return who had to be started again."""
        revived: list[str] = []
        wanted = self.world.acked[-1].env_id

        def is_out() -> bool:
            revived.extend(self.revive())
            return bool(self.world.log.reader.receipts([wanted]))

        wait_until(is_out, within_s=WITHIN_S, what="everything published")
        self.world.collect()
        return revived


@contextmanager
def idle(base: Base, folder: Path, signer_user: str | None = None) -> Iterator[Running]:
    """Run both processes over a new copy of the base, until all is published; stop them at the end."""
    folder.mkdir(exist_ok=True)
    with base.world(folder) as world:
        both = Running(world, signer_user)
        try:
            both.start("signer")
            both.start("log")
            world.grow(1)
            both.await_published()
            time.sleep(0.2)  # the turn that published has ended, heads and all
            yield both
        finally:
            both.stop()


@contextmanager
def injected(pid: int, calls: str, fault: str, number: int, output: Path) -> Iterator[None]:
    """Attach strace for the length of the block, with the fault in call `number` from now."""
    trace = f"inject={calls}:{fault}:when={number}"
    command = [
        "strace",
        "-f",
        "-y",
        "-qq",
        "-o",
        str(output),
        "-p",
        str(pid),
        "-e",
        f"trace={calls}",
        "-e",
        trace,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: is_traced(pid), within_s=10, what="strace attached")
        yield
    finally:
        process.terminate()
        process.communicate()


def is_traced(pid: int) -> bool:
    """Tell whether every thread of a process has a tracer."""
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)


def struck_at(output: Path) -> str | None:
    """Return the call that the fault struck, from strace's record; None when it struck none."""
    lines = output.read_text(errors="replace").splitlines()
    for place, line in enumerate(lines):
        if "(INJECTED)" in line:
            return what_of(line)
        if "+++ killed by SIGKILL" in line:
            return what_of(next((item for item in reversed(lines[:place]) if "(" in item), "?"))
    return None


def what_of(line: str) -> str:
    """Return the file in a line of strace -y: the end of its path, or of that of the open file."""
    paths = re.findall(r'"([^"]+)"', line)[-1:] or re.findall(r"<(/[^>]+)>", line)[:1]
    return "/".join(DRAFT.sub(r"\1", paths[0]).split("/")[-3:]) if paths else line.split(maxsplit=1)[-1][:40]


def one_run(both: Running, target: str, call: str, fault: str, number: int, note: Note) -> bool:
    """Let one turn over the end of a bundle run into the fault; check the world after it.

    Return False when there was no call of that number: the turn ended untouched.
    """
    world, output = both.world, both.world.settings.home / "strace"
    with injected(both.pid(target), CALLS[call], FAULTS[fault], number, output):
        world.grow(9)
        revived = both.await_published()
    hit = struck_at(output)
    if hit is None:
        return False
    if fault == "SIGKILL":
        wait_until(lambda: target in (revived + both.revive()), within_s=WITHIN_S, what="its death")
    for _ in range(2):  # once more by the process that met the fault, or by its successor
        world.grow(3)
        both.await_published()
    how = "started again" if fault == "SIGKILL" else "tried again"
    note(f"{target}: {call} {number}", f"strace {fault}", hit, f"{how}: {world.published}; {world.check()}")
    return True


@pytest.mark.whole
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("target", ["signer", "log"])
def test_every_call(base: Base, tmp_path: Path, target: str, call: str, fault: str, note: Note) -> None:
    struck = 0
    for number in range(1, 200):
        with idle(base, tmp_path / str(number)) as both:
            if not one_run(both, target, call, fault, number, note):
                break
            struck = number
    assert 1 <= struck < 199


def test_some_calls(base: Base, tmp_path: Path, note: Note) -> None:
    """One world for three of them: the time of `make test` is short."""
    with idle(base, tmp_path) as both:
        assert one_run(both, "signer", "rename", "SIGKILL", 1, note)
        assert one_run(both, "signer", "fsync", "EIO", 2, note)
        assert one_run(both, "log", "fsync", "SIGKILL", 5, note)


def test_a_full_disk_under_the_real_processes(base: Base, tmp_path: Path, note: Note) -> None:
    """No file may grow beyond 64 bytes (a limit of the process, so that no real disk must be filled)."""
    with idle(base, tmp_path, "root") as both:  # one may not limit another user's process
        world, before = both.world, both.world.log.reader.checkpoint()
        for name in ("log", "signer"):
            limits = resource.prlimit(both.pid(name), resource.RLIMIT_FSIZE)
            resource.prlimit(both.pid(name), resource.RLIMIT_FSIZE, (64, limits[1]))
            world.grow(3)
            time.sleep(0.5)
            assert world.log.reader.checkpoint() == before
            resource.prlimit(both.pid(name), resource.RLIMIT_FSIZE, limits)
            assert both.await_published() == []
            before = world.log.reader.checkpoint()
            how = f"room again: {world.published}; {world.check()}"
            note(f"{name}: any write", "disk full (RLIMIT_FSIZE)", "nothing published", how)


@pytest.mark.whole
def test_both_killed_again_and_again(base: Base, tmp_path: Path, note: Note) -> None:
    """Signal 9 at any moment: nothing is lost, nothing is signed twice."""
    with idle(base, tmp_path) as both:
        for name, pause_s in (("log", 0.0), ("signer", 0.03), ("log", 0.11), ("signer", 0.2)):
            both.world.grow(90)
            time.sleep(pause_s)
            os.kill(both.pid(name), signal.SIGKILL)
            both.world.grow(10)
            both.await_published()
        note("log, signer", "kill -9, at any moment", "four times", both.world.check())
