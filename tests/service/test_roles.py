"""Roles are made once for a whole server, by several at once, by a superuser or by whoever may; or the error says
which right is missing.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa

from stackwitness.db import roles
from stackwitness.db.embedded import Cluster
from stackwitness.db.engine import make_engine
from stackwitness.db.migrate import current_revision, migrate, newest_revision
from stackwitness.db.roles import CREATE, GRANT, OWNER, ROLES, ensure_roles
from stackwitness.db.timescale import run_script
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Conflict

AT_ONCE = 6


@pytest.fixture
def admin(cluster: Cluster) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        yield conn


@pytest.fixture
def guest(cluster: Cluster, admin: psycopg.Connection[tuple[object, ...]], template: str) -> Iterator[str]:
    """Give the address of a database that belongs to a user who is no superuser."""
    admin.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    admin.execute("CREATE DATABASE guest OWNER guest")
    yield cluster.url("guest").replace(cluster.url().partition("@")[0], "postgresql://guest:guest")
    admin.execute("DROP DATABASE guest WITH (FORCE)")
    admin.execute("DROP OWNED BY guest")
    admin.execute("DROP ROLE guest")


def test_roles_are_made_by_several_at_once(
    cluster: Cluster, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    engine = make_engine(cluster.url("postgres"), pool_size=AT_ONCE)

    def make(_: int) -> None:
        with engine.begin() as conn:
            run_script(conn, CREATE.format(name="race_role"))
            run_script(conn, CREATE.format(name="race_login"))
            run_script(conn, GRANT.format(name="race_role", login="race_login", options=""))

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(make, range(AT_ONCE)))
        members = "SELECT pg_has_role('race_login', 'race_role', 'MEMBER')"
        assert admin.execute(members).fetchall() == [(True,)]
    finally:
        engine.dispose()
        admin.execute("DROP ROLE IF EXISTS race_login")
        admin.execute("DROP ROLE IF EXISTS race_role")


def test_who_may_not_make_roles_is_told_so(guest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "OWNER", "role_that_is_missing")
    engine = make_engine(guest, pool_size=1)
    with (
        pytest.raises(Conflict, match=r"guest lacks CREATEROLE.*role_that_is_missing"),
        engine.begin() as conn,
    ):
        ensure_roles(conn)
    engine.dispose()


def test_who_may_not_grant_them_is_told_so(guest: str) -> None:
    with pytest.raises(Conflict, match=rf"the ADMIN OPTION of {OWNER} is missing.*GRANT {OWNER} TO guest"):
        migrate(guest)


def test_a_user_of_an_external_server_migrates_and_serves(
    guest: str, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    for role in (OWNER, *ROLES):
        admin.execute(f"GRANT {role} TO guest WITH ADMIN OPTION")
    migrate(guest)
    migrate(guest)
    engine = make_engine(guest, pool_size=2)
    try:
        with unit_of_work(engine, "sw_read") as conn:
            assert current_revision(conn) == newest_revision()
            assert conn.scalar(sa.text("SELECT count(*) FROM station")) == 0
        with (
            pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
            unit_of_work(engine, "sw_read") as conn,
        ):
            conn.execute(sa.text("DELETE FROM event"))
        with unit_of_work(
            engine
        ) as conn:  # event triggers need a superuser: docs/database.md says what is missing then
            assert conn.scalar(sa.text("SELECT count(*) FROM pg_event_trigger")) == 0
    finally:
        engine.dispose()
