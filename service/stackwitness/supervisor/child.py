"""One supervised process: started tethered to us, restarted with growing pauses, stopped with patience."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from stackwitness.tether import tether

PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SETTLED_AFTER_S = 30.0
STOP_WITHIN_S = 15.0
ROTATE_ABOVE_BYTES = 20 * 2**20

log = structlog.get_logger("stackwitness.supervisor")


class Child:
    """Keep one command alive. Its output goes to `log_file`, the previous one beside it as `.1`."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log_file: Path
    ) -> None:
        self.name = name
        self.command = list(command)
        self.environment = dict(environment)
        self.log_file = log_file
        self.deaths = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._start_at = 0.0

    @property
    def pid(self) -> int | None:
        """Return the pid while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start it; the kernel kills it when this process dies. Call from the main thread (see tether)."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        if self.log_file.exists() and self.log_file.stat().st_size > ROTATE_ABOVE_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        with self.log_file.open("ab") as output:
            # A process group of its own, so that Ctrl-C reaches the supervisor alone, which stops in order.
            self._process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
                preexec_fn=tether(signal.SIGKILL),
            )
        self._started = time.monotonic()

    def revive(self) -> bool:
        """Start it again when it is dead and its pause is over; tell whether anything was started."""
        now = time.monotonic()
        if self._process is not None and (status := self._process.poll()) is not None:
            self.deaths = 1 if now - self._started > SETTLED_AFTER_S else self.deaths + 1
            pause = PAUSES_S[min(self.deaths, len(PAUSES_S)) - 1]
            self._process, self._start_at = None, now + pause
            log.warning("died", process=self.name, status=status, again_in_s=pause, see=str(self.log_file))
        if self._process is None and now >= self._start_at:
            self.start()
            return True
        return False

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait_stopped(self) -> None:
        """Wait for its end; kill it when it does not come."""
        if self._process is None:
            return
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            log.warning("killed: it did not stop", process=self.name)
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_WITHIN_S)
        self._process = None

    def last_words(self) -> str:
        """Return the end of its log."""
        return (
            self.log_file.read_text(encoding="utf-8", errors="replace")[-2000:]
            if self.log_file.exists()
            else ""
        )
