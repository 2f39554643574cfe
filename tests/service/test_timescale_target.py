"""What `make test-timescale` leaves out is there to be left out, and its summary counts every test once."""

from pathlib import Path

from tests.support.database import NOT_ON_ONE_BACKEND
from tests.support.timescale_server import ROOMS, summarize

ROOT = Path(__file__).parents[2]


def test_what_is_left_out_by_name_is_a_test_that_uses_the_database() -> None:
    files = {
        file.stem: file.read_text(encoding="utf-8") for room in ROOMS for file in (ROOT / room).glob("*.py")
    }
    for part in NOT_ON_ONE_BACKEND:
        name = part.partition("[")[0]
        holding = [stem for stem, text in files.items() if stem.startswith(name) or f"def {name}" in text]
        assert holding, f"no test is called {part}"
    assert all(len(reason) > 20 for reason in NOT_ON_ONE_BACKEND.values())


def test_the_summary_counts_every_test_once() -> None:
    outcomes = [
        ["passed", "a::1", ""],
        ["passed", "a::2", ""],
        ["failed", "a::2", ""],  # its tear-down
        ["failed", "a::3", ""],
        ["skipped", "b::1", "two backends"],
        ["skipped", "b::2", "two backends"],
        ["skipped", "b::3", "no cluster"],
        ["deselected", "c::1", ""],
    ]
    assert [line.split(maxsplit=1) for line in summarize(outcomes)] == [
        ["1", "passed"],
        ["2", "failed"],
        ["a::2"],
        ["a::3"],
        ["3", "skipped"],
        ["2", "two backends"],
        ["1", "no cluster"],
        ["1", "not asked: they use no database of the server's"],
    ]
