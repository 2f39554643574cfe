"""Run every fault and print the table: write, fault, what happened, how it was recovered.

python -m tests.fault [pytest options]
"""

import sys
from collections.abc import Iterator

import pytest

WIDTHS = (36, 34, 46)


class Table:
    """Collect the rows that the tests note, and print them as they come."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, str]] = []
        self.failed = 0

    def pytest_configure(self, config: pytest.Config) -> None:
        """Ask for the whole table."""
        config.whole_faults = True  # type: ignore[attr-defined]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the rows of one test."""
        if report.failed:
            self.failed += 1
            self.rows.append(("NOT RECOVERED", report.nodeid.split("::")[-1], report.when, ""))
        if report.when == "call":
            self.rows += [row for name, row in report.user_properties if name == "fault"]  # type: ignore[misc]

    def lines(self) -> Iterator[str]:
        """Yield the table's lines."""
        heading = ("write", "fault", "what happened", "recovered how")
        for row in (heading, tuple("-" * width for width in (*WIDTHS, 40)), *self.rows):
            yield "  ".join([f"{cell:{width}}" for cell, width in zip(row, WIDTHS, strict=False)] + [row[3]])
        yield f"{len(self.rows)} rows, {self.failed} not recovered"


def main() -> int:
    """Return pytest's exit code."""
    table = Table()
    options = ["-p", "no:xdist", "-q", "--no-header", "-rs", "tests/fault", *sys.argv[1:]]
    code = pytest.main(options, plugins=[table])
    print("\n".join(["", *table.lines()]))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
