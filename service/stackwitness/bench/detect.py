"""`stackwitness bench detect`: false alarms on clean data, forgeries found, peers, all in one resumable run."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from stackwitness.bench import (
    detect_attack,
    detect_counted,
    detect_fleet,
    detect_peers,
    detect_report,
    detect_work,
)
from stackwitness.bench.detect_data import (
    frame_hash,
    newest_days,
    open_place,
    read_station,
    save_station,
    with_limits,
)
from stackwitness.bench.detect_journal import Journal
from stackwitness.pool import Piece, Pool, code_hash, open_pool
from stackwitness_client.manifest import StationSource, load_manifest
from stackwitness_detectors import DetectorError
from stackwitness_detectors.bench.trials import Place, Trial, plan_trials, trial_of
from stackwitness_detectors.forge import KINDS
from stackwitness_detectors.memory import DAY_MS

BUDGETS = (1.0, 0.25, 0.083)
# These only count what is finished: when they change nothing need be replayed.
COUNTING = ("attribution.py", "attribution_table.py", "bench/metrics.py", "bench/budgets.py")


@dataclass(frozen=True)
class Settings:
    """Hold what decides the outcome of a run: with data and code it makes the key of the journal.

    `trials` are of each kind and seed; with several seeds each goes on with the strengths and durations where the one
    before it stopped. `without` names tests that are off; `plain` takes plain thresholds in place of rates; `days` cuts each
    station to its last days (0: all). Where the data name no limit one is assumed, for forgers and detectors alike, that the
    share `exceeded` of the readings before the test part lies above (0: none is).
    """

    kinds: tuple[str, ...]
    seeds: tuple[int, ...]
    trials: int
    split: tuple[float, float]
    levels: tuple[str, ...]
    durations: tuple[str, ...]
    without: tuple[str, ...] = ()
    plain: bool = False
    days: int = 0
    exceeded: float = 0.2


@dataclass(frozen=True)
class Run:
    """Hold an opened run: stations, planned trials, finished pieces."""

    places: dict[str, Place]
    trials: list[Trial]
    left_out: dict[str, str]
    skipped: dict[str, int]
    reasons: dict[str, str]
    journal: Journal
    folder: Path
    settings: Settings


def run(
    manifest: Path,
    data: Path,
    out: Path,
    settings: Settings,
    budgets: tuple[float, ...] = BUDGETS,
    stations: tuple[str, ...] = (),
    jobs: int = 1,
    peers: Path | None = None,
    console: Console | None = None,
    scheduler: str = "",
    attacks: int = 0,
) -> dict[str, Any]:
    """Measure and write `out` (JSON) with .md and .svg beside it; returns the report.

    `peers` is the folder of the peers' environment, None leaves them out; `jobs` and `scheduler` say who works, as
    `open_pool` takes them; `attacks` is at how many places of a station an adaptive attacker plays. Raises ManifestError, DetectorError (forge.kind, bench.split, bench.empty, bench.without, bench.stations,
    pool.*).
    """
    console = console or Console(stderr=True)
    with _progress(console) as progress:
        opened = _open(manifest, data, out, settings, stations, progress)
        try:
            with open_pool(jobs, scheduler, opened.folder) as pool:
                for budget in budgets:
                    _clean_and_forge(opened, budget, pool, progress)
                    pieces = detect_attack.pieces_of(opened, budget, attacks)
                    if attacks:
                        _do(
                            pieces, f"attacks, budget {budget:g}", len(pieces), pool, opened.journal, progress
                        )
            rivals, absent = detect_peers.judge(opened, peers, progress, jobs)
        finally:
            opened.journal.close()
    report, counted = detect_report.assemble(opened, budgets, rivals, absent, load_manifest(manifest).title)
    for budget in budgets if attacks else ():
        report["budgets"][f"{budget:g}"]["attacker"] = detect_attack.figures(opened, budget, attacks)
    detect_report.write(report, out)
    detect_counted.save(counted, out)
    return report


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _open(
    manifest: Path, data: Path, out: Path, settings: Settings, only: tuple[str, ...], progress: Progress
) -> Run:
    described = load_manifest(manifest).stations
    if unknown := sorted(set(only) - {s.stn for s in described}):
        raise DetectorError("bench.stations", f"the manifest describes no station {', '.join(unknown)}")
    sources = [s for s in described if not only or s.stn in only]
    folder = out.with_suffix(".work").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[str, Place] = {}
    left_out: dict[str, str] = {}
    hashes: dict[str, str] = {}
    bar = progress.add_task("reading", total=len(sources))
    open_place.cache_clear()
    for source, neighbour in zip(sources, _neighbours(sources), strict=True):
        context, frame = newest_days(read_station(source, data), settings.days)
        context = with_limits(context, frame, settings.split, settings.exceeded)
        save_station(folder / f"{source.stn}.npz", context, frame, settings.split, neighbour)
        hashes[source.stn] = frame_hash(context, frame)
        progress.advance(bar)
    for source in sources:
        try:
            places[source.stn] = open_place(folder / f"{source.stn}.npz")
        except DetectorError as wrong:
            left_out[source.stn] = str(wrong)
    if not places:
        raise DetectorError("bench.empty", f"no station can be split: {left_out}")
    code = code_hash(COUNTING)
    told = json.dumps({"data": hashes, "code": code, "settings": asdict(settings)}, sort_keys=True)
    journal = Journal(out.with_suffix(".jsonl"), hashlib.sha256(told.encode()).hexdigest())
    if "plan" not in journal:
        journal.add("plan", _plan(places, settings))
    planned = journal["plan"]
    trials = [trial_of(tree) for tree in planned["trials"]]
    return Run(places, trials, left_out, planned["skipped"], planned["reasons"], journal, folder, settings)


def _plan(places: dict[str, Place], settings: Settings) -> dict[str, Any]:
    """Plan the trials of all seeds; clean runs, states and the peers' models are then made once for all of them."""
    trials: list[dict[str, Any]] = []
    skipped: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for number, seed in enumerate(settings.seeds):
        made, not_made, why = plan_trials(
            places,
            settings.kinds,
            settings.trials,
            seed,
            settings.levels,
            settings.durations,
            number * settings.trials,
        )
        trials += [t.tree() for t in made]
        skipped.update(not_made)
        reasons |= why
    return {"trials": trials, "skipped": dict(skipped), "reasons": reasons}


