"""docs/database.md against the tests it names: the matrix of rights and the superuser's deeds."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "database.md").read_text(encoding="utf-8")
TESTS = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))


def test_the_matrix_is_the_tested_one() -> None:
    source = (ROOT / "tests/security/test_grants.py").read_text(encoding="utf-8")
    tested = re.search(r'MATRIX = """\n(.*?)"""', source, re.DOTALL)
    assert tested is not None
    assert tested[1] in PAGE


def test_each_deed_has_a_test_and_each_test_a_line() -> None:
    deeds = set(re.findall(r'Deed\(\s*"(\w+)"', TESTS))
    table = PAGE.partition("## What a superuser can still do")[2]
    named = set(re.findall(r"`(\w+)`[^|]*\|$", table, re.MULTILINE)) | set(re.findall(r"`(test_\w+)`", table))
    assert deeds <= set(re.findall(r"`(\w+)`", table))
    assert {name for name in named if name not in deeds and f"def {name}(" not in TESTS} == set()
