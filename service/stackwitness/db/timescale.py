"""Where readings live: a TimescaleDB hypertable, or native partitions by month where the extension is absent.

The only file that names TimescaleDB functions.
"""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, text

from stackwitness.db.locks import PARTITION_LOCK

COMPRESS_AFTER = "3 months"
MAX_YEAR = 9999

_lock = threading.Lock()
_native: WeakKeyDictionary[Engine, bool] = WeakKeyDictionary()
_known: WeakKeyDictionary[Engine, set[str]] = WeakKeyDictionary()


def timescale_ready(conn: Connection) -> bool:
    """Tell whether TimescaleDB is installed here, or can be (its library is preloaded)."""
    return bool(
        conn.scalar(
            text(
                "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"
                " OR (EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')"
                " AND current_setting('shared_preload_libraries') LIKE '%timescaledb%')"
            )
        )
    )


def prepare_readings(conn: Connection, sql_dir: Path) -> None:
    """Create the table `reading` (0001_readings.sql): hypertable with columnstore, or range-partitioned."""
    timescale = timescale_ready(conn)
    template = (sql_dir / "0001_readings.sql").read_text(encoding="utf-8")
    run_script(conn, template.replace("{partitioning}", "" if timescale else "PARTITION BY RANGE (at)"))
    if timescale:
        run_script(conn, "CREATE EXTENSION IF NOT EXISTS timescaledb")
        run_script(
            conn,
            "SELECT create_hypertable('reading', by_range('at', INTERVAL '1 month'),"
            " create_default_indexes => false)",
        )
        run_script(
            conn,
            "ALTER TABLE reading SET (timescaledb.enable_columnstore,"
            " timescaledb.segmentby = 'channel_no', timescaledb.orderby = 'at, envelope_no')",
        )
        run_script(conn, f"CALL add_columnstore_policy('reading', after => INTERVAL '{COMPRESS_AFTER}')")


def run_script(conn: Connection, script: str) -> None:
    """Run plain SQL of any number of statements, with no parameter syntax of its own."""
    conn.exec_driver_sql(script, execution_options={"no_parameters": True})


def is_native(engine: Engine, conn: Connection) -> bool:
    """Tell whether `reading` is natively partitioned; asked once per engine."""
    native = _native.get(engine)
    if native is None:
        native = (
            conn.scalar(text("SELECT relkind = 'p' FROM pg_class WHERE oid = 'reading'::regclass")) is True
        )
        with _lock:
            _native[engine] = native
    return native


def months_between(first_at: datetime, last_at: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield [start, end) of every UTC month that the closed interval touches."""
    first_at, last_at = first_at.astimezone(UTC), last_at.astimezone(UTC)
    year, month = first_at.year, first_at.month
    while (year, month) <= (last_at.year, last_at.month) and year < MAX_YEAR:
        following = (year + month // 12, month % 12 + 1)
        yield datetime(year, month, 1, tzinfo=UTC), datetime(*following, 1, tzinfo=UTC)
        year, month = following


def ensure_months(conn: Connection, first_at: datetime, last_at: datetime, *, within: bool = False) -> None:
    """Make the partitions that readings from `first_at` to `last_at` (aware, inclusive) need.

    Nothing to do on TimescaleDB. New ones are made in a short transaction of their own on another connection,
    so that the caller's roll-back does not take back what this process remembers, and no one waits for the
    caller's commit. ATTACH takes no lock that stops readers or writers (CREATE ... PARTITION OF would).
    `within` makes them in the caller's own transaction instead: for an owner who holds locks that the other
    connection would wait for, for ever.
    """
    engine = conn.engine
    known = _known.setdefault(engine, set())
    wanted = {
        f"reading_{start:%Y_%m}": start
        for start, _ in months_between(first_at, last_at)
        if f"reading_{start:%Y_%m}" not in known
    }
    if not wanted or not is_native(engine, conn):
        return
    if within:
        for start in wanted.values():
            conn.execute(text("SELECT make_month(:month)"), {"month": start.date()})
        return
    with engine.begin() as own:
        # By the owner's right, in a function that does this alone: nobody who runs may change the schema.
        own.execute(text("SELECT set_config('role', 'sw_ingest', true)"))
        own.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": PARTITION_LOCK})
        for start in wanted.values():
            own.execute(text("SELECT make_month(:month)"), {"month": start.date()})
    known.update(wanted)


def maintain(conn: Connection, now: datetime) -> None:
    """Make next month's partition ahead of time; on TimescaleDB its own policies do the work."""
    _, end = next(months_between(now, now))
    ensure_months(conn, now, end)


def bucket(seconds: int, column: str) -> str:
    """Return the SQL that rounds a timestamptz column down to whole buckets counted from 1970 in UTC."""
    return f"date_bin(INTERVAL '{int(seconds)} seconds', {column}, TIMESTAMPTZ 'epoch')"
