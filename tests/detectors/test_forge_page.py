"""docs/forge.md tells of every kind what the registry says."""

from __future__ import annotations

from pathlib import Path

from tests.detectors.forge_page import page

ROOT = Path(__file__).parents[2]


def test_the_page_is_the_registry() -> None:
    assert (ROOT / "docs" / "forge.md").read_text() == page(), (
        "run: python -m tests.detectors.forge_page > docs/forge.md"
    )
    assert "](pictures/forgeries.svg)" in page()
    assert (ROOT / "docs" / "pictures" / "forgeries.svg").is_file()
