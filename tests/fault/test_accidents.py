"""What happens to a running log besides a failed write: each ends with everything there, or with nothing signed."""

import shutil
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from stackwitness import clock
from stackwitness.errors import StackwitnessError
from stackwitness.log.disk import Disk
from stackwitness.log.errors import LogForked, LogOvertaken, SignerRefused
from stackwitness.log.fsck import fsck
from stackwitness.log.loop import Turns
from stackwitness.log.sequencer import Sequencer, read_head
from stackwitness.log.signer import LogSigner
from stackwitness.log.status import StatusFile, read_alarm
from stackwitness.wiring import wire
from tests.fault.conftest import Note
from tests.fault.faults import FAILS, Fault, faulty_disk, kill_connections
from tests.fault.world import World


def test_full_disk(world: World, note: Note) -> None:
    """Nothing is signed, nothing more is sequenced, the queue fills; room again, and all of it comes out."""
    settings = world.settings
    loop, before = world.log.start(), world.published
    turns, status = Turns(loop, lambda: None), StatusFile(settings.home / "log-status.json")
    world.grow(3)
    with faulty_disk(Fault(FAILS, "create", "log/tile/")):
        turns.take(settings, status)
    alarm = read_alarm(settings.home) or ""
    assert "injected" in alarm
    assert world.published == before
    world.grow(4)
    with faulty_disk(Fault(FAILS, "create", "log/tile/")):
        turns.take(settings, status)  # still full: nothing more is sequenced
    with world.engine.connect() as conn:
        waiting = conn.execute(sa.text("SELECT count(*) FROM log_pending")).scalar_one()
    assert waiting == 4
    turns.take(settings, status)  # room again
    turns.take(settings.model_copy(update={"checkpoint_ms": 1}), status)
    assert read_alarm(settings.home) is None
    note(
        "publisher: any file",
        "disk full, twice",
        f"alarm; {waiting} wait",
        f"{world.published}; {world.check()}",
    )


def test_connections_dropped(world: World, note: Note) -> None:
    loop, before = world.log.start(), world.published
    loop.sequence()
    world.grow(5)
    engine = world.wiring.engine
    with engine.connect() as held:
        held.execute(sa.text("SELECT 1"))
        killer = wire(world.settings).engine
        kill_connections(killer)
        with pytest.raises((sa.exc.DBAPIError, StackwitnessError)):
            held.execute(sa.text("SELECT 1"))
    for _ in range(3):  # a pool of dead connections is used up
        with suppress(StackwitnessError):
            loop.sequence()
            break
    size = world.turn(loop)
    assert size > before
    note("sequencer: connections", "dropped by the server", "503 or a fresh one", f"{size}; {world.check()}")


