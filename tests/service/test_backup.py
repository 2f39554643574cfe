"""Backup, loss, restore, as docs/runbooks/backup.md has it: old receipts verify, stations push on, fsck is clean."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from emdi.receipt import verify_receipt
from stackwitness.backup import make_backup, restore_backup
from stackwitness.db.embedded import Cluster
from stackwitness.db.engine import make_engine
from stackwitness.errors import Conflict
from stackwitness.log.disk import Disk
from stackwitness.log.fsck import fsck
from stackwitness.log.rebuild import open_source, rebuild
from stackwitness.settings import Settings
from tests.service.log_station import SmallStation
from tests.service.log_support import SmallLog, make_log

NAME = "restored_home"


@pytest.fixture
def log(settings: Settings, engine: sa.Engine) -> SmallLog:
    return make_log(settings, engine)


@pytest.fixture
def elsewhere(cluster: Cluster, template: str, tmp_path: Path, log: SmallLog) -> Iterator[Settings]:
    """Settings of another machine: an empty home, an empty database."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {NAME} TEMPLATE {template} STRATEGY FILE_COPY")
    url = cluster.url(NAME)
    yield log.settings.model_copy(
        update={"home": tmp_path / "elsewhere", "database_url": url, "owner_database_url": url}
    )
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def test_backup_loss_restore(log: SmallLog, elsewhere: Settings, tmp_path: Path) -> None:
    loop = log.start()
    station = SmallStation(log)
    station.register()
    station.push(30)
    station.review(station.raise_flag())
    loop.sequence()
    loop.publish()
    [early] = station.push(1)
    loop.sequence()
    loop.publish()
    receipt = log.reader.receipt(early.env_id)
    station.push(1)  # waits for the log in the backup, too
    lines = list(make_backup(log.settings, tmp_path / "backup"))
    assert [line.partition(":")[0] for line in lines] == ["signer", "keys", "db", "log"]
    with pytest.raises(Conflict):
        list(make_backup(log.settings, tmp_path / "backup"))

    # The log goes on after the backup; then the machine is lost, but for a mirror of the log.
    [late] = station.push(1)
    loop.sequence()
    loop.publish()
    late_receipt = log.reader.receipt(late.env_id)

    list(restore_backup(elsewhere, tmp_path / "backup"))
    with pytest.raises(Conflict):
        list(restore_backup(elsewhere, tmp_path / "backup"))
    engine = make_engine(elsewhere.database_url or "")
    restored = SmallLog(elsewhere, engine, log.service_key)
    report = fsck(engine, elsewhere.log_dir, log.policy, signer_dir=elsewhere.signer_dir)
    assert report.findings == []
    assert report.pending == 1

    signed = (elsewhere.signer_dir / "state").read_bytes().partition(b"\n\n")[2]
    with ExitStack() as stack:  # stackwitness rebuild --from-tiles MIRROR
        source = open_source(str(log.settings.log_dir), log.policy, signed, stack)
        with engine.connect() as conn:
            sizes = [row[0] for row in conn.exec_driver_sql("SELECT size FROM log_head")]
        source.verify(sizes, lambda *_: None)
        assert source.restore(Disk(elsewhere.log_dir))
        rebuild(engine, log.service_key, source, lambda *_: None)

    moved = replace(station, log=restored)
    moved.push(3)  # the chain goes on behind the envelope that the backup did not hold
    new_loop = restored.start()
    new_loop.sequence()
    new_loop.publish()
    for envelope, given in ((early, receipt), (late, late_receipt)):
        assert given is not None
        verify_receipt(given, envelope.jws, restored.policy)
        again = restored.reader.receipt(envelope.env_id)
        assert again is not None
        verify_receipt(again, envelope.jws, log.policy)
    report = fsck(engine, elsewhere.log_dir, log.policy, signer_dir=elsewhere.signer_dir)
    assert report.findings == []
    engine.dispose()