def _neighbours(sources: list[StationSource]) -> list[str | None]:
    """Name for each station the next one with the same channels: what a forger of the neighbourhood would copy."""
    found: list[str | None] = []
    for at, source in enumerate(sources):
        names = [c.name for c in source.channels]
        others = [*sources[at + 1 :], *sources[:at]]
        found.append(next((o.stn for o in others if [c.name for c in o.channels] == names), None))
    return found


def _clean_and_forge(opened: Run, budget: float, pool: Pool, progress: Progress) -> None:
    journal, folder, settings = opened.journal, opened.folder, opened.settings
    how = (budget, settings.without, settings.plain)
    days: dict[str, set[int]] = {stn: set() for stn in opened.places}
    for trial in opened.trials:
        days[trial.stn].add(trial.from_ms // DAY_MS)
    _lead_fleet(opened, budget, {day for each in days.values() for day in each}, pool, progress)

    def finished(stn: str) -> bool:
        return detect_work.clean_key(budget, stn) in journal and all(
            detect_work.state_path(folder, stn, day, budget).exists() for day in days[stn]
        )

    pieces: list[Piece] = [
        (
            detect_work.clean_key(budget, stn),
            detect_work.clean,
            (folder, stn, sorted(days[stn]), *how),
        )
        for stn in opened.places
        if not finished(stn)
    ]
    _do(pieces, f"clean, budget {budget:g}", len(opened.places), pool, journal, progress)
    pieces = [
        (
            detect_work.trial_key(budget, t.id),
            detect_work.forged,
            (folder, t.tree(), journal[detect_work.clean_key(budget, t.stn)]["alarms"], *how),
        )
        for t in opened.trials
        if detect_work.trial_key(budget, t.id) not in journal
    ]
    _do(pieces, f"forged, budget {budget:g}", len(opened.trials), pool, journal, progress)


def _lead_fleet(opened: Run, budget: float, days: set[int], pool: Pool, progress: Progress) -> None:
    """Judge the clean stations together, where some measure the same: first, since their alarms count as clean."""
    folder, settings = opened.folder, opened.settings
    stns = detect_fleet.stations_of(opened.places)
    name = detect_fleet.fleet_key(budget)
    done = name in opened.journal and detect_fleet.clean_path(folder, budget).exists()
    if len(stns) < 2 or done:
        return
    arguments = (folder, stns, sorted(days), budget, settings.without, settings.plain)
    _do(
        [(name, detect_fleet.clean, arguments)],
        f"fleet, budget {budget:g}",
        1,
        pool,
        opened.journal,
        progress,
    )


def _do(
    pieces: list[Piece], title: str, total: int, pool: Pool, journal: Journal, progress: Progress
) -> None:
    bar = progress.add_task(title, total=total, completed=total - len(pieces))
    for name, found in detect_work.do(pieces, pool):
        journal.add(name, found)
        progress.advance(bar)


def all_kinds(text: str) -> tuple[str, ...]:
    """Return the kinds named, comma-separated; all of the forge without any."""
    return tuple(dict.fromkeys(kind.strip() for kind in text.split(",") if kind.strip())) or tuple(KINDS)
