"""Fixtures for every test; see tests/support."""

import os

import pytest

from tests.support.database import NOT_ON_ONE_BACKEND, TEST_URL, cluster, database_url, engine, template
from tests.support.service import service, signer
from tests.support.settings import settings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On a foreign one-backend server, skip by name what it cannot do, with the reason."""
    if TEST_URL in os.environ:
        for item in items:
            for part, reason in NOT_ON_ONE_BACKEND.items():
                if part in item.nodeid:
                    item.add_marker(pytest.mark.skip(reason=reason))


__all__ = ["cluster", "database_url", "engine", "service", "settings", "signer", "template"]
