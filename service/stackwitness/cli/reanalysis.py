"""The command that judges stored readings again."""

from typing import Annotated

import typer

from stackwitness.cli.opening import Home, opened

app = typer.Typer()


@app.command()
def reanalyse(
    station: Annotated[str, typer.Option(help="only these, joined by commas")] = "",
    jobs: Annotated[int, typer.Option(help="processes, or workers of a local cluster", min=1)] = 1,
    scheduler: Annotated[
        str, typer.Option(help="Dask: `local`, or a scheduler's address; processes of our own without it")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a station")] = False,
    home: Home = None,
) -> None:
    """Run all detectors over all stored readings again and compare with the log; prints the time it took."""
    from stackwitness.evidence.reanalysis import run_reanalysis
    from stackwitness_detectors import DetectorError

    wanted = [name.strip() for name in station.split(",") if name.strip()]
    try:
        with opened(home) as wiring:
            code = run_reanalysis(wiring, wanted, jobs, scheduler, as_json=as_json)
    except DetectorError as wrong:
        typer.echo(f"{wrong}", err=True)
        raise typer.Exit(3) from wrong
    raise typer.Exit(code)
