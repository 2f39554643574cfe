"""Commands that run the processes of the service."""

import os
from typing import Annotated

import typer

from stackwitness.cli.opening import Home, Port, load_settings, opened

app = typer.Typer()


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

    with opened(home, port) as wiring:
        run_serve(wiring)


@app.command()
def log(home: Home = None) -> None:
    """Sequence, publish and have signed what waits for the log."""
    from stackwitness.log.loop import run_log

    with opened(home) as wiring:
        run_log(wiring)


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

    with opened(home) as wiring:
        run_worker(wiring)
