"""Faults: the one step of a write that fails, fails although it was done, or is the process's last act."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from stackwitness.log import disk

FAILS, LASTS, KILLED = "fails", "fails, yet lasts", "process killed"
FAULTS = (FAILS, LASTS, KILLED)
DRAFT = re.compile(r"\.([^/]+)\.\d+\.tmp$")


class Killed(BaseException):
    """The process is gone: nothing after this line runs."""


@dataclass
class Fault:
    """Strike once, at the step `op` of the file whose path holds `name`."""

    kind: str
    op: str
    name: str
    fired: bool = False

    def strike(self, op: str, path: str, do: Callable[[], Any]) -> Any:
        """Do a step of a write, or what the fault makes of it."""
        if self.fired or op != self.op or self.name not in path:
            return do()
        self.fired = True
        if self.kind == KILLED:
            raise Killed
        if self.kind == LASTS:
            do()
        raise OSError(5, f"injected: {op} of {self.name}")


class FaultyOs:
    """The module `os` as `stackwitness.log.disk` sees it, one of whose calls fails."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._renamed = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECTORY:
            return os.open(path, flags, mode)
        target = DRAFT.sub(r"\1", str(path))
        number: int = self._fault.strike("create", target, lambda: os.open(path, flags, mode))
        return number

    def fsync(self, descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.isdir(path):
            renamed, self._renamed = self._renamed, ""
            self._fault.strike("fsync of the folder", renamed, lambda: os.fsync(descriptor))
        else:
            self._fault.strike("fsync", DRAFT.sub(r"\1", path), lambda: os.fsync(descriptor))

    def replace(self, source: Any, target: Any) -> None:
        self._renamed = str(target)
        self._fault.strike("rename", str(target), lambda: os.replace(source, target))


@contextmanager
def faulty_disk(fault: Fault) -> Iterator[None]:
    """Let every durable write of this process run into the fault."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "os", FaultyOs(fault))
        yield


def kill_connections(engine: sa.Engine) -> None:
    """End every connection to this database, as a crash of its server does."""
    with engine.connect() as conn:
        conn.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    engine.dispose()


@contextmanager
def faulty_commit(engine: sa.Engine, fault: Fault, *, after: str) -> Iterator[None]:
    """Let the commit of the first transaction that runs the statement `after` run into the fault."""
    commit, marked = engine.dialect.do_commit, []

    def mark(conn, cursor, statement, parameters, context, many) -> None:  # type: ignore[no-untyped-def]
        if after in statement:
            marked.append(conn.connection.dbapi_connection)

    def strike(connection: Any) -> None:
        raw = getattr(connection, "dbapi_connection", connection)
        if raw not in marked:
            commit(connection)
            return
        try:
            fault.strike(fault.op, fault.name, lambda: commit(connection))
        except OSError as error:
            raise sa.exc.OperationalError("COMMIT", {}, Exception(str(error))) from None

    sa.event.listen(engine, "after_cursor_execute", mark)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine.dialect, "do_commit", strike)
            yield
    finally:
        sa.event.remove(engine, "after_cursor_execute", mark)


@contextmanager
def faulty_statement(engine: sa.Engine, fault: Fault) -> Iterator[None]:
    """Let the first statement that holds `fault.name` run into the fault; a connection dies after it."""

    def before(conn, cursor, statement, parameters, context, many) -> None:  # type: ignore[no-untyped-def]
        if fault.kind == LASTS or fault.name not in statement or fault.fired:
            return
        try:
            fault.strike(fault.op, statement, lambda: None)
        except OSError as error:
            raise sa.exc.OperationalError(statement, {}, Exception(str(error))) from None

    def after(conn, cursor, statement, parameters, context, many) -> None:  # type: ignore[no-untyped-def]
        if fault.kind == LASTS and fault.name in statement and not fault.fired:
            fault.fired = True
            cursor.connection.close()

    sa.event.listen(engine, "before_cursor_execute", before)
    sa.event.listen(engine, "after_cursor_execute", after)
    try:
        yield
    finally:
        sa.event.remove(engine, "before_cursor_execute", before)
        sa.event.remove(engine, "after_cursor_execute", after)
