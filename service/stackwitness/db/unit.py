"""One request, one transaction, one role."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from stackwitness.db.roles import NOBODY, Role, act_as
from stackwitness.errors import DatabaseUnavailable


@contextmanager
def unit_of_work(engine: Engine, role: Role | None = None, agency: str = NOBODY) -> Iterator[Connection]:
    """Yield a connection inside one transaction: committed at the end, rolled back when an exception leaves.

    `role` is whose rights it has; without one, those of the user who is logged in, which in production are
    none. `agency` is whose stations a transaction for a person sees: Account.sees; nobody's when not said.

    Raises DatabaseUnavailable when the server is away, a lock was given up or the pool is exhausted. After a
    failed COMMIT nobody can know whether it was stored: callers must be idempotent, as all our writes are.
    """
    try:
        with engine.begin() as conn:
            if role is not None:
                act_as(conn, role, agency)
            yield conn
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise DatabaseUnavailable() from error
