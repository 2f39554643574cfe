"""Make the SQLAlchemy engine from a PostgreSQL address."""

from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url

CONNECT_TIMEOUT_S = 5
POOL_WAIT_S = 10


def make_engine(url: str, *, pool_size: int = 10) -> Engine:
    """Return an engine over psycopg whose sessions speak UTC.

    `postgresql://...` and `postgresql+psycopg://...` both work. `?prepare_threshold=none` turns server-side
    prepared statements off for servers whose connections share a backend (poolers, the TimescaleDB in tests).
    """
    address = make_url(url).set(drivername="postgresql+psycopg")
    connect: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S, "options": "-c timezone=UTC"}
    threshold = address.query.get("prepare_threshold")
    if threshold is not None:
        address = address.difference_update_query(["prepare_threshold"])
        connect["prepare_threshold"] = None if threshold == "none" else int(str(threshold))
    return create_engine(
        address,
        connect_args=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_S,
        pool_pre_ping=True,
    )
