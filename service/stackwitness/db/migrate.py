"""Bring a database to the newest schema; several processes may ask at once."""

from pathlib import Path

from sqlalchemy import Connection, text

from stackwitness.db.engine import make_engine
from stackwitness.db.locks import MIGRATION_LOCK
from stackwitness.db.roles import OWNER, ensure_roles

# How long to wait for another migration, and how long a migration may wait for a table lock: it must rather
# fail than queue every reader and writer behind itself.
WAIT_FOR_TURN = "120s"
LOCK_TIMEOUT = "5s"
# From this revision on the schema belongs to OWNER, who makes every later one.
OWNED_SINCE = "0007"


def migrations_dir() -> Path:
    """Return the folder of migrations: inside the installed package, else at the root of the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parents[1] / "migrations"


def newest_revision() -> str:
    """Return the revision a fully migrated database stands at: files are numbered, there are no branches."""
    return max(path.name.split("_")[0] for path in (migrations_dir() / "versions").glob("[0-9]*.py"))


def current_revision(conn: Connection) -> str | None:
    """Return the revision the database stands at, None for an empty one."""
    if conn.scalar(text("SELECT to_regclass('alembic_version') IS NULL")):
        return None
    revision: str | None = conn.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def migrate(url: str, login: str | None = None) -> None:
    """Upgrade the database to the newest revision, in one transaction under an advisory lock.

    `url` is of a user who may create roles; `login` is the user the service will connect as, the same when
    None. Raises Conflict database.rights.
    """
    # Only here: alembic costs 8 MB, which the API process, asking for revisions only, does not need.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_dir()))
    engine = make_engine(url, pool_size=1)
    try:
        with engine.begin() as conn:
            ensure_roles(conn, login)
        with engine.begin() as conn:
            conn.execute(text(f"SET LOCAL lock_timeout = '{WAIT_FOR_TURN}'"))
            conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            conn.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
            stands_at = current_revision(conn)
            if stands_at is not None and stands_at >= OWNED_SINCE:
                conn.execute(text(f"SET LOCAL ROLE {OWNER}"))
            conn.execute(
                text("SELECT set_config('stackwitness.migration', :to, true)"), {"to": newest_revision()}
            )
            config.attributes["connection"] = conn
            command.upgrade(config, "head")
    finally:
        engine.dispose()
