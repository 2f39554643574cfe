"""Fixtures for every test; see tests/support."""

from tests.support.database import cluster, database_url, engine, template
from tests.support.service import service, signer
from tests.support.settings import settings

__all__ = ["cluster", "database_url", "engine", "service", "settings", "signer", "template"]
