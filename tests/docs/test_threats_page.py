"""docs/threats.md against the tests: every row names one, every name exists, no deed of the insider suite is missing."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.insider.table import DEEDS

TESTS = Path(__file__).resolve().parents[1]
PAGE = (TESTS.parent / "docs" / "threats.md").read_text(encoding="utf-8")
NAMES = {deed.name: deed for deed in DEEDS}


def rows(title: str, number: int = 0) -> list[list[str]]:
    """Return the cells of a table under a heading, without its head."""
    part = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    table = re.findall(r"(?:^\|.*\n)+", part + "\n", re.MULTILINE)[number]
    lines = table.splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@cache
def parsed(file: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the functions of a test file, and the words that can be ids of its cases: its own, or those of a table
    it takes from a neighbour.
    """
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    words = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is str
    }
    beside = f"tests.{file.split('/')[0]}."
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(beside):
            own, more = parsed(f"{(node.module or '').removeprefix('tests.').replace('.', '/')}.py")
            words |= own | more
    return frozenset(functions), frozenset(words) | functions


TABLES = [
    ("The threats of the design", 0),
    ("The insider's deeds", 1),
    ("Keys and people", 0),
    ("Accidents that look alike", 0),
    ("Hostile bytes", 0),
]


@pytest.mark.parametrize(("title", "number"), TABLES)
def test_every_row_names_tests_that_exist(title: str, number: int) -> None:
    found = rows(title, number)
    assert found
    for row in found:
        named = re.findall(r"`([^`]+)`", row[-1])
        assert named, row
        for name in named:
            if name in NAMES:
                continue
            file, _, function = name.partition("::")
            function, _, case = function.removesuffix("]").partition("[")
            functions, words = parsed(file)
            assert function in functions, name
            assert not case or case in words, name


def test_the_deeds_are_those_of_the_insider_suite() -> None:
    told = {row[0].strip("`"): row[2] for row in rows("The insider's deeds")}
    assert told == {deed.name: ", ".join(sign.check for sign in deed.signs) for deed in DEEDS}


def test_every_threat_of_the_design_is_there() -> None:
    assert len(rows("The threats of the design")) == 17


@pytest.mark.parametrize("folder", ["security", "fault", "conformance"])
def test_every_file_of_attacks_and_accidents_is_named(folder: str) -> None:
    files = sorted(path.name for path in (TESTS / folder).glob("test_*.py"))
    assert [name for name in files if f"{folder}/{name}::" not in PAGE] == [], "name them"
