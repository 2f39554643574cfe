"""`bench detect` on a folder it has never seen: one report, the same after a kill, and it says when peers are missing."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from stackwitness import pool
from stackwitness.bench import detect, detect_ablation, detect_attack, detect_counted, detect_work
from stackwitness.bench.detect_command import read_settings
from stackwitness.bench.detect_data import open_place, read_station, with_limits
from stackwitness.bench.detect_journal import Journal
from stackwitness.cli import app
from stackwitness.pool import open_pool
from stackwitness_client.manifest import load_manifest
from stackwitness_detectors import DetectorError, Frame
from stackwitness_detectors.bench.trials import trial_of
from stackwitness_detectors.config import Config
from tests.support.dataset import write_plant

SETTINGS = detect.Settings(("freeze", "replay_exact"), (3,), 2, (0.6, 0.8), ("gross",), ("short",))
TWO = (1.0, 0.25)  # one in which a run is killed, and one that it had not begun
PROMISED = {
    "realised_rate", "realised_rate_upper95", "worst_station_rate", "station_months", "mean_recall",
    "recall_by_kind", "median_delay_h_by_kind", "attribution_top1", "attribution_top3",
    "seconds_per_station_hour",
}  # fmt: skip


def measure(folder: Path, out: Path, budgets: tuple[float, ...] = detect.BUDGETS) -> dict[str, Any]:
    return detect.run(folder / "stations.toml", folder, out, SETTINGS, budgets, peers=folder / "nowhere")


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unseen")
    write_plant(folder, days=60)
    return folder


@pytest.fixture(scope="module")
def report(plant: Path) -> dict[str, Any]:
    return measure(plant, plant / "report.json")


def untimed(node: Any) -> Any:
    """Leave out what a clock measured."""
    if isinstance(node, dict):
        return {k: untimed(v) for k, v in node.items() if k != "seconds_per_station_hour"}
    return node


def of_two_budgets(report: dict[str, Any]) -> dict[str, Any]:
    """Keep what the report says of TWO; the rest of it is of all budgets alike."""
    kept = {key: {f"{b:g}": report[key][f"{b:g}"] for b in TWO} for key in ("budgets", "config_hash")}
    return {**report, **kept}


def test_the_report_has_what_was_promised(plant: Path, report: dict[str, Any]) -> None:
    assert set(report["budgets"]) == {"1", "0.25", "0.083"}
    for told in report["budgets"].values():
        assert set(told) >= PROMISED
        assert told["recall_by_kind"] == {"freeze": 1.0, "replay_exact": 1.0}
        assert told["median_delay_h_by_kind"]["freeze"] < 12
        assert told["left_out"]["copy"]["mean_recall"] <= 1.0
    assert json.loads((plant / "report.json").read_text()) == report


def test_what_was_counted_gives_the_same_figures_alone_and_joined(
    plant: Path, report: dict[str, Any]
) -> None:
    kept = detect_counted.load(plant / "report.json")
    for budget, counted in kept["stackwitness"].items():
        figures = detect_counted.figures(counted, budget, (3,))
        told = report["budgets"][f"{budget:g}"]
        assert figures == {key: told[key] for key in figures}
    twice = detect_counted.joined([kept, kept])["stackwitness"][0.25]
    both = detect_counted.figures(twice, 0.25, (3,))
    assert both["trials_by_kind"] == {"freeze": 4, "replay_exact": 4}
    assert both["station_months"] == pytest.approx(2 * report["budgets"]["0.25"]["station_months"], rel=1e-5)
    assert not detect_counted.at_stations(kept, [])["stackwitness"][0.25].outcomes


def test_further_seeds_go_on_with_strengths_and_lengths(plant: Path, report: dict[str, Any]) -> None:
    places = {"mill-1": open_place(plant / "report.work" / "mill-1.npz")}
    settings = detect.Settings(("freeze",), (3, 4), 2, (0.6, 0.8), ("strong", "gross"), ("short", "medium"))
    made = [trial_of(tree) for tree in detect._plan(places, settings)["trials"]]
    assert [(t.seed, t.made.level, t.made.duration) for t in made] == [
        (3, "strong", "short"), (3, "gross", "short"), (4, "strong", "medium"), (4, "gross", "medium"),
    ]  # fmt: skip
    assert len({t.id for t in made}) == 4


def test_page_and_picture_lie_beside_it(plant: Path, report: dict[str, Any]) -> None:
    page = (plant / "report.md").read_text()
    assert "| freeze | 2 |" in page
    assert "peers not run: no environment in" in page
    assert report["peers_not_run"].startswith("no environment in")
    drawn = ET.parse(plant / "report.svg").getroot()
    assert "replay exact" in "".join(drawn.itertext())


def test_a_killed_run_goes_on_and_gives_the_same(
    plant: Path, report: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    whole = detect_work.do

    def killed(pieces: Any, pool: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, found in whole(pieces, pool):
            if len(done) == 3:
                raise KeyboardInterrupt
            done.append(name)
            yield name, found

    out = plant / "again.json"
    with monkeypatch.context() as patched:
        patched.setattr(detect_work, "do", killed)
        with pytest.raises(KeyboardInterrupt):
            measure(plant, out, TWO)
    with (plant / "again.jsonl").open("a") as journal:
        journal.write('{"key": "torn off he')
    again: list[str] = []

    def watched(pieces: Any, pool: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, found in whole(pieces, pool):
            again.append(name)
            yield name, found

    monkeypatch.setattr(detect_work, "do", watched)
    assert untimed(measure(plant, out, TWO)) == untimed(of_two_budgets(report))
    assert len(done) == 3
    assert len(again) == len(TWO) * (1 + 4) - 3  # budgets, clean and forged
    assert not set(done) & set(again)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kinds", "bribery"], "bribery"),
        (["--split", "2019,2020"], "leave a part of the data empty"),
        (["--split", "x"], "no list of numbers"),
        (["--seed", "1.5"], "whole numbers"),
        (["--seed", "-1"], "whole numbers"),
        (["--split", "nan,nan"], "no list of numbers"),
        (["--budget", "0"], "false alarms a station-month"),
        (["--budget", "inf"], "no list of numbers"),
        (["--strengths", "nope"], "faint"),
        (["--durations", ","], "medium"),
        (["--stations", "nope"], "no station nope"),
        (["--out", "report.md"], "*.json"),
        (["--out", "/"], "*.json"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(plant: Path, arguments: list[str], said: str) -> None:
    where = ["--manifest", str(plant), "--data", str(plant), "--out", str(plant / "no.json")]
    refused = CliRunner().invoke(app, ["bench", "detect", *where, *arguments])
    assert refused.exit_code == 2
    assert said in refused.output


def test_a_damaged_state_is_no_empty_one(tmp_path: Path) -> None:
    for state in (None, b"", b"SWDS"):
        detect_work.keep_state(tmp_path / "x.state", state)
        assert detect_work.kept_state(tmp_path / "x.state") == state
    for damaged in (b"", b"SWDS", b"00"):
        (tmp_path / "x.state").write_bytes(damaged)
        with pytest.raises(DetectorError) as refused:
            detect_work.kept_state(tmp_path / "x.state")
        assert refused.value.code == "bench.state"


@pytest.mark.parametrize("line", [b"\xff\xfe", b"5", b"[]", b"{}", b"null", b'{"key": "k", "what": "w"}'])
def test_what_is_no_line_of_a_journal_is_dropped(tmp_path: Path, line: bytes) -> None:
    whole = b'{"found": {"x": 1}, "key": "k", "what": "w"}\n'
    (tmp_path / "j.jsonl").write_bytes(line + b"\n" + whole + line)
    journal = Journal(tmp_path / "j.jsonl", "k")
    journal.close()
    assert journal["w"] == {"x": 1}
    assert (tmp_path / "j.jsonl").read_bytes() == whole


def test_whoever_does_the_work_the_report_is_the_same(tmp_path: Path) -> None:
    write_plant(tmp_path, days=20)
    settings = detect.Settings(("freeze",), (3,), 2, (0.5, 0.7), ("gross",), ("short",))
    told = []
    for name, jobs, scheduler in (("here", 1, ""), ("processes", 2, ""), ("dask", 2, "local")):
        out = tmp_path / f"{name}.json"
        report = detect.run(
            tmp_path / "stations.toml", tmp_path, out, settings, (0.25,), jobs=jobs, scheduler=scheduler
        )
        told.append(json.dumps(untimed(report)))
    assert told[1:] == told[:1] * 2


def test_a_scheduler_that_does_not_answer_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PATIENCE", "1s")
    with pytest.raises(DetectorError) as refused, open_pool(1, "tcp://127.0.0.1:9", tmp_path):
        pass
    assert refused.value.code == "pool.address"


def test_the_attacker_tells_what_he_hides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect_attack, "TARGETS_PERCENT", (10.0, 40.0))
    monkeypatch.setattr(detect_attack, "EVALUATIONS", 2)
    write_plant(tmp_path, days=24)
    settings = detect.Settings(("freeze",), (3,), 1, (0.4, 0.6), ("gross",), ("short",))
    out = tmp_path / "attacked.json"
    told = detect.run(tmp_path / "stations.toml", tmp_path, out, settings, (0.25,), attacks=1)
    ours = told["budgets"]["0.25"]["attacker"]
    for target, row in ours["targets_percent"].items():
        assert row["attacks"] == 1
        if not row["impossible"]:
            assert row["hidden_percent"] >= float(target) - 1
            assert 0 <= row["until_found_percent"] <= row["hidden_percent"] + 0.01
    assert "An adaptive attacker" in out.with_suffix(".md").read_text()


def test_every_test_is_left_out_once_and_the_table_has_a_line_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = [test for tests in detect_ablation.variants().values() for test in tests]
    assert sorted(off) == sorted(f.name[:-7] for f in fields(Config) if f.name.endswith("_budget"))
    monkeypatch.setattr(detect_ablation, "variants", lambda: {"": (), "freeze": ("freeze", "near_freeze")})
    write_plant(tmp_path, days=20)
    settings = detect.Settings(("freeze",), (3,), 1, (0.5, 0.7), ("gross",), ("short",))
    out = tmp_path / "worth.json"
    whole = (tmp_path / "stations.toml", tmp_path, out, settings, (0.25,))
    told = detect_ablation.run(*whole)
    recall = {name: one["budgets"]["0.25"]["mean_recall"] for name, one in told.items()}
    assert recall[""] >= recall["freeze"]
    lines = [line for line in out.with_suffix(".md").read_text().splitlines() if line.startswith("| 0.25 ")]
    wanted = ["nothing", "freeze", "pooling over channels", "plain thresholds, no e-values"]
    assert [line.split(" | ")[1] for line in lines] == wanted


def test_a_variant_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    wanted = read_settings(
        "0.5,0.75", kinds="", strengths="gross", durations="short", without="", seed="0", trials=1, plain=False, days=0,
        exceeded=0.1,
    )  # fmt: skip
    with pytest.raises(DetectorError) as refused:
        detect_ablation.run(tmp_path, tmp_path, tmp_path / "a.json", wanted, (0.25,), only=("freezes",))
    assert refused.value.code == "bench.without"


def test_a_limit_is_assumed_from_what_came_before_the_test_part_where_none_is_named(tmp_path: Path) -> None:
    write_plant(tmp_path, days=20)
    source = load_manifest(tmp_path).stations[0]
    context, frame = read_station(source, tmp_path)
    bare = replace(context, channels=tuple(replace(c, limit=None) for c in context.channels))
    half = int(np.searchsorted(frame.at_ms, frame.at_ms[0] + (frame.at_ms[-1] - frame.at_ms[0]) * 0.7))
    for channel in with_limits(bare, frame, (0.5, 0.7), 0.1).channels:
        if channel.role != "pollutant":
            assert channel.limit is None
            continue
        past = frame.values[channel.name][:half]
        assert channel.limit == pytest.approx(np.nanquantile(past, 0.9), rel=0.06)
        changed = {**frame.values, channel.name: np.where(frame.at_ms > frame.at_ms[half], 1e6, past.max())}
        later = Frame(
            frame.at_ms, {**changed, channel.name: np.r_[past, changed[channel.name][half:]]}, frame.status
        )
        assert channel in with_limits(bare, later, (0.5, 0.7), 0.1).channels
    assert with_limits(bare, frame, (0.5, 0.7), 0.0) == bare
    known = replace(bare, channels=tuple(replace(c, limit=7.0) for c in bare.channels))
    assert with_limits(known, frame, (0.5, 0.7), 0.1) == known
