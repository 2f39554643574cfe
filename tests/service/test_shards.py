"""A frozen log takes nothing more; its successor commits to it, and the stations go on without a break."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from emdi.errors import HeadError
from emdi.head import parse_head
from emdi.keys import LocalKey
from emdi.shard import Previous, chains_of, parse_previous
from stackwitness.db.embedded import Cluster
from stackwitness.db.engine import make_engine
from stackwitness.errors import Conflict
from stackwitness.log.freezing import next_origin
from stackwitness.log.fsck import fsck
from stackwitness.log.genesis import parse_genesis
from stackwitness.log.rebuild.successor import seed_successor
from stackwitness.log.shards import Final, find_freeze, freeze, read_final
from stackwitness.settings import Settings
from tests.service.log_station import SmallStation
from tests.service.log_support import SmallLog, make_log


@pytest.fixture
def old(settings: Settings, engine: sa.Engine) -> SmallLog:
    return make_log(settings, engine)


@contextmanager
def successor(cluster: Cluster, template: str, home: Path) -> Iterator[SmallLog]:
    """Give an empty log with a database of its own, named by its home's folder."""
    name = f"shard_{home.name}"
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    engine = make_engine(cluster.url(name))
    settings = Settings(
        mode="test",
        home=home,
        database_url=cluster.url(name),
        log_origin=f"stackwitness.local/log/dev/{home.name}",
        key_approvals=1,
    )
    log = make_log(settings, engine)
    yield SmallLog(log.settings, log.engine, LocalKey.from_seed(b"t" * 32, "service-1"))
    engine.dispose()
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def new(cluster: Cluster, template: str, tmp_path: Path) -> Iterator[SmallLog]:
    with successor(cluster, template, tmp_path / "next") as log:
        yield log


@pytest.fixture
def third(cluster: Cluster, template: str, tmp_path: Path) -> Iterator[SmallLog]:
    with successor(cluster, template, tmp_path / "third") as log:
        yield log


def end(log: SmallLog) -> Final:
    loop = log.start()
    event_id = freeze(log.engine, log.disk, log.service_key, successor_origin="next", why="end of the year")
    loop.sequence()
    loop.publish()
    assert find_freeze(log.engine) == event_id
    return read_final(log.engine, log.reader, event_id, 1.0)


def read_end(log: SmallLog) -> tuple[Previous, bytes]:
    final = end(log)
    return final.previous, final.head


def channels_of(log: SmallLog, stn: str) -> dict[str, int]:
    with log.engine.connect() as conn:
        rows = conn.execute(sa.text("SELECT name, channel_no FROM channel WHERE stn = :stn"), {"stn": stn})
        return {row.name: row.channel_no for row in rows}


def test_nothing_is_queued_behind_the_freeze(old: SmallLog) -> None:
    loop = old.start()
    station = SmallStation(old)
    station.register()
    station.push(2)
    loop.sequence()
    station.push(1)  # waits, and comes before the freeze
    final = end(old)
    with pytest.raises(sa.exc.DBAPIError, match="frozen"):
        station.push(1)
    with pytest.raises(sa.exc.DBAPIError, match="frozen"):
        old.note()
    with pytest.raises(Conflict):
        freeze(old.engine, old.disk, old.service_key, successor_origin="next", why="twice")
    tiles = old.reader.tiles()
    last = tiles.entry(tiles.size - 1)
    assert b"log.freeze" in __import__("base64").urlsafe_b64decode(last[13:].split(b".")[1] + b"==")
    assert final.previous.size == tiles.size
    assert not fsck(old.engine, old.settings.log_dir, old.policy).findings


