"""Log lines: whatever becomes of standard error, no process ends of it."""

import io
import sys

import pytest
import structlog

from stackwitness.telemetry import configure_logging


def test_a_line_goes_to_standard_error_as_it_is_then(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", first)
    configure_logging()
    log = structlog.get_logger("test")
    log.info("one")
    first_text = first.getvalue()
    first.close()
    log.info("lost")
    monkeypatch.setattr(sys, "stderr", second)
    log.info("two")
    assert "one" in first_text
    assert "two" in second.getvalue()
    assert "lost" not in second.getvalue()
