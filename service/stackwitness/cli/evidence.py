"""Commands that make evidence and check it."""

from pathlib import Path
from typing import Annotated

import typer

from stackwitness.cli.opening import Home, opened

app = typer.Typer()


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
