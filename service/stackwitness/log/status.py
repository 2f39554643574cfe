"""What the log process tells the others: whether it moves, if not why, and what is wrong all the same."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from stackwitness import clock
from stackwitness.errors import StackwitnessError

STATUS_FILE = "log-status.json"
log = structlog.get_logger("log")


class LogWarning(NamedTuple):
    """Something that does not stop the log: code (log.quorum, log.witness, log.anchor) and text."""

    code: str
    text: str


def read_alarm(home: Path) -> str | None:
    """Return why the log stands still, as its process last said; None when it moves or never ran."""
    alarm = _read(home).get("alarm")
    return alarm if isinstance(alarm, str) else None


def read_warnings(home: Path) -> tuple[LogWarning, ...]:
    """Return what is wrong though the log moves, as its process last said."""
    warnings = _read(home).get("warnings")
    try:
        return tuple(LogWarning(str(code), str(text)) for code, text in warnings or ())
    except (TypeError, ValueError):
        return ()


class StatusFile:
    """Tell other processes whether the log moves: {"alarm": null | text, "code", "since_ms", "size",
    "warnings": [[code, text], ...]}.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: dict[str, object] = {}

    def alarm(self, error: Exception) -> None:
        """Raise the alarm, once for as long as the same thing is wrong."""
        code = error.code if isinstance(error, StackwitnessError) else f"log.{type(error).__name__.lower()}"
        if self._last.get("code") != code:
            log.error("log.stopped", code=code, error=str(error))
            self._write({"alarm": str(error), "code": code, "since_ms": clock.now_ms()})

    def clear(self, size: int, warnings: Sequence[LogWarning] = ()) -> None:
        """Say that everything up to `size` is published, and what is wrong all the same."""
        if self._last.get("code") is not None:
            log.info("log.resumed", size=size)
        warned = [list(warning) for warning in warnings]
        changed = self._last.get("warnings", []) != warned
        if changed:
            log.warning("log.warnings", now=[f"{code}: {text}" for code, text in warnings])
        if changed or self._last.get("size") != size:
            moment = {"since_ms": clock.now_ms(), "size": size, "warnings": warned}
            self._write({"alarm": None, "code": None, **moment})

    def _write(self, members: dict[str, object]) -> None:
        self._last = members
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(members))
            temporary.replace(self._path)
        except OSError as error:  # a full disk must not stop the loop that waits for room
            log.warning("log.status_lost", error=str(error))


def _read(home: Path) -> dict[str, Any]:
    try:
        members = json.loads((home / STATUS_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return members if isinstance(members, dict) else {}
