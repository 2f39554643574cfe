"""Commands that measure: the service beside its peers or its limits, the detectors beside theirs."""

from pathlib import Path
from typing import Annotated

import typer

from stackwitness.cli.opening import Home, load_settings

app = typer.Typer(help="Measure this machine, or the detectors.")


@app.callback(invoke_without_command=True)
def bench(context: typer.Context) -> None:
    """Measure this machine: the service beside its peers or its limits, in one run."""
    if context.invoked_subcommand is None:
        ingest()


@app.command()
def ingest(
    rounds: Annotated[int, typer.Option(help="runs of each contender; medians are shown", min=1)] = 3,
) -> None:
    """Post readings to the service and to a plain peer."""
    from stackwitness.bench.ingest import run

    run(rounds)


@app.command()
def log(entries: Annotated[int, typer.Option(help="entries to fill it with", min=1000)] = 100_000) -> None:
    """Fill a log and check it."""
    from stackwitness.bench.log import run

    run(entries)


@app.command()
def evidence(
    readings: Annotated[int, typer.Option(help="readings in the bundle", min=720)] = 1_000_000,
) -> None:
    """Make and verify a large bundle."""
    from stackwitness.bench.evidence import run

    run(readings)


@app.command()
def hammer(
    seconds: Annotated[int, typer.Option(help="how long", min=5)] = 60,
    rate: Annotated[int, typer.Option(help="envelopes a second", min=1)] = 300,
    witnesses: Annotated[int, typer.Option(help="witnesses that cosign", min=0)] = 0,
) -> None:
    """Post on a fixed beat and time the receipts."""
    from stackwitness.bench.hammer import run

    run(seconds, rate, witnesses)


@app.command()
def detect(
    manifest: Annotated[Path, typer.Option(help="stations.toml, or the folder that holds it")],
    out: Annotated[Path, typer.Option(help="report.json; .md, .svg and the journal lie beside it")],
    data: Annotated[Path | None, typer.Option(help="folder of the data sets (STACKWITNESS_DATA)")] = None,
    budget: Annotated[
        str, typer.Option(help="false alarms a station-month, comma-separated")
    ] = "1,0.25,0.083",
    kinds: Annotated[str, typer.Option(help="kinds of forgery, comma-separated; all when empty")] = "",
    seed: Annotated[str, typer.Option(help="of the forgeries; several, comma-separated")] = "0",
    trials: Annotated[int, typer.Option(help="forgeries of each kind", min=1)] = 24,
    stations: Annotated[str, typer.Option(help="only these, comma-separated")] = "",
    split: Annotated[
        str, typer.Option(help="where calibration and test begin: two years, or two shares of the time")
    ] = "0.5,0.75",
    strengths: Annotated[str, typer.Option(help="of faint, mild, strong, gross")] = "faint,mild,strong,gross",
    durations: Annotated[str, typer.Option(help="of short, medium, long")] = "short,medium,long",
    without: Annotated[
        str, typer.Option(help="tests that are off, comma-separated (copy, level, second_opinion...)")
    ] = "",
    days: Annotated[int, typer.Option(help="only the last days of each station; 0: all", min=0)] = 0,
    exceeded: Annotated[
        float,
        typer.Option(
            help="where no limit is named, assume one that this share lies above; 0: none", min=0, max=1
        ),
    ] = 0.2,
    plain: Annotated[
        bool, typer.Option("--plain", help="daily tests by their reference's highest value, not by rates")
    ] = False,
    jobs: Annotated[int, typer.Option(help="processes, or workers of a local cluster", min=1)] = 1,
    scheduler: Annotated[
        str, typer.Option(help="Dask: `local`, or a scheduler's address; processes of our own without it")
    ] = "",
    peers: Annotated[bool, typer.Option(help="also run the peers of `bench peers-setup`")] = True,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="run again without each family, and plain; one table")
    ] = False,
    attacks: Annotated[
        int, typer.Option(help="places of a station where an adaptive attacker plays; slow", min=0)
    ] = 0,
    home: Home = None,
) -> None:
    """Count false alarms on untouched data and forgeries found; run again, it goes on where it was."""
    from stackwitness.bench.detect_command import run_arguments

    code = run_arguments(
        manifest=manifest, out=out, data=data or load_settings(home).data, budget=budget, kinds=kinds, seed=seed,
        trials=trials, stations=stations, split=split, strengths=strengths, durations=durations, without=without,
        days=days, exceeded=exceeded, plain=plain, jobs=jobs, scheduler=scheduler, peers=peers, ablation=ablation,
        attacks=attacks,
    )  # fmt: skip
    raise typer.Exit(code)


@app.command(name="peers-setup")
def peers_setup() -> None:
    """Install the peers' packages in an environment of their own (bench/.peers)."""
    from stackwitness.bench.detect_peers import setup

    raise typer.Exit(setup())
