"""The same migrations on TimescaleDB: a hypertable with a columnstore that still takes back-fill."""

import os
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from stackwitness.db import timescale
from stackwitness.db.unit import unit_of_work
from tests.support.database import TEST_URL

pytestmark = [
    pytest.mark.timescale,
    pytest.mark.skipif(TEST_URL not in os.environ, reason="needs a TimescaleDB: make test-timescale"),
]
START = datetime(2024, 1, 1, tzinfo=UTC)


def insert_readings(engine: sa.Engine, envelope_no: int, hours: int) -> None:
    """Insert hourly readings of one channel from START."""
    statement = sa.text(
        "INSERT INTO reading SELECT :start + n * INTERVAL '1 hour', 1, :no, n, 'N'"
        " FROM generate_series(0, :last) n"
    )
    with unit_of_work(engine) as conn:
        timescale.ensure_months(conn, START, START + timedelta(hours=hours - 1))
        conn.execute(statement, {"start": START, "no": envelope_no, "last": hours - 1})


def test_readings_are_a_hypertable_in_monthly_chunks(engine: sa.Engine) -> None:
    insert_readings(engine, 1, 24 * 70)
    with engine.connect() as conn:
        assert not timescale.is_native(engine, conn)
        chunks = conn.scalar(sa.text("SELECT count(*) FROM timescaledb_information.chunks"))
        assert chunks is not None
        assert 3 <= chunks <= 4
        bucket = timescale.bucket(86_400, "at")
        days = conn.scalars(sa.text(f"SELECT count(*) FROM reading GROUP BY {bucket}")).all()
        assert days == [24] * 70


def test_compressed_chunks_answer_alike_and_take_back_fill(engine: sa.Engine) -> None:
    insert_readings(engine, 1, 24 * 40)
    query = sa.text("SELECT at, value, envelope_no FROM reading ORDER BY at, envelope_no")
    with engine.connect() as conn:
        before = conn.execute(query).all()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        policy = "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = 'reading'"
        conn.execute(sa.text(f"CALL run_job({conn.scalar(sa.text(policy))})"))
    with engine.connect() as conn:
        compressed = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"
        assert conn.scalar(sa.text(compressed)) == 2
        assert conn.execute(query).all() == before
    insert_readings(engine, 2, 24)
    with engine.connect() as conn:
        assert len(conn.execute(query).all()) == len(before) + 24


def test_the_same_reading_twice_is_refused(engine: sa.Engine) -> None:
    insert_readings(engine, 1, 1)
    with pytest.raises(sa.exc.IntegrityError):
        insert_readings(engine, 1, 1)
