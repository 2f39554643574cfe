"""The migrated database: append-only, migrated once, partitioned by month."""

import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from stackwitness.db import timescale
from stackwitness.db.embedded import Cluster
from stackwitness.db.migrate import current_revision, migrate, newest_revision
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import DatabaseUnavailable

APPEND_ONLY = [
    *("event", "station", "channel", "station_key", "key_revocation", "envelope", "quarantine", "flag"),
    *("flag_extension", "flag_lapse", "review", "export", "log_genesis", "log_entry", "log_head"),
]
GUARDS = "SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'append_only_row' AND tgrelid = :t ::regclass"
PARTITIONS = (
    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'reading'::regclass ORDER BY 1"
)


def test_migrating_again_or_at_once_changes_nothing(cluster: Cluster) -> None:
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute("CREATE DATABASE test_many_migrate")
    url, failures = cluster.url("test_many_migrate"), []

    def run() -> None:
        try:
            migrate(url)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:")).connect() as conn:
        assert current_revision(conn) == newest_revision() is not None


@pytest.mark.timescale
@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("verb", ["TRUNCATE {} CASCADE", "ROW"])
def test_evidence_tables_carry_their_guards(engine: sa.Engine, table: str, verb: str) -> None:
    with engine.connect() as conn:
        if verb == "ROW":
            guards = conn.scalars(sa.text(GUARDS), {"t": f'"{table}"'}).all()
            assert guards == ["A"]
        else:
            with pytest.raises(sa.exc.ProgrammingError, match="append-only"):
                conn.execute(sa.text(verb.format(f'"{table}"')))


@given(
    start=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),
    days=st.integers(0, 800),
)
def test_months_tile_the_interval(start: datetime, days: int) -> None:
    end = start + timedelta(days=days)
    months = list(timescale.months_between(start, end))
    assert months[0][0] <= start < months[0][1]
    assert months[-1][0] <= end < months[-1][1]
    assert all(left[1] == right[0] for left, right in pairwise(months))


def partition_names(engine: sa.Engine) -> list[str]:
    """List the partitions of `reading`."""
    with engine.connect() as conn:
        return list(conn.scalars(sa.text(PARTITIONS)))


def insert_reading(conn: sa.Connection, at: datetime) -> None:
    """Insert one reading at this time."""
    conn.execute(sa.text("INSERT INTO reading VALUES (:at, 1, 1, 1.5, 'N')"), {"at": at})


def test_a_back_fill_makes_its_months_and_a_roll_back_keeps_them(engine: sa.Engine) -> None:
    old, new = datetime(2019, 12, 31, 23, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC)
    with engine.connect() as conn:
        timescale.ensure_months(conn, old, new)
        conn.rollback()
    assert partition_names(engine) == ["reading_2019_12", "reading_2020_01", "reading_2020_02"]
    with unit_of_work(engine) as conn:
        timescale.ensure_months(conn, old, new)
        insert_reading(conn, old)
        insert_reading(conn, new)
        bucket = timescale.bucket(3600, "at")
        assert conn.scalars(sa.text(f"SELECT {bucket} FROM reading ORDER BY 1")).all() == [old, new]


def test_months_are_made_beside_a_writing_transaction_by_many_at_once(engine: sa.Engine) -> None:
    first, last = datetime(2021, 1, 5, tzinfo=UTC), datetime(2021, 12, 5, tzinfo=UTC)
    failures: list[Exception] = []

    def make() -> None:
        try:
            with unit_of_work(engine) as conn:
                timescale.ensure_months(conn, first, last)
        except Exception as error:
            failures.append(error)

    with unit_of_work(engine) as writer:
        timescale.ensure_months(writer, first, first)
        insert_reading(writer, first)
        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(partition_names(engine)) == 12


def test_a_reading_outside_every_month_is_refused_not_swallowed(engine: sa.Engine) -> None:
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as conn:
        insert_reading(conn, datetime(1999, 1, 1, tzinfo=UTC))


def test_an_absent_server_is_a_503_with_retry_after() -> None:
    absent = sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable) as caught, unit_of_work(absent):
        pass
    assert caught.value.status == 503
    assert caught.value.headers["Retry-After"] == "1"
