"""`bench/show.py`: a plan over folders it has never seen; one report, the same after it was broken off; refusals in a line."""

from __future__ import annotations

import json
import re
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import refusal
import show
import show_plan
from lay_mix import ROOT, SPLIT

from stackwitness.bench import detect_work
from tests.support.dataset import write_plant

SPLIT_PARTS = tomllib.loads(SPLIT.read_text())
DESIGN, APART = (SPLIT_PARTS[part]["real"][0]["stations"][0] for part in ("design", "apart"))
NEVER = "kiln-of-nobody"
PLAN = """
seeds = [3]
budgets = [0.25]
kinds = ["freeze", "rounded"]
split = [0.5, 0.7]

[[run]]
manifest = "mills"
trials = 2

[[run]]
manifest = "kiln"
trials = 1
"""


def lay(room: Path, name: str, stns: list[str]) -> None:
    """Write a manifest folder of four weeks at each station."""
    texts = []
    for number, stn in enumerate(stns):
        data = room / "data" / stn
        data.mkdir(parents=True)
        text = write_plant(data, days=28, seed=7 + number)[0].read_text()
        text = (
            text.replace("mill-1", stn).replace("plant.csv", f"{stn}/plant.csv").replace("A simulated", name)
        )
        texts.append(text if not number else text[text.index("[[stations]]") :])
    (room / "manifests" / name).mkdir(parents=True)
    (room / "manifests" / name / "stations.toml").write_text("\n".join(texts))


def play(room: Path, *arguments: str) -> int:
    rooms = [
        "--manifests",
        str(room / "manifests"),
        "--data",
        str(room / "data"),
        "--no-peers",
        "--jobs",
        "1",
    ]
    return refusal.ended(show.main, [*arguments, "--plan", str(room / "plan.toml"), *rooms])


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measure the first set, broken off once and gone on with; then the second."""
    folder = tmp_path_factory.mktemp("show")
    lay(folder, "mills", [DESIGN, APART])
    lay(folder, "kiln", [NEVER])
    (folder / "plan.toml").write_text(PLAN)
    done: list[str] = []
    whole = detect_work.do

    def killed(pieces: Any, pool: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, found in whole(pieces, pool):
            if len(done) == 2:
                raise KeyboardInterrupt
            done.append(name)
            yield name, found

    def watched(pieces: Any, pool: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, found in whole(pieces, pool):
            assert name not in done, "done a second time"
            done.append(name)
            yield name, found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(detect_work, "do", killed)
        with pytest.raises(KeyboardInterrupt):
            play(folder, "run", str(folder / "out"), "--only", "mills")
        assert play(folder, "report", str(folder / "out")) == 2
        patched.setattr(detect_work, "do", watched)
        assert play(folder, "run", str(folder / "out"), "--only", "mills") == 0
    (folder / "first.json").write_text((folder / "out" / "report.json").read_text())
    assert play(folder, "run", str(folder / "out")) == 0
    return folder


def report_of(room: Path, name: str = "out/report.json") -> dict[str, Any]:
    told: dict[str, Any] = json.loads((room / name).read_text())
    return told


def test_a_second_set_is_merged_with_the_first(room: Path) -> None:
    first, both = report_of(room, "first.json"), report_of(room)
    assert (first["trials"], both["trials"]) == (4, 6)
    assert sorted(both["stations"]) == sorted([DESIGN, APART, NEVER])
    assert both["budgets"]["0.25"]["trials_by_kind"] == {"freeze": 3, "rounded": 3}
    alone = both["groups"]["mills mill"]["stackwitness"]["0.25"]
    assert alone["recall_by_kind"] == first["budgets"]["0.25"]["recall_by_kind"]
    assert alone["station_months"] < both["budgets"]["0.25"]["station_months"]
    assert both["configurations_alike"]
    assert set(both["hours"]) == {"mills", "kiln"}


def test_stations_are_grouped_by_the_split(room: Path) -> None:
    groups = report_of(room)["groups"]
    for name in ("stations of the design", "stations apart", "stations never used"):
        told = groups[name]["stackwitness"]["0.25"]
        assert sum(told["trials_by_kind"].values()) == 2
        assert told["worst_station"] in (None, DESIGN, APART, NEVER)
    assert show.parts_of([NEVER]) == {
        "stations with months of data": [NEVER],
        "stations never used": [NEVER],
    }


def test_again_nothing_is_measured_and_the_report_is_the_same(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(pieces: Any, pool: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        assert not pieces
        return iter(())

    before = report_of(room)
    monkeypatch.setattr(detect_work, "do", work)
    assert play(room, "run", str(room / "out")) == 0
    after = report_of(room)
    assert {**after, "hours": 0} == {**before, "hours": 0}


def test_a_set_of_a_week_is_left_out_of_the_groups(room: Path) -> None:
    plan = show_plan.read_plan(room / "plan.toml")
    plan["run"][1]["brief"] = True
    report = show.merge(plan, room / "out")
    assert "stations never used" not in report["groups"]
    assert len(report["stations"]) == 3


def test_the_page_is_whole(room: Path) -> None:
    play(room, "report", str(room / "out"))
    page = (room / "out" / "report.md").read_text()
    for stray in ("nan", "None", "{", "}", "Mapping", "dict"):
        assert stray not in page
    tables = [block for block in page.split("\n\n") if block.lstrip().startswith("|")]
    assert len(tables) >= 6
    for table in tables:
        assert len({line.count("|") for line in table.strip().splitlines() if line.startswith("|")}) == 1, (
            table
        )
    assert re.search(r"^\| freeze \| 3 \|", page, re.MULTILINE)
    for picture in ("report.svg", "probe.svg"):
        assert f"({picture})" in page
        assert "nan" not in "".join(ET.parse(room / "out" / picture).getroot().itertext())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (('kinds = ["freeze", ', 'kinds = ["freze", '), "the forge makes no freze"),
        (("seeds =", "seed ="), "has no seed"),
        (("trials = 1", ""), "run 2 names no trials"),
        (("trials = 1", 'trials = "1"'), "trials = '1' is of another kind"),
        (('"kiln"', '"mills"'), "named twice: mills"),
        (('"kiln"', '"kilns"'), "kilns"),
        (("[3]", "[3"), "no TOML"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_a_line(
    tmp_path: Path, room: Path, wrong: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN.replace(*wrong))
    arguments = ["run", str(tmp_path / "out"), "--plan", str(tmp_path / "plan.toml")]
    assert refusal.ended(show.main, [*arguments, "--manifests", str(room / "manifests")]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_plan_that_is_not_there_a_set_outside_it_and_no_report_are_refused(
    tmp_path: Path, room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = str(tmp_path / "nowhere")
    assert refusal.ended(show.main, ["run", nowhere, "--plan", nowhere]) == 2
    assert play(room, "run", nowhere, "--only", "kilns") == 2
    assert play(room, "report", nowhere) == 2
    assert play(room, "ablation", nowhere) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 4
    for line, said in zip(
        told, ("No such file", "not in the plan: kilns", "no finished report", "no ablation"), strict=True
    ):
        assert said in line
    with pytest.raises(SystemExit) as left:
        show.main(["run"])
    assert left.value.code == 2


def test_the_plan_that_is_kept_can_be_run() -> None:
    plan = show_plan.read_plan(ROOT / "bench" / "show.toml")
    show_plan.check_manifests(plan, ROOT / "manifests")
    for part in plan["run"]:
        assert show_plan.settings_of(plan, part).trials == part["trials"]
