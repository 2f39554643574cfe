"""A pytest plugin (`-p tests.support.outcomes`): append each test's outcome to the file STACKWITNESS_OUTCOMES names.

One JSON line a test: [outcome, the test's id, why it was skipped]; one a test that was left out: ["deselected", id, ""].
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

OUTCOMES = "STACKWITNESS_OUTCOMES"
SKIPPED_WORD = "Skipped: "


def pytest_deselected(items: Iterable[pytest.Item]) -> None:
    """Note what was left out."""
    for item in items:
        _note("deselected", item.nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what a test came to, and a set-up or tear-down only where it decides the test."""
    if report.when == "call" or report.outcome != "passed":
        why = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
        _note(report.outcome, report.nodeid, why.removeprefix(SKIPPED_WORD))


def _note(outcome: str, name: str, why: str = "") -> None:
    with Path(os.environ[OUTCOMES]).open("a", encoding="utf-8") as file:
        file.write(json.dumps([outcome, name, why]) + "\n")
