"""The command line: parse, then call the room that does the work (imported only then: starts stay light)."""

import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from stackwitness.db.embedded import ClusterError, open_database
from stackwitness.settings import Settings
from stackwitness.telemetry import configure_logging

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Home = Annotated[Path | None, typer.Option(help="folder of everything on disk (STACKWITNESS_HOME)")]
Port = Annotated[int | None, typer.Option(help="port of the API; a free one when unset (STACKWITNESS_PORT)")]


def load_settings(home: Path | None = None, port: int | None = None) -> Settings:
    """Return the environment's settings with these options over them; exits 2 where they contradict."""
    given = {"home": home, "port": port}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        for item in error.errors():
            typer.echo(f"settings: {'.'.join(map(str, item['loc']))} {item['msg']}".strip(), err=True)
        raise typer.Exit(2) from None
    configure_logging(as_json=settings.log_json)
    return settings


@app.command()
def up(
    home: Home = None,
    port: Port = None,
    demo: Annotated[bool, typer.Option("--demo", help="add a simulated province of stations")] = False,
    honest: Annotated[bool, typer.Option("--honest", help="nobody in the province cheats")] = False,
) -> None:
    """Run everything on this machine: database, signer, log, API, worker."""
    from stackwitness.supervisor import StartFailed, run_up

    try:
        run_up(load_settings(home, port), os.environ, demo=demo or honest, honest=honest)
    except StartFailed as error:
        typer.echo(f"stackwitness up: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def serve(home: Home = None, port: Port = None) -> None:
    """Serve the API and the console."""
    from stackwitness.serving import run_serve

    settings = load_settings(home, port)
    with open_database(settings) as url:
        run_serve(settings.model_copy(update={"database_url": url}))


@app.command()
def log(home: Home = None) -> None:
    """Sequence, publish and have signed what waits for the log."""
    from stackwitness.log.loop import run_log
    from stackwitness.wiring import wire

    settings = load_settings(home)
    with open_database(settings) as url:
        run_log(wire(settings.model_copy(update={"database_url": url})))


@app.command()
def signer(
    home: Home = None,
    init: Annotated[
        bool, typer.Option("--init", help="take a lost state from the checkpoint on disk")
    ] = False,
) -> None:
    """Hold the log's key and sign what extends what was signed before."""
    from stackwitness.log.signer import run_signer

    run_signer(load_settings(home), init=init)


@app.command()
def worker(home: Home = None) -> None:
    """Work off jobs: detection and exports."""
    from stackwitness.detection.tasks import run_worker
    from stackwitness.wiring import wire

    settings = load_settings(home)
    with open_database(settings) as url:
        run_worker(wire(settings.model_copy(update={"database_url": url})))


@app.command()
def migrate(home: Home = None) -> None:
    """Bring the database to the newest schema."""
    from stackwitness.db.migrate import migrate as run_migrations

    with open_database(load_settings(home)) as url:
        run_migrations(url)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except ClusterError as error:
        typer.echo(f"stackwitness: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
