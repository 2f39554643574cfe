"""A whole log in one process: database, disk and signer, with real files and a real signer state."""

import threading
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from emdi.event import Event, seal_event
from emdi.keys import LocalKey
from emdi.policy import Policy, parse_policy
from stackwitness import clock
from stackwitness.log.disk import Disk
from stackwitness.log.events import SubjectHead, append_event, lock_subject
from stackwitness.log.heads import Heads
from stackwitness.log.loop import LogLoop, ensure_genesis
from stackwitness.log.reader import LogReader
from stackwitness.log.service_keys import ServiceKey, open_service_key
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
    service_key: ServiceKey

    def start(self, disk: Disk | None = None, home: Disk | None = None) -> LogLoop:
        disk = disk or Disk(self.settings.log_dir)
        home = home or Disk(self.settings.signer_dir)
        signer = LocalSigner(LogSigner.open(home, disk, self.settings.log_origin))
        ensure_genesis(self.engine, self.settings, self.service_key, signer)
        heads = Heads(self.engine, disk, self.service_key, scheduled=False)
        return LogLoop(self.engine, disk, signer, heads)

    @property
    def disk(self) -> Disk:
        return Disk(self.settings.log_dir)

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
        """Append events in one transaction, stored in bulk: hundreds are needed to fill a tile."""
        made: list[Event] = []
        with self.engine.begin() as conn:
            head = lock_subject(conn, subj) or SubjectHead(-1, bytes(32))
            for number in range(count):
                head_sseq, head_id = (
                    (made[-1].sseq, made[-1].event_id) if made else (head.sseq, head.event_id)
                )
                event = seal_event(
                    self.service_key, typ="log.note", subj=subj, sseq=head_sseq + 1, sprev=head_id, act="test",
                    ts_ms=clock.now_ms(), data={"number": number},
                )  # fmt: skip
                made.append(event)
            rows = [
                {
                    "id": e.event_id,
                    "subj": subj,
                    "sseq": e.sseq,
                    "sprev": e.sprev,
                    "jws": e.jws,
                    "ms": e.ts_ms,
                }
                for e in made
            ]
            insert = "INSERT INTO event VALUES (:id, 'log.note', :subj, :sseq, :sprev, :jws, :ms)"
            conn.execute(sa.text(insert), rows)
            conn.execute(
                sa.text(
                    "INSERT INTO subject_head VALUES (:subj, :sseq, :id) ON CONFLICT (subj) "
                    "DO UPDATE SET sseq = excluded.sseq, event_id = excluded.event_id"
                ),
                rows[-1],
            )
        return [(event.event_id, event.jws) for event in made]


def make_log(settings: Settings, engine: sa.Engine) -> SmallLog:
    """Give an empty log whose home folders exist."""
    settings.key_dir.mkdir(parents=True, exist_ok=True)
    if not (settings.key_dir / "service.pem").exists():
        LocalKey.from_seed(b"s" * 32, "service-1").save(settings.key_dir / "service.pem")
    return SmallLog(settings, engine, open_service_key(settings.key_dir))


def start_signer(settings: Settings) -> tuple[threading.Event, threading.Thread]:
    """Run the signer's server in a thread; set the event to end it."""
    stop = threading.Event()
    thread = threading.Thread(target=run_signer, args=(settings,), kwargs={"stop": stop}, daemon=True)
    thread.start()
    return stop, thread


def all_files(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
