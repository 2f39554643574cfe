"""Runs in the log name the detectors' version, and are made again by it years later: other rules are another version."""

import json

from tests.detectors.version import KEPT, present


def test_what_judges_otherwise_is_another_version() -> None:
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    assert present() == kept, (
        "numbers or rules of the detectors are not those written down: raise VERSION in config.py (STATE_VERSION in"
        " codec.py where a state has another form) unless this version was never in service, then run"
        " `python -m tests.detectors.version`"
    )
