"""Keep what is finished as JSON lines, so that a killed run goes on; lines of another key are dropped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def _entry(line: str) -> object:
    """Read a line; nothing where it is not whole, as the one being written when a run was killed."""
    try:
        return json.loads(line)
    except ValueError:
        return None


class Journal:
    """Hold finished pieces by name for one key (the hash of data, code and parameters)."""

    def __init__(self, path: Path, key: str) -> None:
        self._key = key
        self._done: dict[str, dict[str, Any]] = {}
        kept: list[str] = []
        for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
            match _entry(line):
                case {"key": str(of), "what": str(what), "found": dict(found)} if of == key and found:
                    self._done[what] = found
                    kept.append(line)
        fresh = path.with_suffix(".new")
        fresh.write_text("".join(line + "\n" for line in kept))
        os.replace(fresh, path)
        self._stream = path.open("a")

    def __contains__(self, what: str) -> bool:
        return what in self._done

    def __getitem__(self, what: str) -> dict[str, Any]:
        return self._done[what]

    def add(self, what: str, found: dict[str, Any]) -> None:
        """Write one finished piece."""
        line = json.dumps({"key": self._key, "what": what, "found": found}, sort_keys=True)
        self._stream.write(line + "\n")
        self._stream.flush()
        self._done[what] = json.loads(line)["found"]

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
