"""A whole log in one process: database, disk and signer, with real files and a real signer state."""

import threading
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from emdi.keys import LocalKey
from emdi.policy import Policy, parse_policy
from stackwitness.log.disk import Disk
from stackwitness.log.events import append_event
from stackwitness.log.loop import LogLoop, ensure_genesis
from stackwitness.log.reader import LogReader
from stackwitness.log.signer import LogSigner, run_signer
from stackwitness.settings import Settings


class LocalSigner:
    """The signer without its socket."""

    def __init__(self, signer: LogSigner) -> None:
        self.signer = signer

    def vkey(self) -> str:
        return self.signer.vkey

    def head(self) -> bytes:
        return self.signer.last_note

    def sign(self, size: int, root: bytes) -> bytes:
        return self.signer.sign(size, root)


@dataclass
class SmallLog:
    """One log; `start` again after anything broke, as a restarted process would."""

    settings: Settings
    engine: sa.Engine
    service_key: LocalKey

    def start(self, disk: Disk | None = None, home: Disk | None = None) -> LogLoop:
        disk = disk or Disk(self.settings.log_dir)
        home = home or Disk(self.settings.signer_dir)
        signer = LocalSigner(LogSigner.open(home, disk, self.settings.log_origin))
        ensure_genesis(self.engine, self.settings, self.service_key, signer)
        return LogLoop(self.engine, disk, signer)

    @property
    def reader(self) -> LogReader:
        return LogReader(self.settings.log_dir, self.engine)

    @property
    def policy(self) -> Policy:
        return parse_policy(f"log {self.vkey}\nquorum none\n")

    @property
    def vkey(self) -> str:
        home, disk = Disk(self.settings.signer_dir), Disk(self.settings.log_dir)
        return LogSigner.open(home, disk, self.settings.log_origin).vkey

    def note(self, count: int = 1, subj: str = "log") -> list[tuple[bytes, bytes]]:
        """Append events; return (event_id, jws) of each."""
        made = []
        for number in range(count):
            with self.engine.begin() as conn:
                event = append_event(
                    conn, self.service_key, typ="log.note", subj=subj, act="test", data={"number": number}
                )
            made.append((event.event_id, event.jws))
        return made

    def note_many(self, count: int, subj: str = "log") -> list[tuple[bytes, bytes]]:
        """Append events in one transaction."""
        with self.engine.begin() as conn:
            events = [
                append_event(conn, self.service_key, typ="log.note", subj=subj, act="test", data={"n": n})
                for n in range(count)
            ]
        return [(event.event_id, event.jws) for event in events]


def make_log(settings: Settings, engine: sa.Engine) -> SmallLog:
    """Give an empty log whose home folders exist."""
    settings.key_dir.mkdir(parents=True, exist_ok=True)
    return SmallLog(settings, engine, LocalKey.from_seed(b"s" * 32, "service-1"))


def start_signer(settings: Settings) -> tuple[threading.Event, threading.Thread]:
    """Run the signer's server in a thread; set the event to end it."""
    stop = threading.Event()
    thread = threading.Thread(target=run_signer, args=(settings,), kwargs={"stop": stop}, daemon=True)
    thread.start()
    return stop, thread


def all_files(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
