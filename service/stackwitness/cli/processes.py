"""Commands that run the processes of the service."""

import os
from datetime import datetime
from pathlib import Path
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
    witnesses: Annotated[
        int | None,
        typer.Option(help="witnesses on this machine, to rehearse with; 3 with --demo", min=0, max=16),
    ] = None,
) -> None:
    """Run everything on this machine: database, signer, log, API, worker, with --demo also witnesses."""
    from stackwitness.supervisor import StartFailed, run_up

    try:
        run_up(load_settings(home, port), os.environ, demo=demo or honest, honest=honest, witnesses=witnesses)
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


@app.command("log-key")
def log_key(
    step: Annotated[str, typer.Argument(help="next: sign with a second key too; retire: give up the first")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="the new policy file (next)")] = None,
    account: Annotated[str, typer.Option(help="who does it; an account's id")] = "operator",
    home: Home = None,
) -> None:
    """Change the log's key with an overlap; see docs/runbooks/signer.md."""
    from stackwitness.log.rotation import add_key, retire_key

    if step == "retire":
        typer.echo(retire_key(load_settings(home), os.environ))
        return
    if step != "next":
        raise typer.BadParameter("next or retire")
    with opened(home) as wiring:
        policy = add_key(wiring.engine, wiring.settings, wiring.service_key, os.environ, account)
    if output is not None:
        output.write_text(policy, encoding="utf-8")
    typer.echo(policy, nl=False)


@app.command("service-key")
def service_key(
    step: Annotated[
        str, typer.Argument(help="rotate: a new key signs events; compromise: an old one is suspect")
    ],
    kid: Annotated[str, typer.Option(help="the key in other hands (compromise)")] = "",
    suspect_from_idx: Annotated[
        int, typer.Option(help="first log index not trusted any more (compromise)")
    ] = -1,
    why: Annotated[str, typer.Option(help="the event names it by salted hash (compromise)")] = "",
    account: Annotated[str, typer.Option(help="who does it; an account's id")] = "operator",
    home: Home = None,
) -> None:
    """Change the key that signs events; see docs/runbooks/service-key.md."""
    from stackwitness.log.service_rotation import declare_compromise, rotate_service_key

    if step not in ("rotate", "compromise") or (step == "compromise" and not (kid and why)):
        raise typer.BadParameter("rotate, or compromise with --kid, --suspect-from-idx and --why")
    with opened(home) as wiring:
        if step == "rotate":
            typer.echo(rotate_service_key(wiring.engine, wiring.service_key, act=account))
        else:
            declare_compromise(wiring.engine, wiring.service_key, kid, suspect_from_idx, why, act=account)


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


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def monitor(context: typer.Context) -> None:
    """Watch a log from outside: own disk, own policy, no database (stackwitness-monitor)."""
    from stackwitness_client.monitor_cli import main

    raise typer.Exit(main(context.args))
