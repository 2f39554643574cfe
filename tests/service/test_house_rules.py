"""House rules that no linter knows: who may read the environment, the clock, the database."""

import re
from pathlib import Path

import pytest

SERVER = Path(__file__).parents[2] / "service" / "stackwitness"
RULES = [
    ("reads the environment", r"os\.environ|os\.getenv", r"^(settings|wiring)\.py$|^(cli|bench)/"),
    (
        "asks what time it is",
        r"datetime\.now\(|datetime\.utcnow\(|time\.time\(|time\.time_ns\(",
        r"^clock\.py$",
    ),
    ("holds SQL", r"\b(?:sa\.)?text\(\s*[\"'f]|exec_driver_sql", r"^(db|log|bench)/|(^|/)queries\.py$"),
    (
        "names TimescaleDB's functions",
        r"create_hypertable|columnstore|time_bucket|run_job",
        r"^db/timescale\.py$",
    ),
]


@pytest.mark.parametrize(("what", "pattern", "allowed"), RULES, ids=[rule[0] for rule in RULES])
def test_only_one_place(what: str, pattern: str, allowed: str) -> None:
    offenders = [
        name
        for path in sorted(SERVER.rglob("*.py"))
        if re.search(pattern, path.read_text())
        and not re.search(allowed, name := path.relative_to(SERVER).as_posix())
    ]
    assert offenders == [], what


def test_every_transaction_names_its_role() -> None:
    """A transaction without a role has the rights of the login: none in production, all in a careless set-up.

    Rebuilding, and filling a successor's database, is the owner's own work.
    """
    offenders = [
        f"{name}: {call.strip()}"
        for path in sorted(SERVER.rglob("*.py"))
        if not (name := path.relative_to(SERVER).as_posix()).startswith(("db/", "bench/", "log/rebuild/"))
        for call in re.findall(r"\bunit_of_work\((.*?)\) as ", path.read_text(), re.DOTALL)
        if '"sw_' not in call
    ]
    assert offenders == []
