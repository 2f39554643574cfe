"""One request, one transaction."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from stackwitness.errors import DatabaseUnavailable


@contextmanager
def unit_of_work(engine: Engine) -> Iterator[Connection]:
    """Yield a connection inside one transaction: committed at the end, rolled back when an exception leaves.

    Raises DatabaseUnavailable when the server is away, a lock was given up or the pool is exhausted. After a
    failed COMMIT nobody can know whether it was stored: callers must be idempotent, as all our writes are.
    """
    try:
        with engine.begin() as conn:
            yield conn
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise DatabaseUnavailable() from error
