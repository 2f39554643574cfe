"""`learn_kinds`, `score_table` and `lay_mix`: what they write is what they were given, and a wrong file is refused in a line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import detect_simulated
import lay_mix
import learn_kinds
import numpy as np
import pytest
import refusal
import score_table

from stackwitness.bench.detect_data import read_station
from stackwitness_client.manifest import load_manifest
from stackwitness_client.simulator import ProvinceStation
from stackwitness_detectors import attribution_table
from stackwitness_detectors.bench.replay import Alarm
from stackwitness_detectors.bench.trials import Trial
from stackwitness_detectors.forge import Injection

ROOT = Path(__file__).parents[2]
DESIGN, APART = "uci-gt", "embassy-beijing"
HOUR_MS = 3_600_000


def alarm(detector: str, kind: str) -> Alarm:
    return Alarm(detector, "copy", (kind, "bootstrap"), 0, HOUR_MS, HOUR_MS, 100.0)


def journal(path: Path, told: list[tuple[str, str, list[Alarm]]]) -> Path:
    """Write a journal of trials (station, kind, alarms); clean runs say nothing."""
    trials = [
        Trial(f"{kind}.{n}.{stn}", stn, Injection(kind, "nox", "gross", 1.0, "short", 0, 24 * HOUR_MS, n), 0)
        for n, (stn, kind, _) in enumerate(told)
    ]
    pieces: dict[str, Any] = {"plan": {"trials": [t.tree() for t in trials]}}
    pieces |= {f"clean:0.25:{stn}": {"alarms": []} for stn, _, _ in told}
    pieces |= {
        f"trial:0.25:{t.id}": {"alarms": [asdict(a) for a in alarms]}
        for t, (_, _, alarms) in zip(trials, told, strict=True)
    }
    lines = [json.dumps({"key": "k", "what": what, "found": found}) for what, found in pieces.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def learned(path: Path) -> ModuleType:
    """Import a table that was written."""
    module = ModuleType("learned")
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module


@pytest.fixture
def small(tmp_path: Path) -> Path:
    said = [alarm("hold", "freeze"), alarm("hold", "freeze"), alarm("copy", "replay_exact")]
    trials = [(DESIGN, "freeze", said), (DESIGN, "freeze", []), (DESIGN, "scale", [alarm("level", "scale")])]
    return journal(tmp_path / "small.jsonl", [*trials, (APART, "freeze", said)])


def test_what_tests_say_is_counted_but_not_of_stations_apart(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.py"
    kept = attribution_table.TRIALS, attribution_table.COUNTS
    assert refusal.ended(learn_kinds.main, ["--to", str(out), str(small)]) == 0
    assert kept == (attribution_table.TRIALS, attribution_table.COUNTS)
    table = learned(out)
    assert table.TRIALS == {"freeze": 2, "scale": 1}
    assert table.COUNTS == {
        "copy:replay_exact": {"freeze": 1},
        "hold:freeze": {"freeze": 1},
        "level:scale": {"scale": 1},
    }
    assert not learn_kinds.teaches(APART)
    assert learn_kinds.teaches("cement-kiln-11-3600")
    assert not learn_kinds.teaches("cement-kiln-701-3600")
    for deed in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *deed, "--config", str(ROOT / "pyproject.toml"), str(out)]
        assert subprocess.run(ruff, check=False, capture_output=True).returncode == 0


def test_counts_are_added_to_those_of_the_table(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.py"
    assert refusal.ended(learn_kinds.main, ["--add", "--to", str(out), str(small)]) == 0
    table = learned(out)
    assert table.TRIALS["freeze"] == attribution_table.TRIALS["freeze"] + 2
    assert table.TRIALS["clip"] == attribution_table.TRIALS["clip"]
    before = attribution_table.COUNTS["hold:freeze"]["freeze"]
    assert table.COUNTS["hold:freeze"]["freeze"] == before + 1
    assert set(table.COUNTS) >= set(attribution_table.COUNTS)


def test_a_forgery_is_ranked_by_the_others_only(small: Path) -> None:
    trials = list(learn_kinds.heard_of(small))
    tried, counts = learn_kinds.learn(trials)
    whole = json.dumps([tried, counts])
    ranked = {kind: kinds for kind, _, kinds in learn_kinds.ranked_by_others(trials, tried, counts)}
    assert set(ranked) == {"freeze", "scale"}
    assert ranked["scale"][0] == "scale"
    assert json.dumps([tried, counts]) == whole


@pytest.mark.parametrize(
    ("text", "said"), [("{}\n", "no journal"), ('{"what": 1, "fo', "no journal"), ("", "holds no plan")]
)
def test_what_is_no_journal_is_refused(
    tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "wrong.jsonl", tmp_path / "table.py"
    path.write_text(text)
    assert refusal.ended(learn_kinds.main, ["--to", str(out), str(path)]) == 2
    assert said in capsys.readouterr().err
    apart = journal(tmp_path / "apart.jsonl", [(APART, "freeze", [])])
    assert refusal.ended(learn_kinds.main, ["--to", str(out), str(apart)]) == 2
    assert not out.exists()


FIGURES = {
    "realised_rate": 0.2, "realised_rate_lower95": 0.1, "realised_rate_upper95": 0.4, "alarmed_share": 0.02, "worst_station_rate": None,
    "station_months": 12.0, "mean_recall": 0.5, "mean_recall_interval95": None, "recall_by_kind": {"clip": 0.5},
    "attribution_top1": 0.5, "attribution_top3": 1.0, "seconds_per_station_hour": 0.004,
}  # fmt: skip
REPORT = {
    "title": "Small", "seeds": [0], "trials": 2, "stations": ["a"],
    "budgets": {"1": FIGURES, "0.25": FIGURES}, "peers": {"rival": {"0.25": FIGURES}},
}  # fmt: skip
PAGE = f"# Scores\n\nbefore\n\n{score_table.BEGIN}\n\nold\n\n{score_table.END}\n\nafter\n"


def test_a_report_comes_between_the_marks_and_its_table_is_well_formed(tmp_path: Path) -> None:
    report, kept, page = tmp_path / "r.json", tmp_path / "scores.json", tmp_path / "page.md"
    report.write_text(json.dumps(REPORT))
    page.write_text(PAGE)
    score_table.take([report], kept, page)
    text = page.read_text()
    assert text.startswith(f"# Scores\n\nbefore\n\n{score_table.BEGIN}\n\n|")
    assert text.endswith(f"\n\n{score_table.END}\n\nafter\n")
    assert "old" not in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
    assert text.count("| Small |") == 4  # a line for each budget, one for the rival, the title over its kinds
    assert "| clip | 0.5 |" in text
    score_table.take([], kept, page)
    assert page.read_text() == text


@pytest.mark.parametrize(
    "wrong", ["[]", "{", "{}", json.dumps({**REPORT, "budgets": 3}), json.dumps({**REPORT, "groups": {}})]
)
def test_a_file_that_is_no_report_changes_nothing(tmp_path: Path, wrong: str) -> None:
    report, kept, page = tmp_path / "r.json", tmp_path / "scores.json", tmp_path / "page.md"
    page.write_text(PAGE)
    report.write_text(wrong)
    with pytest.raises(refusal.Refusal, match=r"r\.json"):
        score_table.take([report], kept, page)
    report.write_text(json.dumps(REPORT))
    page.write_text("no marks")
    with pytest.raises(refusal.Refusal, match="marks"):
        score_table.take([report], kept, page)
    assert not kept.exists()
    assert page.read_text() == "no marks"


def test_the_tools_themselves_end_with_two_and_a_line(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, ROOT / "bench" / "score_table.py", tmp_path / "nowhere.json"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr == f"{tmp_path / 'nowhere.json'}: No such file or directory\n"


def test_a_station_that_is_laid_reads_back_as_it_was(tmp_path: Path) -> None:
    plant = ProvinceStation("glass-1-3600", "glass", "", "glass", 0.0, 0.0, 1)
    context, frame = detect_simulated.frame_of(plant, 2, 3600, honest=True)
    name = context.channels[0].name
    frame.values[name][5] = np.nan
    frame.status[name][5:8] = ord("C")
    part = lay_mix.lay(context, frame, tmp_path)
    (tmp_path / "stations.toml").write_text(f'[dataset]\ntitle = "t"\nagency = "a"\n{part}')
    again, read = read_station(load_manifest(tmp_path).stations[0], tmp_path)
    assert again == context
    assert (read.at_ms == frame.at_ms).all()
    for channel in context.channels:
        np.testing.assert_array_equal(read.values[channel.name], frame.values[channel.name])
        np.testing.assert_array_equal(read.status[channel.name], frame.status[channel.name])
