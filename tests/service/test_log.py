"""The log promises: every stored leaf once, in order, receipts that verify for ever, signatures that only
extend.
"""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from emdi.checkpoint import open_checkpoint
from emdi.merkle import verify_consistency
from emdi.receipt import verify_receipt
from emdi.tiles import tile_path, widths
from stackwitness import clock
from stackwitness.log import sequencer
from stackwitness.log.disk import Disk
from stackwitness.log.errors import LogForked, LogOvertaken, SignerRefused, SignerUnavailable
from stackwitness.log.events import append_event, read_subject
from stackwitness.log.genesis import parse_genesis
from stackwitness.log.publisher import TileWriter, publish
from stackwitness.log.sequencer import Sequencer, read_head
from stackwitness.log.signer import LogSigner, SignerClient, run_signer
from stackwitness.settings import Settings
from tests.service.log_support import SmallLog, all_files, make_log, start_signer


@pytest.fixture
def small_log(settings: Settings, engine: sa.Engine) -> SmallLog:
    return make_log(settings, engine)


def test_first_leaf_is_the_genesis_even_when_events_came_before(small_log: SmallLog) -> None:
    with small_log.engine.begin() as conn:
        append_event(conn, small_log.service_key, typ="log.note", subj="log", act="test", data={})
    loop = small_log.start()
    assert loop.sequence() == 2
    head = loop.publish()
    genesis = parse_genesis(small_log.reader.tiles().entry(0)[13:])
    assert head.size == 2
    assert genesis.origin == small_log.settings.log_origin
    assert genesis.service_public == small_log.service_key.public


@pytest.mark.parametrize("sizes", [[1, 1, 1], [254, 1, 1, 1], [600, 5], [1500]])
def test_receipts_verify_at_every_published_size(small_log: SmallLog, sizes: list[int]) -> None:
    loop = small_log.start()
    made, given = [], []
    for count in sizes:
        made += small_log.note_many(count)
        loop.sequence()
        loop.publish()
        event_id, jws = made[-1]
        receipt = small_log.reader.receipt(event_id)
        assert receipt is not None
        given.append((receipt, jws))
    policy = small_log.policy
    found = small_log.reader.receipts([event_id for event_id, _ in made[::37]])
    given += [(found[event_id], jws) for event_id, jws in made[::37]]
    for receipt, jws in given:
        assert verify_receipt(receipt, jws, policy).kind == 2
    files = all_files(small_log.settings.log_dir)
    assert small_log.reader.tiles().root() == small_log.reader.snapshot().checkpoint.root
    assert not [name for name in files if name.endswith(".tmp")]


def test_checkpoints_are_consistent_with_each_other(small_log: SmallLog) -> None:
    loop = small_log.start()
    seen = []
    for count in (1, 300, 7, 260):
        small_log.note_many(count)
        loop.sequence()
        loop.publish()
        seen.append(open_checkpoint(small_log.reader.checkpoint(), small_log.policy)[0])
    last = small_log.reader.snapshot()
    for old in seen:
        path = last.consistency(old.size)
        verify_consistency(old.size, last.size, old.root, last.checkpoint.root, path)


def test_subject_chain_holds_under_concurrent_writers(small_log: SmallLog) -> None:
    def write(number: int) -> None:
        for _ in range(10):
            small_log.note(1, subj="station:S1")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with small_log.engine.begin() as conn:
        head = read_subject(conn, "station:S1")
        rows = conn.execute(sa.text("SELECT sseq, event_id, sprev FROM event ORDER BY sseq")).all()
    assert head is not None
    assert [row.sseq for row in rows] == list(range(40))
    assert all(rows[i].sprev == rows[i - 1].event_id for i in range(1, 40))
    assert head.event_id == rows[-1].event_id


def test_two_sequencers_share_one_log(small_log: SmallLog) -> None:
    small_log.start()
    first, second = Sequencer(small_log.engine), Sequencer(small_log.engine)
    total = 0
    for turn in range(6):
        small_log.note(3)
        total += (first, second)[turn % 2].sequence_once()
    while count := first.sequence_once():
        total += count
    assert total == 19
    with small_log.engine.begin() as conn:
        assert read_head(conn).size == 19
        assert conn.execute(sa.text("SELECT count(*) FROM log_pending")).scalar_one() == 0


