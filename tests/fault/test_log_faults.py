"""Every write of sequencer, publisher and signer fails, fails but lasts, or is the process's last act.

After each: start again, as after a crash; the log goes on, every receipt ever given verifies, the checker
finds nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from emdi.receipt import verify_receipt
from stackwitness.errors import StackwitnessError
from stackwitness.log.disk import Disk
from stackwitness.log.errors import LogForked, LogOvertaken, SignerRefused
from stackwitness.log.fsck import fsck
from stackwitness.log.loop import LogLoop, Turns
from stackwitness.log.sequencer import Sequencer
from stackwitness.log.status import StatusFile, read_alarm
from stackwitness.settings import Settings
from tests.service.log_support import SmallLog, make_log


class Killed(BaseException):
    """The process is gone: nothing after this line runs."""


@dataclass
class Fault:
    """Let write number `at` (of files whose name holds `name`) fail in one of three ways."""

    kind: str
    name: str = ""
    at: int = 1
    seen: int = 0
    fired: bool = False

    def strike(self, path: str, write: Callable[[], None]) -> None:
        if self.fired or self.name not in path:
            return write()
        self.seen += 1
        if self.seen < self.at:
            return write()
        self.fired = True
        if self.kind != "lost":
            write()
        if self.kind == "killed":
            raise Killed
        raise OSError(28, "No space left on device")


class FaultyDisk(Disk):
    """A disk one of whose writes fails."""

    def __init__(self, root: Path, fault: Fault) -> None:
        super().__init__(root)
        self._fault = fault

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._fault.strike(path, lambda: super(FaultyDisk, self).write(path, data, mode))


@dataclass
class Story:
    """A log whose receipts are all remembered."""

    log: SmallLog
    receipts: list[tuple[bytes, bytes]] = field(default_factory=list)
    made: list[tuple[bytes, bytes]] = field(default_factory=list)

    def turn(self, loop: LogLoop, count: int) -> None:
        """Append, sequence, publish, and remember the receipts that are given out."""
        self.made += self.log.note_many(count)
        loop.sequence()
        loop.publish()
        self.collect()

    def collect(self) -> None:
        found = self.log.reader.receipts([event_id for event_id, _ in self.made])
        self.receipts += [(found[event_id], jws) for event_id, jws in self.made if event_id in found]

    def check(self) -> None:
        """Start again; everything that was appended comes out, everything ever given still verifies."""
        loop = self.log.start()
        self.turn(loop, 2)
        found = self.log.reader.receipts([event_id for event_id, _ in self.made])
        assert set(found) == {event_id for event_id, _ in self.made}
        for receipt, jws in self.receipts:
            verify_receipt(receipt, jws, self.log.policy)
        settings = self.log.settings
        report = fsck(self.log.engine, settings.log_dir, self.log.policy, signer_dir=settings.signer_dir)
        assert report.findings == []


@pytest.fixture
def story(settings: Settings, engine: sa.Engine) -> Story:
    told = Story(make_log(settings, engine))
    told.turn(told.log.start(), 250)
    return told


# every file one publication over a bundle boundary writes, in its order
WRITES = [
    "tile/entries/000",
    "tile/0/000",
    "tile/entries/001.p",
    "tile/0/001.p",
    "tile/1/000.p",
    "checkpoint",
]


@pytest.mark.parametrize("kind", ["lost", "lasted", "killed"])
@pytest.mark.parametrize("name", WRITES)
def test_write_of_the_publisher_fails(story: Story, name: str, kind: str) -> None:
    fault = Fault(kind, name)
    settings = story.log.settings
    loop = story.log.start(disk=FaultyDisk(settings.log_dir, fault))
    with pytest.raises((OSError, Killed)):
        story.turn(loop, 20)
    assert fault.fired
    story.collect()
    story.check()


@pytest.mark.parametrize("grown", [0, 7])
@pytest.mark.parametrize("kind", ["lost", "lasted", "killed"])
def test_write_of_the_signer_fails(story: Story, kind: str, grown: int) -> None:
    """Once with the same size asked for again, once with a larger one."""
    fault = Fault(kind, "state")
    settings = story.log.settings
    before = story.log.reader.checkpoint()
    loop = story.log.start(home=FaultyDisk(settings.signer_dir, fault))
    with pytest.raises((StackwitnessError, Killed)):
        story.turn(loop, 20)
    assert story.log.reader.checkpoint() == before
    if kind != "killed":  # the same process goes on
        story.turn(loop, grown) if grown else loop.publish()
        assert story.log.reader.checkpoint() != before
    story.check()


STATEMENTS = ["pg_advisory_xact_lock", "FROM log_pending", "INSERT INTO log_head", "DELETE FROM log_pending"]


@contextmanager
def failing_statement(engine: sa.Engine, word: str) -> Iterator[None]:
    def fail(conn, cursor, statement, parameters, context, many) -> None:  # type: ignore[no-untyped-def]
        if word in statement:
            raise sa.exc.OperationalError(statement, {}, Exception("connection lost"))

    sa.event.listen(engine, "before_cursor_execute", fail)
    try:
        yield
    finally:
        sa.event.remove(engine, "before_cursor_execute", fail)


@pytest.mark.parametrize("word", STATEMENTS)
def test_statement_of_the_sequencer_fails(story: Story, word: str) -> None:
    loop = story.log.start()
    loop.sequence()
    story.made += story.log.note_many(5)
    with failing_statement(story.log.engine, word), pytest.raises(StackwitnessError):
        loop.sequence()
    loop.sequence()
    loop.publish()
    story.check()


@pytest.mark.parametrize("persisted", [False, True])
def test_commit_of_the_sequencer_fails(
    story: Story, persisted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = story.log.start()
    loop.sequence()
    story.made += story.log.note_many(5)
    commit = story.log.engine.dialect.do_commit

    def fail(connection: object) -> None:
        if persisted:
            commit(connection)  # type: ignore[arg-type]
        raise sa.exc.OperationalError("COMMIT", {}, Exception("connection lost"))

    with monkeypatch.context() as broken:
        broken.setattr(story.log.engine.dialect, "do_commit", fail)
        with pytest.raises(StackwitnessError):
            loop.sequence()
    assert loop.sequence() == (0 if persisted else 5)
    loop.publish()
    story.check()


def test_full_disk_signs_nothing_and_lets_the_queue_grow(story: Story, settings: Settings) -> None:
    fault = Fault("lost", "tile/")
    loop = story.log.start(disk=FaultyDisk(settings.log_dir, fault))
    before = story.log.reader.checkpoint()
    turns, status = Turns(loop, lambda: None), StatusFile(settings.home / "log-status.json")
    story.made += story.log.note_many(3)
    turns.take(settings, status)
    assert fault.fired
    assert story.log.reader.checkpoint() == before
    assert "No space left" in (read_alarm(settings.home) or "")
    fault.fired, fault.seen = False, 0
    story.made += story.log.note_many(4)
    turns.take(settings, status)  # still full: nothing more is sequenced
    with story.log.engine.connect() as conn:
        assert conn.execute(sa.text("SELECT count(*) FROM log_pending")).scalar_one() == 4
    turns.take(settings, status)  # room again
    turns.take(settings.model_copy(update={"checkpoint_ms": 1}), status)
    assert read_alarm(settings.home) is None
    story.check()


def test_older_copy_of_the_database_is_not_signed(story: Story, settings: Settings) -> None:
    """Restoring yesterday's database and going on would fork the log: nothing may be signed or sequenced."""
    with story.log.engine.begin() as conn:
        saved = {
            table: conn.execute(sa.text(f"SELECT * FROM {table}")).all()
            for table in ("event", "subject_head", "log_entry", "log_head")
        }
    story.turn(story.log.start(), 30)
    note = story.log.reader.checkpoint()
    with story.log.engine.begin() as conn:
        conn.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for table, rows in saved.items():
            if table != "subject_head":
                conn.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            conn.execute(sa.text(f"DELETE FROM {table}"))
            for row in rows:
                names = ", ".join(row._mapping)
                values = ", ".join(f":{name}" for name in row._mapping)
                conn.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({values})"), dict(row._mapping))
            if table == "event":
                conn.execute(sa.text("ALTER TABLE event ENABLE TRIGGER queue_event"))
    story.log.note_many(50)
    loop = story.log.start()
    with pytest.raises(LogForked):
        loop.sequence()
    with pytest.raises(LogForked):
        loop.publish()
    # someone drives the parts by hand, past the loop's own check
    Sequencer(story.log.engine).sequence_once()
    loop._checked = True
    with pytest.raises((LogForked, SignerRefused)):
        loop.publish()
    assert story.log.reader.checkpoint() == note
    report = fsck(story.log.engine, settings.log_dir, story.log.policy, signer_dir=settings.signer_dir)
    assert report.exit_code == 1


def test_overtaken_leader_reads_again(story: Story) -> None:
    first, second = Sequencer(story.log.engine), Sequencer(story.log.engine)
    for turn in range(8):
        story.made += story.log.note_many(3)
        with suppress(LogOvertaken):
            (first, second)[turn % 2].sequence_once()
    story.check()
