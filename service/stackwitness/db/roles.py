"""The server's roles: who owns, and as whom each transaction acts. Rights are in 0007_hardening.sql.

Roles belong to a whole PostgreSQL server, not to one database: several databases share them, and several
migrations may make them at once.
"""

from typing import Literal, get_args

from sqlalchemy import Connection, text

from stackwitness.db.timescale import run_script
from stackwitness.errors import Conflict

OWNER = "stackwitness_owner"
Role = Literal["sw_ingest", "sw_seq", "sw_detect", "sw_review", "sw_export", "sw_read"]
ROLES: tuple[Role, ...] = get_args(Role)
# What an agency's rows are seen by: nobody, or those who see all.
NOBODY, EVERY_AGENCY = "", "*"

# Two migrations at once: the second waits for the first's row of pg_authid and then finds it taken.
CREATE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN
        CREATE ROLE {name} NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END $$
"""
# The same for memberships. XX000 is "tuple concurrently updated": the other one granted it.
GRANT = """
DO $$ BEGIN
    GRANT {name} TO {login} {options};
EXCEPTION WHEN unique_violation OR internal_error THEN
    NULL;
END $$
"""


def ensure_roles(conn: Connection, login: str | None = None) -> None:
    """Make the roles that are missing; let `login` (the user of this connection when None) act as the six.

    Raises Conflict database.rights, which names the right that is missing.
    """
    user = conn.execute(
        text(
            "SELECT current_user AS name, rolsuper, rolcreaterole, current_setting('server_version_num')::int"
            " AS version FROM pg_roles WHERE rolname = current_user"
        )
    ).one()
    present = set(conn.scalars(text("SELECT rolname FROM pg_roles")))
    missing = {OWNER, *ROLES} - present
    if missing and not (user.rolsuper or user.rolcreaterole):
        raise Conflict(
            "database.rights",
            "The database user may not create roles",
            detail=f"{user.name} lacks CREATEROLE, and these are missing: {', '.join(sorted(missing))}",
        )
    for name in sorted(missing):
        run_script(conn, CREATE.format(name=name))
    if not user.rolsuper:
        _join(conn, user.name, (OWNER,), "")
    if login is not None or not user.rolsuper:
        # Acting as a role must be said: a transaction that forgets to has no rights at all.
        options = "WITH INHERIT FALSE, SET TRUE" if user.version >= 160_000 else ""
        _join(conn, login or user.name, ROLES, options)


def _join(conn: Connection, login: str, names: tuple[str, ...], options: str) -> None:
    query = (
        "SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
        " JOIN pg_roles l ON l.oid = m.member WHERE l.rolname = :login AND g.rolname = ANY(:names)"
    )
    if int(conn.scalar(text("SELECT current_setting('server_version_num')::int")) or 0) >= 160_000:
        query += " AND m.set_option"
    joined = set(conn.scalars(text(query), {"login": login, "names": list(names)}))
    for name in (name for name in names if name not in joined):
        may = conn.scalar(
            text(
                "SELECT rolsuper OR pg_has_role(current_user, :name, 'MEMBER WITH ADMIN OPTION')"
                " OR (rolcreaterole AND current_setting('server_version_num')::int < 160000)"
                " FROM pg_roles WHERE rolname = current_user"
            ),
            {"name": name},
        )
        if not may:
            raise Conflict(
                "database.rights",
                "The database user may not grant a role",
                detail=f"the ADMIN OPTION of {name} is missing; a superuser may run: GRANT {name} TO {login}",
            )
        quoted = conn.dialect.identifier_preparer.quote(login)
        run_script(conn, GRANT.format(name=name, login=quoted, options=options))


def act_as(conn: Connection, role: Role, agency: str = NOBODY) -> None:
    """Take a role, and an agency's view, until the transaction ends: its rights are the role's and no more."""
    # Once for every transaction there is, hence without the layers of a compiled statement.
    conn.exec_driver_sql(
        "SELECT set_config('role', %s, true), set_config('stackwitness.agency', %s, true)", (role, agency)
    )
