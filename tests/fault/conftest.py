"""Fixtures of the faults: the world they break, and the table they are written into."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stackwitness.db.embedded import Cluster
from tests.fault.world import Base, World, make_base

Note = Callable[[str, str, str, str], None]


@pytest.fixture(scope="session")
def base(cluster: Cluster, template: str, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Make the world that all faults begin with, once."""
    return make_base(cluster, template, tmp_path_factory.mktemp("fault-base"))


@pytest.fixture
def world(base: Base, tmp_path: Path) -> Iterator[World]:
    """Give the test a copy of the base."""
    with base.world(tmp_path) as copy:
        yield copy


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Note:
    """Give the function that adds a row to the table: write, fault, what happened, how it was recovered."""

    def add(write: str, fault: str, happened: str, recovered: str) -> None:
        record_property("fault", (write, fault, happened, recovered))

    return add


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long rest of the table to `make test-faults` (python -m tests.fault)."""
    if getattr(config, "whole_faults", False):
        return
    rest = [item for item in items if item.get_closest_marker("whole")]
    if rest:
        config.hook.pytest_deselected(items=rest)
        items[:] = [item for item in items if item not in rest]