def test_second_leader_without_the_lock_is_fenced_out(
    small_log: SmallLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = small_log.start()
    loop.sequence()
    small_log.note(2)
    monkeypatch.setattr("stackwitness.log.sequencer.lock_log", lambda conn: None)
    slow, fast = Sequencer(small_log.engine), Sequencer(small_log.engine)
    read_pending = sequencer._read_pending

    def read_then_wait(conn: sa.Connection, *, first: bool) -> Sequence[sa.Row[Any]]:
        rows = read_pending(conn, first=first)
        monkeypatch.setattr(sequencer, "_read_pending", read_pending)
        assert fast.sequence_once() == 2
        return rows

    monkeypatch.setattr(sequencer, "_read_pending", read_then_wait)
    with pytest.raises(LogOvertaken):
        slow.sequence_once()
    assert slow.sequence_once() == 0
    assert loop.publish().size == 3


def test_a_late_commit_with_a_lower_number_is_not_lost(small_log: SmallLog) -> None:
    loop = small_log.start()
    loop.sequence()
    with small_log.engine.connect() as early:
        late = append_event(early, small_log.service_key, typ="log.note", subj="log", act="test", data={})
        small_log.note(3, subj="detector")
        assert loop.sequence() == 3
        early.commit()
    assert loop.sequence() == 1
    loop.publish()
    assert small_log.reader.receipt(late.event_id) is not None


def test_signer_refuses_what_does_not_extend(small_log: SmallLog) -> None:
    loop = small_log.start()
    small_log.note_many(300)
    loop.sequence()
    head = loop.publish()
    signer = LogSigner.open(
        Disk(small_log.settings.signer_dir), Disk(small_log.settings.log_dir), small_log.settings.log_origin
    )
    assert signer.sign(head.size, head.root) == small_log.reader.checkpoint()
    refused = {
        "signer.smaller": (head.size - 1, head.root),
        "signer.other_root": (head.size, bytes(32)),
        "signer.bundle": (head.size + 1, bytes(32)),
    }
    for code, (size, root) in refused.items():
        with pytest.raises(SignerRefused) as caught:
            signer.sign(size, root)
        assert caught.value.code == code


def test_signer_refuses_a_bundle_edited_on_disk(small_log: SmallLog) -> None:
    loop = small_log.start()
    small_log.note_many(300)
    loop.sequence()
    loop.publish()
    bundle = small_log.settings.log_dir / "tile/entries/001.p/45"
    data = bytearray(bundle.read_bytes())
    data[-1] ^= 1
    bundle.write_bytes(data)
    small_log.note(1)
    restarted = small_log.start()
    restarted.sequence()
    with pytest.raises(SignerRefused) as caught:
        restarted.publish()
    assert caught.value.code == "signer.rewritten"


def test_signer_without_its_state_refuses_until_told(small_log: SmallLog) -> None:
    loop = small_log.start()
    small_log.note_many(300)
    loop.sequence()
    loop.publish()
    (small_log.settings.signer_dir / "state").unlink()
    with pytest.raises(SignerRefused) as caught:
        small_log.start()
    assert caught.value.code == "signer.no_state"
    home, disk = Disk(small_log.settings.signer_dir), Disk(small_log.settings.log_dir)
    today = datetime.now(UTC).date()
    with pytest.raises(SignerRefused) as caught:
        LogSigner.open(home, disk, small_log.settings.log_origin, init=today - timedelta(days=1))
    assert caught.value.code == "signer.genesis"
    adopted = LogSigner.open(home, disk, small_log.settings.log_origin, init=today)
    assert adopted.last_note == small_log.reader.checkpoint()


def test_lost_signer_home_does_not_start_a_new_log(small_log: SmallLog) -> None:
    loop = small_log.start()
    loop.sequence()
    loop.publish()
    for name in ("state", "log.key"):
        (small_log.settings.signer_dir / name).unlink()
    with pytest.raises(SignerRefused):
        small_log.start()


def test_log_forgets_nothing_when_the_database_was_rolled_back(small_log: SmallLog) -> None:
    loop = small_log.start()
    small_log.note_many(5)
    loop.sequence()
    loop.publish()
    with small_log.engine.begin() as conn:
        conn.execute(sa.text("ALTER TABLE log_head DISABLE TRIGGER ALL"))
        conn.execute(sa.text("ALTER TABLE log_entry DISABLE TRIGGER ALL"))
        conn.execute(sa.text("DELETE FROM log_head WHERE size > 1"))
        conn.execute(sa.text("DELETE FROM log_entry WHERE idx >= 1"))
    small_log.note(1)
    restarted = small_log.start()
    with pytest.raises(LogForked):
        restarted.sequence()
    with pytest.raises(LogForked):
        restarted.publish()


def test_signer_process_protocol(small_log: SmallLog) -> None:
    loop = small_log.start()
    small_log.note(2)
    loop.sequence()
    loop.publish()
    stop, thread = start_signer(small_log.settings)
    client = SignerClient(small_log.settings.signer_socket)
    for _ in range(100):
        try:
            client.vkey()
            break
        except SignerUnavailable:
            threading.Event().wait(0.05)
    with small_log.engine.begin() as conn:
        head = read_head(conn)
    assert client.sign(head.size, head.root) == client.head() == small_log.reader.checkpoint()
    with pytest.raises(SignerRefused) as caught:
        client.sign(1, head.root)
    assert caught.value.code == "signer.smaller"
    assert (small_log.settings.signer_socket.stat().st_mode & 0o777) == 0o600
    stop.set()
    thread.join()
    with pytest.raises(SignerUnavailable):
        client.vkey()


def test_tiles_on_disk_are_exactly_those_of_the_size(tmp_path: Path) -> None:
    writer = TileWriter(Disk(tmp_path), 0, [], [])
    size = 256 * 256 + 300
    for number in range(size):
        writer.append(b"EMD\x01" + bytes(9) + str(number).encode())
    writer.flush()
    names = {name for name in all_files(tmp_path) if not name.startswith("tile/entries")}
    assert names == {tile_path(*tile) for tile in widths(size)}


def test_rebuild_of_a_lost_disk_gives_the_same_bytes(small_log: SmallLog, tmp_path: Path) -> None:
    loop = small_log.start()
    small_log.note_many(700)
    loop.sequence()
    loop.publish()
    kept = all_files(small_log.settings.log_dir)
    with small_log.engine.begin() as conn:
        publish(conn, tmp_path / "again", 701)
    again = all_files(tmp_path / "again")
    assert again == {name: data for name, data in kept.items() if name in again}
    assert set(kept) - set(again) == {"checkpoint"}


def test_an_idle_log_republishes_within_ten_minutes(
    small_log: SmallLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = small_log.start()
    loop.sequence()
    loop.publish()
    path = small_log.settings.log_dir / "checkpoint"
    first, note = path.stat().st_ino, path.read_bytes()
    loop.publish()
    assert path.stat().st_ino == first
    later = clock.now_ms() + 10 * 60_000
    monkeypatch.setattr(clock, "now_ms", lambda: later)
    loop.publish()
    assert path.stat().st_ino != first
    assert path.read_bytes() == note


def test_socket_of_a_deep_home_is_short_enough(tmp_path: Path) -> None:
    home = tmp_path / ("deep/" * 40)
    home.mkdir(parents=True)
    settings = Settings(mode="test", home=home, database_url="postgresql://unused")
    stop, thread = start_signer(settings)
    client = SignerClient(settings.signer_socket)
    for _ in range(100):
        if settings.signer_socket.exists():
            break
        threading.Event().wait(0.05)
    assert client.vkey().startswith(settings.log_origin)
    stop.set()
    thread.join()


def test_second_signer_on_one_state_refuses(small_log: SmallLog) -> None:
    stop, thread = start_signer(small_log.settings)
    while not small_log.settings.signer_socket.exists():
        threading.Event().wait(0.05)
    with pytest.raises(SignerRefused) as caught:
        run_signer(small_log.settings, stop=threading.Event())
    assert caught.value.code == "signer.second"
    stop.set()
    thread.join()


def test_a_restart_reads_the_edge_from_tiles_and_only_the_rows_behind_them(small_log: SmallLog) -> None:
    loop = small_log.start()
    small_log.note_many(700)
    loop.sequence()
    loop.publish()
    small_log.note_many(5)
    loop.sequence()
    disk = Disk(small_log.settings.log_dir)
    asked: list[str] = []
    with small_log.engine.connect() as conn:
        head = read_head(conn)
        event_hook = sa.event.listens_for(conn, "before_cursor_execute")
        event_hook(lambda _c, _k, sql, parameters, *_: asked.append(f"{sql} {parameters}"))
        tree = sequencer.load_tree(conn, head, disk)
        assert (tree.size, tree.root()) == (head.size, head.root)
        assert [text for text in asked if "log_entry" in text and "701" in text]
        assert sequencer.load_tree(conn, head).to_hashes() == tree.to_hashes()


@pytest.mark.parametrize("path", ["tile/0/002.p/189", "tile/1/000.p/2", "checkpoint"])
def test_tiles_that_do_not_fit_are_not_believed(small_log: SmallLog, path: str) -> None:
    loop = small_log.start()
    small_log.note_many(700)
    loop.sequence()
    loop.publish()
    disk = Disk(small_log.settings.log_dir)
    for data in (b"", bytes(len(disk.read(path)))):
        disk.write(path, data)
        with small_log.engine.connect() as conn:
            head = read_head(conn)
            assert sequencer.load_tree(conn, head, disk).root() == head.root
