"""Commands that prepare the database, send data and measure."""

from pathlib import Path
from typing import Annotated

import typer

from stackwitness.cli.opening import Home, load_settings, opened

app = typer.Typer()


@app.command()
def migrate(home: Home = None) -> None:
    """Bring the database to the newest schema."""
    from stackwitness.db.embedded import migrate_database

    migrate_database(load_settings(home))


@app.command()
def replay(
    manifest: Annotated[Path, typer.Option(help="stations.toml, or the folder that holds it")],
    data: Annotated[Path | None, typer.Option(help="folder of the data sets (STACKWITNESS_DATA)")] = None,
    speed: Annotated[str, typer.Option(help="max, or seconds of data per second")] = "max",
    forge: Annotated[
        list[str] | None,
        typer.Option(help="forge before signing: KIND:STN:CHANNEL:FROM:TO or ...:TO:STRENGTH"),
    ] = None,
    stations: Annotated[str, typer.Option(help="only these, comma-separated")] = "",
    files: Annotated[str, typer.Option(help="only files of these names or patterns, comma-separated")] = "",
    from_: Annotated[str, typer.Option("--from", help="first time, UTC")] = "",
    to: Annotated[str, typer.Option(help="end, UTC, exclusive")] = "",
    readings_per_envelope: Annotated[int, typer.Option(min=1, max=5000)] = 720,
    report: Annotated[Path | None, typer.Option(help="also write the report here")] = None,
    server: Annotated[str | None, typer.Option(help="URL; default: the `up` of the home folder")] = None,
    token: Annotated[
        str | None, typer.Option(envvar="STACKWITNESS_OPERATOR_TOKEN", help="default: HOME/operator.token")
    ] = None,
    approver_token: Annotated[
        str | None,
        typer.Option(
            envvar="STACKWITNESS_APPROVER_TOKEN", help="another operator's; default: HOME/approver.token"
        ),
    ] = None,
    wait_detection: Annotated[bool, typer.Option(help="wait until the readings are judged")] = True,
    detection_within: Annotated[float, typer.Option(help="seconds to wait for that")] = 600.0,
    patience: Annotated[float, typer.Option(help="seconds without an answer before giving up")] = 300.0,
    home: Home = None,
) -> None:
    """Send a data set through the station SDK, honestly or forged; run again, it goes on where it was."""
    from stackwitness.replay.command import run_arguments

    settings = load_settings(home)
    code = run_arguments(
        manifest=manifest,
        data=data or settings.data,
        home=settings.home,
        server=server,
        token=token,
        approver_token=approver_token,
        speed=speed,
        forgeries=forge or [],
        stations=stations,
        files=files,
        from_at=from_,
        to_at=to,
        readings_per_envelope=readings_per_envelope,
        report=report,
        wait_detection=wait_detection,
        detection_within_s=detection_within,
        patience_s=patience,
    )
    raise typer.Exit(code)


@app.command()
def account(
    account_id: Annotated[str, typer.Argument(help="id: lower-case letters, digits, dashes")],
    role: Annotated[str, typer.Option(help="operator, inspector, regulator or auditor")] = "",
    name: Annotated[str, typer.Option(help="name shown in the console")] = "",
    agency: Annotated[
        str | None, typer.Option(help="sees this agency's stations only; all when unset")
    ] = None,
    revoke: Annotated[str, typer.Option(metavar="WHY", help="end the account, for this reason")] = "",
    home: Home = None,
) -> None:
    """Make an account if it is new, and print a new bearer token of it (shown this once); or end it."""
    from stackwitness.accounts.command import issue_account, revoke_account

    with opened(home) as wiring:
        if revoke:
            revoke_account(wiring, account_id, revoke)
        else:
            typer.echo(issue_account(wiring, account_id, name or account_id, role, agency))