def test_stations_go_on_in_the_successor(old: SmallLog, new: SmallLog) -> None:
    loop = old.start()
    station, silent = SmallStation(old), SmallStation(old, "S2", LocalKey.from_seed(b"2" * 32, "k2"))
    for each in (station, silent):
        each.register()
        each.push(3)
    station.review(station.raise_flag())
    loop.sequence()
    final = end(old)
    stated = seed_successor(old.engine, new.engine, new.service_key, final, new.settings.log_dir)
    assert stated["station.register"] == stated["key.register"] == 2

    new_loop = new.start()
    new_loop.sequence()
    replace(station, log=new, channels=channels_of(new, "S1")).push(4)
    new_loop.sequence()
    new_loop.publish()
    genesis = parse_genesis(new.reader.tiles().entry(0)[13:])
    assert parse_previous(genesis.previous) == final.previous
    assert (new.settings.log_dir / "previous/head").read_bytes() == final.head
    report = fsck(new.engine, new.settings.log_dir, new.policy, signer_dir=new.settings.signer_dir)
    assert report.findings == []
    assert (report.envelopes, report.readings) == (4, 8)
    with pytest.raises(Conflict):
        seed_successor(old.engine, new.engine, new.service_key, final, new.settings.log_dir)


def test_a_station_silent_for_a_year_is_not_forgotten(old: SmallLog, new: SmallLog, third: SmallLog) -> None:
    """It sends in the first log, is silent in the second, and its chain goes on in the third."""
    loop = old.start()
    talking, silent = SmallStation(old), SmallStation(old, "S2", LocalKey.from_seed(b"2" * 32, "k2"))
    for each in (talking, silent):
        each.register()
        each.push(3)
    loop.sequence()
    first = end(old)
    seed_successor(old.engine, new.engine, new.service_key, first, new.settings.log_dir)
    loop = new.start()
    loop.sequence()
    replace(talking, log=new, channels=channels_of(new, "S1")).push(2)
    loop.sequence()
    second = end(new)
    chains = chains_of(second.previous, second.head)
    assert {stn: (head.seq, head.env_id == silent.prev) for stn, head in chains.items()} == {
        "S1": (4, False),
        "S2": (2, True),
    }
    seed_successor(new.engine, third.engine, third.service_key, second, third.settings.log_dir)
    loop = third.start()
    loop.sequence()
    replace(silent, log=third, channels=channels_of(third, "S2")).push(1)
    loop.sequence()
    loop.publish()
    for log in (new, third):
        assert fsck(log.engine, log.settings.log_dir, log.policy).findings == []
    assert set(chains_of(*read_end(third))) == {"S1", "S2"}


def test_a_successor_whose_chains_start_elsewhere_is_named(old: SmallLog, new: SmallLog) -> None:
    loop = old.start()
    station = SmallStation(old)
    station.register()
    station.push(3)
    loop.sequence()
    final = end(old)
    seed_successor(old.engine, new.engine, new.service_key, final, new.settings.log_dir)
    new_loop = new.start()
    new_loop.sequence()
    new_loop.publish()
    with new.engine.begin() as conn:
        conn.execute(sa.text("ALTER TABLE log_previous DISABLE TRIGGER USER"))
        conn.execute(
            sa.text("UPDATE log_previous SET head = replace(encode(head, 'escape'), ' 2 ', ' 1 ')::bytea")
        )
    codes = {finding.code for finding in fsck(new.engine, new.settings.log_dir, new.policy).findings}
    assert "log_previous.edited" in codes


@pytest.mark.parametrize(
    "change",
    [
        {"origin": ""},
        {"origin": None},
        {"size": 0},
        {"size": True},
        {"size": "5"},
        {"root_b64u": "AA"},
        {"root_b64u": 5},
        {"head_root_b64u": "A" * 44},
        {"more": 1},
    ],
)
def test_a_malformed_commitment_is_refused(change: dict[str, object]) -> None:
    members = Previous("o", 5, bytes(32), bytes(32)).members()
    assert parse_previous(members) == Previous("o", 5, bytes(32), bytes(32))
    with pytest.raises(HeadError, match="previous"):
        parse_previous(members | change)


def test_lines_that_leaf_0_does_not_commit_to_are_refused() -> None:
    head = b"station S1 0 2 " + b"ab" * 32 + b"\n"
    with pytest.raises(HeadError, match="commits"):
        chains_of(Previous("o", 5, bytes(32), bytes(32)), head)
    assert parse_head(head)


def test_the_next_origin_is_a_year_later() -> None:
    assert next_origin("emdi.example/log/2026") == "emdi.example/log/2027"
    with pytest.raises(Conflict):
        next_origin("stackwitness.local/log/dev")
