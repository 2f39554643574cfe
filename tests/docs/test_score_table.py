"""The scores on docs/detectors.md are those of the reports kept in bench/scores.json."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_shows_the_kept_scores() -> None:
    spec = importlib.util.spec_from_file_location("score_table", ROOT / "bench" / "score_table.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = script.PAGE.read_text()
    assert script.placed(page, script.table(json.loads(script.KEPT.read_text()))) == page
