"""Alarms: one proof file per fact, in a folder that a person empties by moving files away."""

import json
from dataclasses import dataclass
from pathlib import Path

from emdi.proof_file import EXIT_CODES, ProofFile, format_proof
from stackwitness_client.monitor.mirror import write_durably
from stackwitness_client.monitor.state import State

OVER = "over"


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm that stands: its number, type and file."""

    n: int
    type: str
    path: Path


class AlarmBook:
    """Write proof files below `folder`; a fact is written once, however often it is found."""

    def __init__(self, folder: Path, state: State) -> None:
        self._folder = folder
        self._state = state
        folder.mkdir(parents=True, exist_ok=True)

    def known(self, key: str) -> bool:
        """Tell whether a fact has its alarm."""
        return self._state.db.execute("SELECT 1 FROM fact WHERE key = ?", (key,)).fetchone() is not None

    def write(self, key: str, proof: ProofFile) -> Alarm | None:
        """Write an alarm, file first; None when the fact is known."""
        if self.known(key):
            return None
        (last,) = self._state.db.execute("SELECT coalesce(max(n), 0) FROM fact").fetchone()
        n = max([last, *(alarm.n for alarm in self.standing())]) + 1
        path = self._folder / f"{n}-{proof.type}.json"
        write_durably(path, format_proof(proof))
        with self._state.transaction():
            self._state.db.execute("DELETE FROM pending WHERE key = ?", (key,))
            self._state.db.execute(
                "INSERT INTO fact VALUES (?, ?, ?, ?)", (key, proof.type, n, proof.made_ms)
            )
        return Alarm(n, proof.type, path)

    def end(self, key: str) -> None:
        """A condition is over: its file moves to `over/`, and it may be raised anew."""
        row = self._state.db.execute("SELECT type, n FROM fact WHERE key = ?", (key,)).fetchone()
        if row is None:
            return
        path = self._folder / f"{row[1]}-{row[0]}.json"
        (self._folder / OVER).mkdir(exist_ok=True)
        if path.exists():
            path.replace(self._folder / OVER / path.name)
        with self._state.transaction():
            # The number stays taken: a name never means two alarms.
            self._state.db.execute("UPDATE fact SET key = ? WHERE key = ?", (f"over:{row[1]}:{key}", key))

    def standing(self) -> list[Alarm]:
        """Return the alarms whose files nobody has moved away, by number."""
        found = []
        for path in self._folder.glob("*-*.json"):
            number, _, kind = path.stem.partition("-")
            if number.isdigit() and kind in EXIT_CODES:
                found.append(Alarm(int(number), kind, path))
        return sorted(found, key=lambda alarm: alarm.n)

    def summary(self) -> str:
        """Return the standing alarms as JSON: number, type, what is said, name of the file."""
        rows = []
        for alarm in self.standing():
            says = json.loads(alarm.path.read_bytes()).get("says")
            rows.append({"n": alarm.n, "type": alarm.type, "says": says, "file": alarm.path.name})
        return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
