"""Make the SQLAlchemy engine from a PostgreSQL address."""

from datetime import UTC, datetime
from typing import Any

from psycopg import Connection, DataError
from psycopg.abc import Buffer
from psycopg.types.datetime import TimestamptzLoader
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url

CONNECT_TIMEOUT_S = 5
POOL_WAIT_S = 10
# How values are spelt between server and client: a default put on the database or a role must not change what is read.
SESSION = (
    "timezone=UTC",
    "client_encoding=UTF8",
    "datestyle=ISO",
    "standard_conforming_strings=on",
    "extra_float_digits=1",
    "row_security=on",
    "quote_all_identifiers=off",
)
FIRST_TIME, LAST_TIME = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)


def make_engine(url: str, *, pool_size: int = 10) -> Engine:
    """Return an engine over psycopg whose sessions speak UTC and UTF-8, whatever the database's own defaults are.

    `postgresql://...` and `postgresql+psycopg://...` both work. `?prepare_threshold=none` turns server-side
    prepared statements off for servers whose connections share a backend (poolers, the TimescaleDB in tests).
    """
    address = make_url(url).set(drivername="postgresql+psycopg")
    connect: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "options": " ".join(f"-c {setting}" for setting in SESSION),
    }
    threshold = address.query.get("prepare_threshold")
    if threshold is not None:
        address = address.difference_update_query(["prepare_threshold"])
        connect["prepare_threshold"] = None if threshold == "none" else int(str(threshold))
    engine = create_engine(
        address,
        connect_args=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_S,
        pool_pre_ping=True,
    )
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
