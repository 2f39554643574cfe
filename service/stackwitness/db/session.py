"""Open a session of the database whose settings are ours, whatever somebody put on the database or on the login.

What the address itself asks for comes before every `ALTER DATABASE ... SET` and `ALTER ROLE ... SET`.
"""

from contextlib import suppress
from typing import Any

import psycopg

CONNECT_TIMEOUT_S = 5
SPELLING = (  # how values are written between server and client
    "timezone=UTC",
    "client_encoding=UTF8",
    "datestyle=ISO",
    "standard_conforming_strings=on",
    "extra_float_digits=1",
    "row_security=on",
    "quote_all_identifiers=off",
)
TABLES = ("search_path=public",)  # ours, and not those of a schema that somebody put before them
PATIENCE = (  # who waits how long for what is ours to say, transaction by transaction
    "statement_timeout=0",
    "lock_timeout=0",
    "idle_in_transaction_session_timeout=0",
    "idle_session_timeout=0",
    "default_transaction_read_only=off",
    "default_transaction_deferrable=off",
    "default_transaction_isolation=read\\ committed",
)
OPTIONS = " ".join(f"-c {setting}" for setting in (*SPELLING, *TABLES, *PATIENCE))
# PostgreSQL 17 has it, and an older server lets nobody in who asks for what it has not.
NEWER = "transaction_timeout"


def connect(conninfo: str = "", **given: Any) -> psycopg.Connection[Any]:
    """Connect as psycopg does, `options` of the address before ours; raises what psycopg raises."""
    given = {"connect_timeout": CONNECT_TIMEOUT_S, **given}
    options = f"{given.pop('options', '')} {OPTIONS}".strip()
    try:
        return psycopg.connect(conninfo, **given, options=f"{options} -c {NEWER}=0")
    except psycopg.OperationalError as error:
        if NEWER not in str(error):
            raise
    return psycopg.connect(conninfo, **given, options=options)


_DEFAULTS = """
SELECT concat_ws(' IN ', CASE WHEN setrole <> 0 THEN 'ROLE ' || quote_ident(rolname) END,
                 CASE WHEN setdatabase <> 0 THEN 'DATABASE ' || quote_ident(datname) END),
       split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)
FROM pg_catalog.pg_db_role_setting CROSS JOIN unnest(setconfig) AS setting
LEFT JOIN pg_catalog.pg_roles r ON r.oid = setrole LEFT JOIN pg_catalog.pg_database d ON d.oid = setdatabase
WHERE setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = session_user))
AND setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())) ORDER BY 1, 2
"""


async def lift_newer(conn: psycopg.AsyncConnection[Any]) -> None:
    """Do the rest for a connection that a pool opened with OPTIONS."""
    if conn.info.server_version >= 170_000:
        await conn.execute(f"SET {NEWER} = 0")
        await conn.commit()


def name_defaults(conninfo: str) -> list[str]:
    """Return what is put on this database and this login, each as the statement that takes it back; [] when nobody is let in.

    A server has settings that only a superuser lifts (`temp_file_limit`): who is stopped by one must hear of it.
    """
    with suppress(psycopg.Error), connect(conninfo, autocommit=True) as conn:
        return [
            f"{name} = {value!r} (a superuser or the owner clears it: ALTER {place} RESET {name})"
            for place, name, value in conn.execute(_DEFAULTS).fetchall()
        ]
    return []