def test_clock_stepped_back(world: World, note: Note, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour back: checkpoints still come, and nothing is ordered by time."""
    settings, status = world.settings, StatusFile(world.settings.home / "log-status.json")
    loop, before = world.log.start(), world.published
    turns = Turns(loop, lambda: None)
    turns.take(settings, status)
    envelopes = world.seal(4)
    real = clock.now_ms
    monkeypatch.setattr(clock, "now_ms", lambda: real() - 3_600_000)
    with pytest.raises(StackwitnessError) as caught:
        world.post(envelopes)  # signed an hour from now, says our clock
    assert caught.value.code == "clock.future"
    world.log.note_many(3)
    turns.take(settings, status)
    assert world.published > before
    monkeypatch.undo()
    world.post(envelopes)
    size = world.turn(loop)
    note("clock", "an hour back", "log goes on; stations wait", f"{size}; {world.check()}")


def test_two_sequencers(world: World, note: Note) -> None:
    first, second = Sequencer(world.engine), Sequencer(world.engine)
    overtaken = 0
    for turn in range(6):
        world.grow(3)
        try:
            (first, second)[turn % 2].sequence_once()
        except LogOvertaken:
            overtaken += 1
    size = world.turn(world.log.start())
    note("sequencer", "two of them", f"overtaken {overtaken} times, read again", f"{size}; {world.check()}")


def test_two_signers(world: World, note: Note, tmp_path: Path) -> None:
    """A copy of the signer, state and all, that lags behind: it signs nothing that the other did not."""
    world.turn(world.log.start())
    shutil.copytree(world.settings.signer_dir, tmp_path / "copy")
    loop, signed = world.log.start(), world.published
    for _ in range(2):
        world.grow(4)
        world.turn(loop)
    with world.engine.connect() as conn:
        head = read_head(conn)
    log = Disk(world.settings.log_dir)
    copy = LogSigner.open(Disk(tmp_path / "copy"), log, world.settings.log_origin)
    with pytest.raises(SignerRefused) as other:
        copy.sign(head.size, bytes(32))
    assert other.value.code == "signer.root"
    assert copy.sign(head.size, head.root) == world.log.reader.checkpoint()
    with pytest.raises(SignerRefused) as smaller:
        copy.sign(signed, head.root)
    assert smaller.value.code == "signer.smaller"
    note(
        "signer",
        "a copy of it, behind",
        "another tree: signer.root",
        f"same tree, same bytes; {world.check()}",
    )


def test_old_database_restored(world: World, note: Note) -> None:
    """Going on from yesterday's backup would fork the log: nothing may be sequenced or signed."""
    world.grow(20)
    world.turn(world.log.start())
    checkpoint = world.log.reader.checkpoint()
    world.engine.dispose()
    name = world.engine.url.database
    with psycopg.connect(world.base.cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {world.base.database} STRATEGY FILE_COPY")
    world.log.note_many(50)
    loop = world.log.start()
    for act in (loop.sequence, loop.publish):
        with pytest.raises(LogForked):
            act()
    Sequencer(world.engine).sequence_once()  # someone drives the parts by hand, past the loop's own check
    loop._checked = True
    with pytest.raises((LogForked, SignerRefused)) as caught:
        loop.publish()
    assert world.log.reader.checkpoint() == checkpoint
    settings = world.settings
    report = fsck(world.engine, settings.log_dir, world.log.policy, signer_dir=settings.signer_dir)
    assert report.exit_code == 1
    codes = sorted({finding.code for finding in report.findings})
    note(
        "database",
        "yesterday's copy",
        f"{caught.value.code}; fsck {report.exit_code}",
        f"nothing signed; {codes[0]}",
    )


def test_state_file_missing(world: World, note: Note) -> None:
    world.grow(20)
    world.turn(world.log.start())
    settings, today = world.settings, datetime.now(UTC).date()
    (settings.signer_dir / "state").unlink()
    with pytest.raises(SignerRefused) as missing:
        world.log.start()
    assert missing.value.code == "signer.no_state"
    home, log = Disk(settings.signer_dir), Disk(settings.log_dir)
    with pytest.raises(SignerRefused) as wrong:
        LogSigner.open(home, log, settings.log_origin, init=today - timedelta(days=400))
    assert wrong.value.code == "signer.genesis"
    LogSigner.open(home, log, settings.log_origin, init=today)
    world.grow(2)
    size = world.turn(world.log.start())
    note(
        "signer's state",
        "missing",
        "refused: signer.no_state",
        f"--init with the genesis date; {size}; {world.check()}",
    )


def test_state_file_damaged(world: World, note: Note) -> None:
    """Any byte: either the state is refused, or it still says the same."""
    world.grow(8)
    world.turn(world.log.start())
    path = world.settings.signer_dir / "state"
    good, refused = path.read_bytes(), []
    for place in range(0, len(good), 5):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        try:
            signer = LogSigner.open(
                Disk(path.parent), Disk(world.settings.log_dir), world.settings.log_origin
            )
            with world.engine.connect() as conn:
                head = read_head(conn)
            assert signer.sign(head.size, head.root).startswith(
                good.partition(b"\n\n")[2].partition(b"\n\n")[0]
            )
        except SignerRefused as error:
            refused.append(error.code)
    path.write_bytes(good)
    assert set(refused) <= {"signer.state", "signer.rewritten"}
    assert len(refused) > len(good) // 5 * 0.8
    note("signer's state", "one bit of it flipped", f"refused {len(refused)} times", world.check())
