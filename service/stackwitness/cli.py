"""The command line: parse, then call the room that does the work (imported only then: starts stay light)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from emdi.errors import EmdiError
from stackwitness.db.embedded import ClusterError, open_database
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Conflict, NotFound, StackwitnessError
from stackwitness.settings import Settings
from stackwitness.telemetry import configure_logging

if TYPE_CHECKING:
    from stackwitness.wiring import Wiring

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


@contextmanager
def opened(home: Path | None, port: int | None = None) -> "Iterator[Wiring]":
    """Yield this process's wiring over the database the settings name; the engine is closed at the end."""
    from stackwitness.db.migrate import current_revision
    from stackwitness.wiring import wire

    settings = load_settings(home, port)
    if settings.database_url is None and not settings.postgres_dir.is_dir():
        raise NotFound(
            "home.empty",
            f"Nothing is kept in {settings.home}: name a home (--home, STACKWITNESS_HOME) or run up",
        )
    with open_database(settings) as url:
        wiring = wire(settings.model_copy(update={"database_url": url}))
        try:
            with unit_of_work(wiring.engine) as conn:
                if current_revision(conn) is None:
                    raise Conflict(
                        "database.schema", "The database is empty: run `stackwitness migrate` or `up`"
                    )
            yield wiring
        finally:
            wiring.engine.dispose()


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


@app.command()
def migrate(home: Home = None) -> None:
    """Bring the database to the newest schema."""
    from stackwitness.db.migrate import migrate as run_migrations

    with open_database(load_settings(home)) as url:
        run_migrations(url)


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
def export(
    station: Annotated[str, typer.Option(help="id of the station")],
    from_at: Annotated[str, typer.Option("--from", help="first time, UTC")],
    to_at: Annotated[str, typer.Option("--to", help="end, UTC")],
    output: Annotated[Path, typer.Option("--output", "-o", help="the bundle to write")],
    purpose: Annotated[str, typer.Option(help="why; stands in the bundle")] = "command line",
    account: Annotated[str, typer.Option(help="who asks; an account's id")] = "regulator",
    home: Home = None,
) -> None:
    """Write an evidence bundle that stackwitness-verify checks offline; the log process must be running."""
    from stackwitness.evidence.command import run_export

    with opened(home) as wiring:
        export_id = run_export(
            wiring,
            stn=station,
            from_at=from_at,
            to_at=to_at,
            output=output,
            purpose=purpose,
            account_id=account,
        )
    typer.echo(f"export {export_id}: {output}")


@app.command()
def fsck(
    home: Home = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of lines")] = False,
    policy: Annotated[Path | None, typer.Option(help="policy file to hold the checkpoint against")] = None,
) -> None:
    """Re-derive everything from the raw entries and name what differs: 0 clean, 1 tampered, 2 incomplete."""
    from stackwitness.log.fsck.terminal import run_fsck

    with opened(home) as wiring:
        code = run_fsck(wiring.engine, wiring.settings, as_json=as_json, policy_file=policy)
    raise typer.Exit(code)


@app.command()
def account(
    account_id: Annotated[str, typer.Argument(help="id: lower-case letters, digits, dashes")],
    role: Annotated[str, typer.Option(help="operator, inspector, regulator or auditor")],
    name: Annotated[str, typer.Option(help="name shown in the console")] = "",
    home: Home = None,
) -> None:
    """Make an account if it is new, and print a new bearer token of it (shown this once)."""
    from stackwitness.accounts.command import issue_account

    with opened(home) as wiring:
        typer.echo(issue_account(wiring.engine, account_id, name or account_id, role))


@app.command()
def bench(
    what: Annotated[str, typer.Argument(help="ingest")] = "ingest",
    rounds: Annotated[int, typer.Option(help="runs of each contender; medians are shown", min=1)] = 3,
) -> None:
    """Measure this machine: the service beside its peers, as ratios, in one run."""
    from stackwitness.bench.ingest import run

    if what != "ingest":
        raise typer.BadParameter(f"{what!r} is not ingest")
    run(rounds)


def main() -> None:
    """Run the command line; what is expected to go wrong is one line and exit code 3, not a traceback.

    1 and 2 are left to what fsck finds: tampered, incomplete.
    """
    try:
        app()
    except (ClusterError, StackwitnessError, EmdiError) as error:
        typer.echo(f"stackwitness: {error}", err=True)
        raise SystemExit(3) from None


if __name__ == "__main__":
    main()
