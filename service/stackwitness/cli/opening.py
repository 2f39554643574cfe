"""What every command begins with: the settings, and the wiring over the database they name."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stackwitness.settings import Settings
    from stackwitness.wiring import Wiring

Home = Annotated[Path | None, typer.Option(help="folder of everything on disk (STACKWITNESS_HOME)")]
Port = Annotated[int | None, typer.Option(help="port of the API; a free one when unset (STACKWITNESS_PORT)")]


def load_settings(home: Path | None = None, port: int | None = None) -> "Settings":
    """Return the environment's settings with these options over them; exits 2 where they contradict."""
    from pydantic import ValidationError

    from stackwitness.settings import Settings
    from stackwitness.telemetry import configure_logging

    given = {"home": home, "port": port}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        for item in error.errors():
            typer.echo(f"settings: {'.'.join(map(str, item['loc']))} {item['msg']}".strip(), err=True)
        raise typer.Exit(2) from None
    configure_logging(as_json=settings.log_json)
    return settings


@contextmanager
def opened(home: Path | None, port: int | None = None) -> "Iterator[Wiring]":
    """Yield this process's wiring over the database the settings name; the engine is closed at the end."""
    from stackwitness.db.embedded import open_database
    from stackwitness.db.unit import unit_of_work
    from stackwitness.errors import NotFound
    from stackwitness.wiring import wire

    settings = load_settings(home, port)
    if settings.database_url is None and not settings.postgres_dir.is_dir():
        raise NotFound(
            "home.empty",
            f"Nothing is kept in {settings.home}: name a home (--home, STACKWITNESS_HOME) or run up",
        )
    with open_database(settings) as url, naming_causes(url):
        wiring = wire(settings.model_copy(update={"database_url": url}))
        try:
            with naming_foreign_schemas(lambda: unit_of_work(wiring.engine, "sw_read")):
                yield wiring
        finally:
            wiring.engine.dispose()


@contextmanager
def naming_foreign_schemas(conn_of: "Callable[[], AbstractContextManager[Connection]]") -> Iterator[None]:
    """Raise Conflict database.schema for an empty database, and for one whose tables are another version's.

    That it says so is no reason to refuse: whoever edits the number would keep the checkers from looking.
    """
    from sqlalchemy.exc import ProgrammingError

    from stackwitness.db.migrate import current_revision, newest_revision
    from stackwitness.errors import Conflict

    with conn_of() as conn:
        stands, newest = current_revision(conn), newest_revision()
    if stands is None:
        raise Conflict("database.schema", "The database is empty: run `stackwitness migrate` or `up`")
    try:
        yield
    except ProgrammingError as error:
        if stands == newest:
            raise
        mend = (
            "run `stackwitness migrate` or `up`" if stands < newest else "take the version that migrated it"
        )
        said = f"The database stands at revision {stands}, this version at {newest}: {mend}"
        raise Conflict("database.schema", said) from error


@contextmanager
def naming_causes(url: str) -> Iterator[None]:
    """Say with every refusal of the database what it said itself, and which settings somebody put on it."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import DBAPIError

    from stackwitness.db.session import name_defaults
    from stackwitness.errors import DatabaseUnavailable

    try:
        yield
    except (DBAPIError, DatabaseUnavailable) as error:
        refused = error if isinstance(error, DBAPIError) else error.__cause__
        cause = getattr(refused, "orig", refused)
        defaults = name_defaults(
            make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        )
        said = "; set on it: ".join(filter(None, (str(cause or "").strip(), ", ".join(defaults))))
        raise DatabaseUnavailable(title="The database refuses", detail=said) from error
