"""A lost or edited database is made again from the published bundles, byte for byte, and each row is named."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from emdi.errors import NoteError
from emdi.event import parse_event
from emdi.policy import Policy, parse_policy
from stackwitness.db.engine import make_engine
from stackwitness.log.disk import Disk
from stackwitness.log.errors import LogCorrupt
from stackwitness.log.fsck import fsck
from stackwitness.log.rebuild import Rebuilt, open_source, rebuild
from stackwitness.log.sequencer import read_head
from stackwitness.log.service_keys import open_service_key, read_spans
from stackwitness.log.service_rotation import declare_compromise, rotate_service_key
from stackwitness.settings import Settings
from tests.service.log_station import SmallStation
from tests.service.log_support import SmallLog, all_files, make_log

EVIDENCE = [
    "log_genesis",
    "event",
    "envelope",
    "quarantine",
    "log_entry",
    "log_head",
    "station",
    "channel",
    "station_key",
    "key_revocation",
    "flag",
    "flag_extension",
    "flag_lapse",
    "review",
    "reading",
    "station_head",
    "subject_head",
]
# What the log cannot give back, so a dump is compared without it.
UNCARRIED = {
    "flag": ["plot"],
    "review": ["reason", "salt"],
    "log_head": ["at"],
}


@pytest.fixture
def log(settings: Settings, engine: sa.Engine) -> SmallLog:
    log = make_log(settings, engine)
    loop = log.start()
    station = SmallStation(log)
    station.register()
    station.push(300)
    loop.sequence()
    flag_id = station.raise_flag()
    station.review(flag_id)
    loop.sequence()
    loop.publish()
    return log


def restore(log: SmallLog, place: str | None = None, policy: Policy | None = None) -> Rebuilt:
    signed = (log.settings.signer_dir / "state").read_bytes().partition(b"\n\n")[2]
    with ExitStack() as stack:
        source = open_source(place or str(log.settings.log_dir), policy or log.policy, signed, stack)
        with log.engine.connect() as conn:
            sizes = [row[0] for row in conn.exec_driver_sql("SELECT size FROM log_head")]
        source.verify(sizes, lambda *_: None)
        source.restore(Disk(log.settings.log_dir))
        return rebuild(log.engine, log.service_key, source, lambda *_: None)


def dump(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    tables = {}
    with engine.connect() as conn:
        for table in EVIDENCE:
            rows = conn.execute(sa.text(f"SELECT * FROM {table}")).mappings().all()
            left_out = UNCARRIED.get(table, [])
            tables[table] = sorted(
                tuple(str(value) for name, value in row.items() if name not in left_out) for row in rows
            )
    return tables


def lose(engine: sa.Engine, tables: list[str] = EVIDENCE) -> None:
    with engine.begin() as conn:
        conn.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for table in tables:
            if table not in ("reading", "station_head", "subject_head"):
                conn.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            conn.execute(sa.text(f"DELETE FROM {table}"))
        conn.execute(sa.text("ALTER TABLE channel ALTER COLUMN channel_no RESTART"))
        for table in tables:
            if table not in ("reading", "station_head", "subject_head"):
                conn.execute(sa.text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))


def edit(engine: sa.Engine, *statements: str, guarded: tuple[str, ...] = ()) -> None:
    guarded = (*EVIDENCE[:14], *guarded)
    with engine.begin() as conn:
        conn.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for table in guarded:
            conn.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        for statement in statements:
            assert conn.execute(sa.text(statement)).rowcount > 0
        for table in guarded:
            conn.execute(sa.text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))
            for guard in ("append_only_row", "append_only_table"):
                conn.execute(sa.text(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {guard}"))


def without_rebuild_event(tables: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """The event that seals the rebuild is the only new thing."""
    kept = {name: list(rows) for name, rows in tables.items()}
    kept["event"] = [row for row in kept["event"] if "projection.rebuild" not in row]
    kept["subject_head"] = [row for row in kept["subject_head"] if row[0] != "log"]
    return kept


def heads_but_the_last(rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    return max(rows, key=lambda row: int(row[0]))


def test_a_lost_database_is_restored_byte_for_byte(log: SmallLog) -> None:
    before = dump(log.engine)
    lose(log.engine)
    done = restore(log)
    after = without_rebuild_event(dump(log.engine))
    last = heads_but_the_last(before.pop("log_head")), heads_but_the_last(after.pop("log_head"))
    assert (last[0][0], last[0][2]) == (last[1][0], last[1][2])
    assert after == without_rebuild_event(before)
    assert done.tables["envelope"] == 300
    assert done.tables["reading"] == 600
    assert {line.split(" ")[0] for line in done.lost} == {"flag", "review"}


def test_the_log_goes_on_after_a_loss_from_where_the_signer_stands(log: SmallLog) -> None:
    size = log.reader.snapshot().size
    lose(log.engine, [table for table in EVIDENCE if table not in ("flag", "review")])
    restore(log)
    loop = log.start()
    assert loop.sequence() == 1
    assert loop.publish().size == size + 1
    report = fsck(log.engine, log.settings.log_dir, log.policy, signer_dir=log.settings.signer_dir)
    named = {finding.code for finding in report.findings}
    assert named <= {"guard.changed"}, report.findings[:5]


@pytest.mark.parametrize(
    "statement", ["DELETE FROM service_key", "UPDATE service_key SET public_key = sha256('x')", ""]
)
def test_the_key_that_signs_events_comes_back_and_signs_on(log: SmallLog, statement: str) -> None:
    assert rotate_service_key(log.engine, log.service_key, act="operator-1") == "service-2"
    declare_compromise(log.engine, log.service_key, "service-1", 250, "stolen", act="operator-1")
    loop = log.start()
    assert loop.sequence() == 2
    loop.publish()
    tables = ["service_key", "explanation"]
    with log.engine.connect() as conn:
        keys, spans = (
            conn.execute(sa.text("SELECT * FROM service_key")).all(),
            read_spans(conn, log.service_key),
        )
    if statement:
        edit(log.engine, statement, guarded=("service_key",))
    else:
        lose(log.engine, [*EVIDENCE, *tables])
    done = restore(replace(log, service_key=open_service_key(log.settings.key_dir)))
    assert ("service_key", 1) in done.tables.items(), done.tables
    assert {finding.code for finding in done.report.findings if finding.table == "service_key"} <= {
        "service_key.missing",
        "service_key.edited",
    }
    with log.engine.connect() as conn:
        assert conn.execute(sa.text("SELECT * FROM service_key")).all() == keys
        assert read_spans(conn, log.service_key) == spans
        sealed = conn.scalar(sa.text("SELECT jws FROM event WHERE typ = 'projection.rebuild'"))
    assert (parse_event(bytes(sealed)).kid, spans[0].suspect_from_idx) == ("service-2", 250)
    loop = log.start()
    assert rotate_service_key(log.engine, log.service_key, act="operator-1") == "service-3"
    loop.sequence()
    loop.publish()
    report = fsck(log.engine, log.settings.log_dir, log.policy, signer_dir=log.settings.signer_dir)
    named = {finding.table for finding in report.findings}  # words that only a backup knows
    assert named <= {"flag", "review", "explanation", "guard"}, report.findings[:5]


def test_nothing_is_written_where_nothing_differs(log: SmallLog) -> None:
    before = dump(log.engine)
    done = restore(log)
    assert (done.rows, done.report.findings) == (0, [])
    assert dump(log.engine) == before


@pytest.mark.parametrize(
    ("statement", "table", "key"),
    [
        ("UPDATE reading SET value = 1 WHERE envelope_no = 17 AND value > 100", "reading", "S1/0/16 flow"),
        ("DELETE FROM reading WHERE envelope_no = 20", "reading", "S1/0/19"),
        ("UPDATE envelope SET jws = set_byte(jws, 90, 65), seq = 900 WHERE seq = 17", "envelope", ""),
        ("UPDATE envelope SET env_id = sha256('x') WHERE seq = 18", "envelope", ""),
        ("DELETE FROM envelope WHERE seq = 30", "envelope", ""),
        ("DELETE FROM event WHERE typ = 'flag.raised'", "event", ""),
        ("UPDATE event SET typ = 'flag.closed' WHERE typ = 'flag.raised'", "event", ""),
        ("UPDATE flag SET verdict = 'unusual'", "flag", "S1-"),
        ("UPDATE channel SET limit_value = 350", "channel", "S1 SO2"),
        ("UPDATE station_key SET public_key = sha256('x')", "station_key", "k1"),
        ("UPDATE log_entry SET leaf = sha256('x') WHERE idx = 40", "log_entry", "40"),
        ("DELETE FROM log_entry WHERE idx = 41", "log_entry", "41"),
        ("UPDATE log_head SET root = sha256('x')", "log_head", ""),
        ("UPDATE station_head SET seq = 5", "station_head", "S1"),
        ("UPDATE subject_head SET sseq = 9 WHERE subj <> 'log'", "subject_head", "station:S1"),
        ("UPDATE log_genesis SET body = 'x'", "log_genesis", ""),
    ],
)
def test_an_edited_row_is_named_and_only_it_is_put_right(
    log: SmallLog, statement: str, table: str, key: str
) -> None:
    before = dump(log.engine)
    edit(log.engine, statement)
    done = restore(log)
    assert [f for f in done.report.findings if f.table == table and f.key.startswith(key)], (
        done.report.findings
    )
    after = without_rebuild_event(dump(log.engine))
    if table in ("log_entry", "envelope", "log_head"):  # numbers of this database are given anew
        after, before = comparable(after), comparable(before)
    assert after == without_rebuild_event(before)


def comparable(tables: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    kept = dict(tables)
    kept["log_entry"] = [row[:5] for row in tables["log_entry"]]
    kept["envelope"] = sorted(row[1:] for row in tables["envelope"])
    kept["reading"] = sorted(row[:2] + row[3:] for row in tables["reading"])
    kept["log_head"] = [row for row in tables["log_head"] if row[0] == max(r[0] for r in tables["log_head"])]
    kept["log_head"] = [(row[0], row[2]) for row in kept["log_head"]]
    return kept


def test_a_database_behind_the_signer_is_repaired_and_what_waits_stays_in_line(log: SmallLog) -> None:
    size = log.reader.snapshot().size
    with log.engine.connect() as conn:
        head = read_head(conn)
    edit(
        log.engine,
        "DELETE FROM review",
        "DELETE FROM log_entry WHERE idx >= 250",
        "DELETE FROM envelope WHERE seq >= 240",
    )
    with log.engine.begin() as conn:
        conn.execute(
            sa.text("ALTER TABLE log_head DISABLE TRIGGER USER; DELETE FROM log_head WHERE size > 250")
        )
        conn.execute(sa.text("ALTER TABLE log_head ENABLE ALWAYS TRIGGER append_only_row"))
    log.note(2, "waiting")
    restore(log)
    with log.engine.connect() as conn:
        assert read_head(conn) == head
    loop = log.start()
    assert loop.sequence() == 3
    assert loop.publish().size == size + 3


def test_entries_behind_the_published_log_keep_their_places_or_are_queued_again(log: SmallLog) -> None:
    loop = log.start()
    log.note(3, "tail")
    loop.sequence()  # and then it died: sequenced, never published
    assert restore(log).rows == 0
    edit(log.engine, f"UPDATE log_entry SET leaf = sha256('x') WHERE idx = {log.reader.snapshot().size}")
    restore(log)
    loop = log.start()
    assert loop.sequence() == 3
    loop.publish()
    assert not [f for f in fsck(log.engine, log.settings.log_dir, log.policy).findings if f.table != "guard"]


@pytest.mark.parametrize("spoil", ["bundle", "truncate", "checkpoint"])
def test_a_source_that_does_not_verify_changes_nothing(log: SmallLog, spoil: str, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    shutil.copytree(log.settings.log_dir, mirror)
    disk = Disk(mirror)
    spoilers: dict[str, Callable[[], None]] = {
        "bundle": lambda: disk.write("tile/entries/000", disk.read("tile/entries/000")[:-1] + b"x"),
        "truncate": lambda: (mirror / "tile/entries/000").unlink(),
        "checkpoint": lambda: disk.write("checkpoint", disk.read("checkpoint").replace(b"\n3", b"\n2")),
    }
    spoilers[spoil]()
    before = dump(log.engine)
    with pytest.raises((LogCorrupt, NoteError)):
        restore(log, str(mirror))
    assert dump(log.engine) == before


def test_a_lost_log_folder_is_written_again_from_a_mirror(log: SmallLog, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    shutil.copytree(log.settings.log_dir, mirror)
    shutil.rmtree(log.settings.log_dir)
    lose(log.engine)
    policy_log = make_log(log.settings, log.engine)
    signed = (log.settings.signer_dir / "state").read_bytes().partition(b"\n\n")[2]
    assert signed
    restore(policy_log, str(mirror))
    assert all_files(log.settings.log_dir) == all_files(mirror)


def test_killed_in_the_middle_nothing_has_happened_and_it_is_run_again(log: SmallLog) -> None:
    edit(log.engine, "UPDATE reading SET value = 1", "DELETE FROM event WHERE typ = 'flag.raised'")
    before = dump(log.engine)
    for step in ("Reading entries", "Comparing readings"):
        arguments = (log.settings.model_dump(), log.vkey, step)
        process = multiprocessing.get_context("fork").Process(target=rebuild_until, args=arguments)
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert dump(log.engine) == before
    restore(log)
    assert restore(log).rows == 0


def rebuild_until(members: dict[str, Any], vkey: str, step: str) -> None:
    """Rebuild in a process of its own, and die without a word at this step."""
    settings = Settings(**members)
    engine = make_engine(settings.database_url or "")
    log = make_log(settings, engine)
    policy = parse_policy(f"log {vkey}\nquorum none\n")
    with ExitStack() as stack:
        source = open_source(str(settings.log_dir), policy, b"", stack)
        source.verify([], lambda *_: None)

        def progress(what: str, count: int, total: int) -> None:
            if what == step:
                os.kill(os.getpid(), signal.SIGKILL)

        rebuild(engine, log.service_key, source, progress)
