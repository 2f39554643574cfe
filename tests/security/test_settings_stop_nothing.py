"""What somebody puts on the database or on the login stops no command of ours; where it must, the command names it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from stackwitness.cli.opening import naming_causes
from stackwitness.db.embedded import Cluster
from stackwitness.db.session import connect, name_defaults
from stackwitness.detection.tasks import make_app
from stackwitness.errors import DatabaseUnavailable
from stackwitness.settings import Settings
from tests.security.test_command_line import run
from tests.service.log_station import SmallStation
from tests.service.log_support import SmallLog, make_log

PUT = (
    "statement_timeout = '1ms'",
    "lock_timeout = '1ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "idle_session_timeout = '1ms'",
    "transaction_timeout = '1ms'",
    "default_transaction_read_only = on",
    "default_transaction_deferrable = on",
    "search_path = 'pg_temp'",
    "default_transaction_isolation = 'serializable'",
)


@contextmanager
def put(engine: sa.Engine, place: str, *settings: str) -> Iterator[None]:
    """Put settings on the database or the login; sessions opened from now on meet them."""
    with connect(engine.url.set(drivername="postgresql").render_as_string(False), autocommit=True) as conn:
        for setting in settings:
            conn.execute(f"ALTER {place} SET {setting}".encode())
        engine.dispose()
        try:
            yield
        finally:
            conn.execute(f"ALTER {place} RESET ALL".encode())
            engine.dispose()


@pytest.fixture
def log(cluster: Cluster, settings: Settings, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> SmallLog:
    log = make_log(settings, engine)
    loop = log.start()
    station = SmallStation(log)
    station.register()
    station.push(5)
    loop.sequence()
    loop.publish()
    monkeypatch.setenv("STACKWITNESS_HOME", str(settings.home))
    monkeypatch.setenv("STACKWITNESS_DATABASE_URL", settings.database_url or "")
    return log


@pytest.mark.parametrize(
    "place", ["DATABASE {database}", "ROLE {username}", "ROLE {username} IN DATABASE {database}"]
)
def test_no_command_is_stopped(log: SmallLog, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = log.engine.url
    place = place.format(database=url.database, username=url.username)
    with put(log.engine, place, *PUT):
        address = url.set(drivername="postgresql").render_as_string(False)
        assert len(name_defaults(address)) == len(PUT)
        assert run(monkeypatch, "fsck") == 0
        (log.settings.home / "policy").write_text(f"log {log.vkey}\nquorum none\n")
        assert run(monkeypatch, "rebuild", "--policy", str(log.settings.home / "policy")) == 0
        loop = log.start()
        log.note()
        loop.sequence()
        loop.publish()
        assert run(monkeypatch, "fsck") == 0


def test_the_worker_is_not_stopped(log: SmallLog) -> None:
    async def ask() -> list[str]:
        async with make_app(log.settings.database_url or "").open_async() as app:
            query = "SELECT current_setting('{}') AS value"
            names = [setting.split(" ")[0] for setting in PUT]
            rows = [await app.connector.execute_query_one_async(query.format(name)) for name in names]
            return [row["value"] for row in rows]

    # A pool lifts this one in its first transaction: on a busy machine a millisecond is over before.
    slower = [setting for setting in PUT if not setting.startswith("transaction_timeout")]
    with put(log.engine, f"DATABASE {log.engine.url.database}", *slower, "transaction_timeout = '2s'"):
        assert set(asyncio.run(ask())) == {"0", "off", "public", "read committed"}


def test_what_stops_a_command_all_the_same_is_named(
    log: SmallLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = log.engine.url.database
    cleared = rf"temp_file_limit = '0' \(a superuser or the owner clears it: ALTER DATABASE {name} RESET temp_file_limit\)"
    with (
        put(log.engine, f"DATABASE {name}", "temp_file_limit = 0", "work_mem = '64kB'"),
        pytest.raises(DatabaseUnavailable, match=f"temporary file size exceeds .*{cleared}"),
        naming_causes(str(log.settings.database_url)),
        log.engine.begin() as conn,
    ):
        conn.execute(
            sa.text("SELECT count(*) FROM (SELECT i FROM generate_series(1, 100000) i ORDER BY -i) s")
        )
    with put(log.engine, f"DATABASE {name}", "session_preload_libraries = 'nowhere'"):
        assert run(monkeypatch, "fsck") == 3
    assert 'could not access file "nowhere"' in capsys.readouterr().err


def test_the_tables_of_another_version_are_named(
    log: SmallLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with log.engine.begin() as conn:
        conn.execute(sa.text("UPDATE alembic_version SET version_num = '0012'"))
    # The number alone keeps no checker from looking: whoever edits it would like that.
    assert run(monkeypatch, "fsck") == 0
    with log.engine.begin() as conn:
        conn.execute(sa.text("DROP TABLE flag_lapse CASCADE"))
    assert run(monkeypatch, "fsck") == 3
    said = capsys.readouterr().err
    assert (
        "The database stands at revision 0012, this version at 0014: run `stackwitness migrate` or `up`"
        in said
    )
