"""Fixture: settings of a test, with a home of its own."""

from pathlib import Path

import pytest

from stackwitness.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """Give settings in test mode over the test's own database and home."""
    home = tmp_path / "home"
    home.mkdir()
    return Settings(mode="test", home=home, database_url=database_url)
