"""End a tool of the bench that cannot do what it was asked: one line on standard error and exit code 2, no traceback."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stackwitness_client.errors import ManifestError
from stackwitness_detectors import DetectorError


class Refusal(Exception):
    """Say in one line what is wrong with what a tool was given."""


def ended(main: Callable[[list[str]], None], arguments: list[str]) -> int:
    """Run a tool; returns its exit code: 0, or 2 when it refuses, or a file it was given is not there."""
    try:
        main(arguments)
    except (Refusal, ManifestError, DetectorError) as wrong:
        sys.stderr.write(f"{wrong}\n")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as wrong:
        sys.stderr.write(f"{wrong.filename}: {wrong.strerror}\n")
    else:
        return 0
    return 2


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises Refusal with the place of a fault."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise Refusal(f"{path}: no TOML: {wrong}") from wrong


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises Refusal."""
    try:
        told = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as wrong:
        raise Refusal(f"{path}: no JSON: {wrong}") from wrong
    if not isinstance(told, dict):
        raise Refusal(f"{path}: no report, for it is no object")
    return told
