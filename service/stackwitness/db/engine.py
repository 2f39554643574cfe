"""Make the SQLAlchemy engine from a PostgreSQL address."""

from datetime import UTC, datetime
from typing import Any

from psycopg import Connection, DataError
from psycopg.abc import Buffer
from psycopg.types.datetime import TimestamptzLoader
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url

from stackwitness.db.session import connect

POOL_WAIT_S = 10
FIRST_TIME, LAST_TIME = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)


def make_engine(url: str, *, pool_size: int = 10) -> Engine:
    """Return an engine over psycopg whose sessions speak UTC and UTF-8 and wait as long as we say (stackwitness.db.session).

    `postgresql://...` and `postgresql+psycopg://...` both work. `?prepare_threshold=none` turns server-side
    prepared statements off for servers whose connections share a backend (poolers, the TimescaleDB in tests).
    """
    address = make_url(url).set(drivername="postgresql+psycopg")
    given: dict[str, Any] = {}
    threshold = address.query.get("prepare_threshold")
    if threshold is not None:
        address = address.difference_update_query(["prepare_threshold"])
        given["prepare_threshold"] = None if threshold == "none" else int(str(threshold))
    engine = create_engine(
        address,
        connect_args=given,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_S,
        pool_pre_ping=True,
    )
    event.listen(engine, "do_connect", lambda dialect, record, args, params: connect(*args, **params))
    event.listen(engine, "connect", _load_any_time)
    return engine


class _AnyTimestamp(TimestamptzLoader):
    """Load times that Python has not (infinity, before year 1, after 9999) as the last or the first it has.

    Nothing of ours writes them: whoever did must not stop the checker that would name the row.
    """

    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except DataError:
            text = bytes(data)
            early = text.startswith(b"-") or text.endswith(b"BC")
            return FIRST_TIME if early else LAST_TIME


def _load_any_time(connection: Connection[Any], _: object) -> None:
    connection.adapters.register_loader("timestamptz", _AnyTimestamp)
