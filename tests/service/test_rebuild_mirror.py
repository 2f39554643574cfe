"""Database and disk are lost, a monitor elsewhere still serves its mirror: the log comes back from there, byte for byte."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from emdi.keys import LocalKey
from emdi.policy import format_policy
from stackwitness.db.embedded import Cluster
from stackwitness.ingest import queries as ingest
from stackwitness.log.disk import Disk
from stackwitness.log.fsck import fsck
from stackwitness.log.heads import make_head
from stackwitness.log.rebuild.command import run_rebuild
from stackwitness.log.rebuild.successor import seed_successor
from stackwitness.log.signer import LogSigner
from stackwitness.settings import Settings
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor import Monitor
from stackwitness_client.monitor.serving import serving
from tests.service.log_station import SmallStation
from tests.service.log_support import SmallLog, all_files, make_log
from tests.service.test_rebuild import dump, heads_but_the_last, without_rebuild_event
from tests.service.test_shards import channels_of, end, successor
from tests.support.static_log import static_log

TEXTS = {"account", "flag", "review", "explanation"}  # the log holds the hash of what they say
CARRIED = {"log_entry": "idx, kind, entry_id, recv_ms, leaf", "station_head": "stn, ep, seq, env_id"}


@contextmanager
def mirrored(log: SmallLog, folder: Path) -> Iterator[str]:
    """Let a monitor follow the log over HTTP to its end; then nothing is left but what the monitor serves."""
    home = log.settings.home
    with static_log(home, None) as site:  # type: ignore[arg-type]
        link = ServerLink(site.url)
        monitor = Monitor(folder, link, log.policy)
        turn = monitor.turn()
        assert (turn.raised, turn.size) == ([], log.reader.snapshot().size), turn
        link.close()
    try:
        with serving(monitor, 0) as port:
            yield f"http://127.0.0.1:{port}"
    finally:
        monitor.close()


def work(log: SmallLog, station: SmallStation) -> None:
    """Fill more than a tile, with flags, a decision, a key that ends, and the heads of two sizes."""
    loop = log.start()
    loop.sequence()
    station.push(270)
    station.review(station.raise_flag())
    loop.sequence()
    for _ in range(2):
        size = loop.publish().size
        make_head(log.engine, Disk(log.settings.log_dir), log.service_key, size)
        loop.sequence()
    loop.publish()


def restored(log: SmallLog, empty: SmallLog, url: str, tmp_path: Path) -> SmallLog:
    """Follow docs/runbooks/backup.md: keys from their copies, everything else from the mirror."""
    home = tmp_path / "elsewhere"
    settings = empty.settings.model_copy(update={"home": home, "log_origin": log.settings.log_origin})
    shutil.copytree(log.settings.key_dir, settings.key_dir)
    settings.signer_dir.mkdir(parents=True)
    shutil.copyfile(log.settings.signer_dir / "log.key", settings.signer_dir / "log.key")
    policy = tmp_path / "policy.txt"
    policy.write_bytes(format_policy(log.policy).encode())
    made = SmallLog(settings, empty.engine, log.service_key)
    assert run_rebuild(empty.engine, settings, log.service_key, url, policy) == 2
    return made


def check(old: SmallLog, new: SmallLog, station: SmallStation, *, shard_before: bool = False) -> None:
    before, after = dump(old.engine), without_rebuild_event(dump(new.engine))
    last = heads_but_the_last(before.pop("log_head")), heads_but_the_last(after.pop("log_head"))
    assert (last[0][0], last[0][2]) == (last[1][0], last[1][2])
    wanted = without_rebuild_event(before)
    if (
        shard_before
    ):  # log_entry.qid is given anew, station_head.last_at of the silent stands in the log before
        for tables, engine in ((wanted, old.engine), (after, new.engine)):
            with engine.connect() as conn:
                for table, columns in CARRIED.items():
                    rows = conn.execute(sa.text(f"SELECT {columns} FROM {table} ORDER BY 1")).all()
                    tables[table] = [tuple(map(str, row)) for row in rows]
    assert after == wanted
    written, there = all_files(new.settings.log_dir), all_files(old.settings.log_dir)
    assert written.items() <= there.items()
    assert all(".p/" in name for name in there.keys() - written.keys())  # of sizes that were passed
    assert {"checkpoint"} | {
        name for name in there if name.startswith(("heads/", "previous/"))
    } <= written.keys()
    today = datetime.now(UTC).date()  # `stackwitness signer --init`
    LogSigner.open(
        Disk(new.settings.signer_dir), Disk(new.settings.log_dir), new.settings.log_origin, init=today
    )
    loop = new.start()
    replace(station, log=new, channels=channels_of(new, station.stn)).push(3)
    loop.sequence()
    loop.publish()
    report = fsck(new.engine, new.settings.log_dir, old.policy, signer_dir=new.settings.signer_dir)
    assert {finding.table for finding in report.findings} <= TEXTS, report.findings


@pytest.fixture
def empty(cluster: Cluster, template: str, tmp_path: Path) -> Iterator[SmallLog]:
    with successor(cluster, template, tmp_path / "empty") as log:
        yield log


def test_a_lost_log_comes_back_from_a_monitors_mirror(
    settings: Settings, engine: sa.Engine, empty: SmallLog, tmp_path: Path
) -> None:
    log = make_log(settings, engine)
    log.start()
    station = SmallStation(log)
    station.register()
    work(log, station)
    with mirrored(log, tmp_path / "monitor") as url:
        check(log, restored(log, empty, url, tmp_path), station)


def test_so_does_a_successor_with_a_station_silent_in_it(
    settings: Settings, engine: sa.Engine, empty: SmallLog, cluster: Cluster, template: str, tmp_path: Path
) -> None:
    first = make_log(settings, engine)
    first.start()
    station, silent = SmallStation(first), SmallStation(first, "S2", LocalKey.from_seed(b"2" * 32, "k2"))
    for each in (station, silent):
        each.register()
        each.push(2)
    first.start().sequence()
    final = end(first)
    with successor(cluster, template, tmp_path / "second") as log:
        seed_successor(first.engine, log.engine, log.service_key, final, log.settings.log_dir)
        log.start()
        station = replace(station, log=log, channels=channels_of(log, "S1"))
        work(log, station)
        with mirrored(log, tmp_path / "monitor") as url:
            again = restored(log, empty, url, tmp_path)
            with again.engine.connect() as conn:
                last_at = {stn: at for stn, (_, at) in ingest.list_heads(conn).items()}
            assert (last_at["S1"] is None, last_at["S2"]) == (False, None)  # not known is not 1970
            check(log, again, replace(silent, log=log), shard_before=True)
