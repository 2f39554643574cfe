"""What detection signed about each station, followed from turn to turn: runs, late arrivals, lapses, and the numbers."""

import json
import sqlite3

from emdi.errors import EmdiError
from emdi.event import Event
from emdi.judging import CONFIG, Configs, Judging
from emdi.runs import Ends, Fault, Span
from stackwitness_client.monitor.state import State

SCHEMA = """
CREATE TABLE IF NOT EXISTS judged (stn TEXT PRIMARY KEY, members TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS detector_config (version TEXT PRIMARY KEY, config_hash TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run_end (
    no INTEGER PRIMARY KEY, stn TEXT NOT NULL, upto_ms INTEGER NOT NULL, state TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS run_end_place ON run_end (stn, upto_ms)
"""
# Whether these tables were there from the log's first entry on: from the middle nothing can be followed.
BEGAN = "judged_from_the_first"


class StoredEnds(Ends):
    """Keep where a station's runs in force ended in the state file."""

    def __init__(self, db: sqlite3.Connection, stn: str) -> None:
        self._db, self._stn = db, stn

    def has(self, end: tuple[int, str]) -> bool:
        """Tell whether a run in force ended so."""
        return self._no(end) is not None

    def follow(self, start: tuple[int, str], end: tuple[int, str]) -> None:
        """Take a run: those behind its start, or all when none ended there, are no longer in force."""
        no = self._no(start)
        self._db.execute(
            "DELETE FROM run_end WHERE stn = ? AND no > ?", (self._stn, -1 if no is None else no)
        )
        row = (self._stn, *end)
        self._db.execute("INSERT INTO run_end (stn, upto_ms, state) VALUES (?, ?, ?)", row)

    def _no(self, end: tuple[int, str]) -> int | None:
        query = "SELECT min(no) FROM run_end WHERE stn = ? AND upto_ms = ? AND state = ?"
        (no,) = self._db.execute(query, (self._stn, *end)).fetchone()
        return None if no is None else int(no)


class JudgedStations:
    """Take what detection signed in the order of the log; `save` inside the state's transaction."""

    def __init__(self, state: State) -> None:
        db = self._db = state.db
        for statement in SCHEMA.split(";"):
            db.execute(statement)
        if state.get(BEGAN) is None:
            state.put(BEGAN, state.replayed == 0)
        self._began = bool(state.get(BEGAN))
        self._stations: dict[str, Judging] = {}
        self._touched: set[str] = set()
        self._configs = Configs(dict(db.execute("SELECT version, config_hash FROM detector_config")))

    def take_envelope(self, stn: str, span: Span) -> None:
        """Take an accepted envelope; only one that comes late changes anything."""
        if not self._began:
            return
        judging = self._of(stn)
        last = judging.chain.last
        if last is not None and span.first_ms < last.upto_ms:
            judging.take_envelope(span)
            self._touched.add(stn)

    def take_event(self, event: Event) -> list[tuple[Event, Fault]]:
        """Take an event; return what does not hold, and of which event. What cannot be read is named elsewhere."""
        try:
            return self._take(event) if self._began else []
        except (ArithmeticError, AttributeError, EmdiError, TypeError, ValueError):
            return []

    def _take(self, event: Event) -> list[tuple[Event, Fault]]:
        faults = [(event, fault) for fault in self._configs.take_event(event)]
        if event.typ == CONFIG:
            self._db.executemany(
                "INSERT OR IGNORE INTO detector_config VALUES (?, ?)", self._configs.known.items()
            )
        kind, _, stn = event.subj.partition(":")
        if kind == "station":
            faults += self._of(stn).take_event(event)
            self._touched.add(stn)
        return faults

    def save(self) -> None:
        """Write what changed."""
        rows = [(stn, json.dumps(self._stations[stn].members())) for stn in self._touched]
        self._db.executemany("INSERT OR REPLACE INTO judged VALUES (?, ?)", rows)
        self._touched = set()

    def _of(self, stn: str) -> Judging:
        if stn not in self._stations:
            judging = Judging(complete=False, whole=True, ends=StoredEnds(self._db, stn))
            row = self._db.execute("SELECT members FROM judged WHERE stn = ?", (stn,)).fetchone()
            if row is not None:
                judging.restore(json.loads(row[0]))
            self._stations[stn] = judging
        return self._stations[stn]
