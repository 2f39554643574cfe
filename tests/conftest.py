"""Fixtures for every test; see tests/support."""

import os

import pytest

from tests.support.database import NOT_ON_ONE_BACKEND, TEST_URL, cluster, database_url, engine, template
from tests.support.service import service, signer
from tests.support.settings import settings

USE_A_DATABASE = {"database_url", "cluster"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a foreign one-backend server, leave out what uses no database, and skip by name what it cannot do."""
    if TEST_URL not in os.environ:
        return
    unasked = [item for item in items if not USE_A_DATABASE & set(getattr(item, "fixturenames", ()))]
    config.hook.pytest_deselected(items=unasked)
    items[:] = [item for item in items if item not in set(unasked)]
    for item in items:
        for part, reason in NOT_ON_ONE_BACKEND.items():
            if part in item.nodeid:
                item.add_marker(pytest.mark.skip(reason=reason))


__all__ = ["cluster", "database_url", "engine", "service", "settings", "signer", "template"]
