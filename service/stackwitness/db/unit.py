"""One request, one transaction, one role."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.errors import ObjectNotInPrerequisiteState
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from stackwitness.db.roles import NOBODY, Role, act_as
from stackwitness.errors import DatabaseUnavailable, LogFrozen

FROZEN = "this log is frozen"


@contextmanager
def unit_of_work(engine: Engine, role: Role | None = None, agency: str = NOBODY) -> Iterator[Connection]:
    """Yield a connection inside one transaction: committed at the end, rolled back when an exception leaves.

    `role` is whose rights it has; without one, those of the user who is logged in, which in production are
    none. `agency` is whose stations a transaction for a person sees: Account.sees; nobody's when not said.

    Raises DatabaseUnavailable when the server is away, a lock was given up or the pool is exhausted. After a
    failed COMMIT nobody can know whether it was stored: callers must be idempotent, as all our writes are.
    Raises LogFrozen when it would have queued a leaf behind the last one.
    """
    try:
        with engine.begin() as conn:
            if role is not None:
                act_as(conn, role, agency)
            yield conn
    except ObjectNotInPrerequisiteState as error:  # out of COPY, which SQLAlchemy does not see
        raise _refused(error) or error from error
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise _refused(getattr(error, "orig", None)) or DatabaseUnavailable() from error


def _refused(error: BaseException | None) -> LogFrozen | None:
    """Return what the trigger refuse_frozen says, None for any other refusal."""
    if not isinstance(error, ObjectNotInPrerequisiteState) or error.diag.message_primary != FROZEN:
        return None
    return LogFrozen(error.diag.message_detail or "")
