"""Commands that run the processes of the service."""

import os
from datetime import datetime
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
        datetime | None,
        typer.Option(
            "--init",
            formats=["%Y-%m-%d"],
            help="take a lost state from the checkpoint on disk; the UTC day the log began confirms it",
        ),
    ] = None,
) -> None:
    """Hold the log's key and sign what extends what was signed before."""
    from stackwitness.log.signer.options import passed_on, signer_command
    from stackwitness.log.signer.user import default_user

    settings = load_settings(home)
    command = signer_command(settings, init=init.date() if init else None, default_user=default_user())
    # A process of its own, without this one's libraries, and without the database's address.
    os.execve(command[0], command, passed_on(os.environ))


@app.command()
def worker(home: Home = None) -> None:
    """Work off jobs: detection and exports."""
    from stackwitness.detection.tasks import run_worker

    with opened(home) as wiring:
        run_worker(wiring)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def witness(context: typer.Context) -> None:
    """Cosign the checkpoints of other logs (the program stackwitness-witness, with its options)."""
    from stackwitness_client.witness_cli import main

    raise typer.Exit(main(context.args))
