"""Commands that make evidence and check it."""

from pathlib import Path
from typing import Annotated

import typer

from stackwitness.cli.opening import Home, load_settings, naming_causes, opened

app = typer.Typer()


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="the bundle to write")],
    station: Annotated[str, typer.Option(help="id of a station, or several joined by commas")] = "",
    agency: Annotated[str, typer.Option(help="all stations of this agency")] = "",
    from_at: Annotated[str, typer.Option("--from", help="first time, UTC; all of the past")] = "",
    to_at: Annotated[str, typer.Option("--to", help="end, UTC; open")] = "",
    entries: Annotated[str, typer.Option(help="only these log indexes, as first-end (half-open)")] = "",
    purpose: Annotated[str, typer.Option(help="why; stands in the bundle")] = "command line",
    account: Annotated[str, typer.Option(help="who asks; an account's id")] = "regulator",
    redact: Annotated[bool, typer.Option("--redact", help="withhold every text; its hash stays")] = False,
    home: Home = None,
) -> None:
    """Write an evidence bundle that stackwitness-verify checks offline; the log process must be running."""
    from stackwitness.evidence.command import Wanted, run_export

    wanted = Wanted(station, agency, from_at, to_at, entries, purpose, account, redact)
    with opened(home) as wiring:
        export_id = run_export(wiring, wanted, output)
    typer.echo(f"export {export_id}: {output}")


@app.command()
def fsck(
    home: Home = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of lines")] = False,
    policy: Annotated[Path | None, typer.Option(help="policy file to hold the checkpoint against")] = None,
    rerun_detectors: Annotated[
        bool, typer.Option("--rerun-detectors", help="also compute every finding again; takes a while")
    ] = False,
) -> None:
    """Re-derive everything from the raw entries and name what differs: 0 clean, 1 tampered, 2 incomplete."""
    from stackwitness.log.fsck.terminal import run_fsck

    with opened(home) as wiring:
        code = run_fsck(wiring.engine, wiring.settings, as_json=as_json, policy_file=policy)
        if rerun_detectors:
            from stackwitness.evidence.command import run_rerun

            code = run_rerun(wiring, as_json=as_json) or code
    raise typer.Exit(code)


@app.command()
def rebuild(
    from_tiles: Annotated[str, typer.Option(help="folder or URL of the published log; HOME/log")] = "",
    policy: Annotated[Path | None, typer.Option(help="policy file to hold the checkpoint against")] = None,
    disclosures: Annotated[
        Path | None, typer.Option(help="disclosures.jsonl of bundles: gives back the free texts")
    ] = None,
    home: Home = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of lines")] = False,
) -> None:
    """Restore a lost or edited database from the published log: 0 nothing differed, 1 put right, 2 some lost."""
    from stackwitness.db.embedded import migrate_database, open_database
    from stackwitness.log.rebuild.command import run_rebuild
    from stackwitness.wiring import wire

    settings = load_settings(home)
    place = from_tiles or str(settings.log_dir)
    migrate_database(settings)  # a database that is gone altogether starts as an empty one
    with open_database(settings, owner=True) as url, naming_causes(url):
        wiring = wire(settings.model_copy(update={"database_url": url}))
        code = run_rebuild(
            wiring.engine,
            settings,
            wiring.service_key,
            place,
            policy,
            disclosures=disclosures,
            as_json=as_json,
        )
        wiring.engine.dispose()
    raise typer.Exit(code)


@app.command()
def freeze(
    successor_home: Annotated[Path, typer.Option(help="empty folder of the log that follows")],
    successor_origin: Annotated[str, typer.Option(help="its name; by default this one's, a year later")] = "",
    why: Annotated[str, typer.Option(help="the event names it by salted hash")] = "end of the year",
    home: Home = None,
) -> None:
    """End this log for ever and make its successor; run it while `up` runs. Run again, it goes on where it was."""
    from stackwitness.log.freezing import run_freeze
    from stackwitness.log.service_keys import open_service_key

    settings = load_settings(home)
    successor = run_freeze(settings, open_service_key, successor_home, successor_origin, why)
    typer.echo(f"{settings.log_origin} is frozen. Start its successor with")
    typer.echo(f"  STACKWITNESS_LOG_ORIGIN={successor.log_origin} stackwitness up --home {successor.home}")


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="new folder to write")],
    home: Home = None,
) -> None:
    """Copy database, published log, signer and keys, in the order that restores; the service may go on."""
    from stackwitness.backup import make_backup

    for line in make_backup(load_settings(home), folder):
        typer.echo(line)


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="folder that `backup` wrote")],
    home: Home = None,
) -> None:
    """Make an empty home again from a backup; then `fsck`, or `rebuild` where the published log went on."""
    from stackwitness.backup import restore_backup

    for line in restore_backup(load_settings(home), folder):
        typer.echo(line)


@app.command()
def anchor(home: Home = None) -> None:
    """Have the published checkpoint time-stamped now by every authority of the settings; 1 when one failed."""
    from stackwitness.log.loop import make_anchors

    with opened(home) as wiring:
        anchors = make_anchors(wiring)
        if anchors is None:
            raise typer.BadParameter("the setting tsa_urls names no authority")
        for made in anchors.take_round(now=True):
            typer.echo(f"{made.file}: {made.tsa}, {made.gen_time_ms} ms")
        for warning in anchors.warnings:
            typer.echo(f"{warning.text}", err=True)
    raise typer.Exit(1 if anchors.warnings else 0)
