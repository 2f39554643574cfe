"""What the log process tells the others: whether it moves, and if not, why."""

import json
from pathlib import Path

import structlog

from stackwitness import clock
from stackwitness.errors import StackwitnessError

STATUS_FILE = "log-status.json"
log = structlog.get_logger("log")


def read_alarm(home: Path) -> str | None:
    """Return why the log stands still, as its process last said; None when it moves or never ran."""
    try:
        members = json.loads((home / STATUS_FILE).read_text())
    except (OSError, ValueError):
        return None
    alarm = members.get("alarm") if isinstance(members, dict) else None
    return alarm if isinstance(alarm, str) else None


class StatusFile:
    """Tell other processes whether the log moves: {"alarm": null | text, "code", "since_ms", "size"}."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: dict[str, object] = {}

    def alarm(self, error: Exception) -> None:
        """Raise the alarm, once for as long as the same thing is wrong."""
        code = error.code if isinstance(error, StackwitnessError) else f"log.{type(error).__name__.lower()}"
        if self._last.get("code") != code:
            log.error("log.stopped", code=code, error=str(error))
            self._write({"alarm": str(error), "code": code, "since_ms": clock.now_ms()})

    def clear(self, size: int) -> None:
        """Say that everything up to `size` is published."""
        if self._last.get("code") is not None:
            log.info("log.resumed", size=size)
        if self._last.get("size") != size:
            self._write({"alarm": None, "code": None, "since_ms": clock.now_ms(), "size": size})

    def _write(self, members: dict[str, object]) -> None:
        self._last = members
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(members))
            temporary.replace(self._path)
        except OSError as error:  # a full disk must not stop the loop that waits for room
            log.warning("log.status_lost", error=str(error))
