"""Whatever is typed: one line and exit code 3, which fsck does not use; a traceback's 1 would read "tampered"."""

import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from stackwitness.cli import main
from stackwitness.settings import Settings
from tests.service.log_support import make_log

BYTES = "\udcff\udcfe"  # what no UTF-8 argument becomes
COMMANDS = [
    ["service-key", "compromise", "--kid", "service-1", "--suspect-from-idx", "0", "--why", BYTES],
    ["service-key", "compromise", "--kid", "service-1", "--suspect-from-idx", "0", "--why", " "],
    [
        "service-key",
        "compromise",
        "--kid",
        "service-1",
        "--suspect-from-idx",
        "1" + "0" * 40,
        "--why",
        "stolen",
    ],
    [
        "service-key",
        "compromise",
        "--kid",
        "service-1",
        "--suspect-from-idx",
        "0",
        "--why",
        "w",
        "--account",
        BYTES,
    ],
    ["service-key", "rotate", "--account", "two words"],
    ["export", "-o", "o.zip", "--station", BYTES],
    ["export", "-o", "o.zip", "--station", "S1", "--account", BYTES],
    ["export", "-o", "o.zip", "--station", "S1", "--from", "0001-01-01T00:00:00+14:00"],
    ["fsck", "--policy", "none"],
    ["fsck", "--policy", "bytes"],
    ["rebuild", "--disclosures", "none"],
    ["rebuild", "--disclosures", "bytes"],
    ["rebuild", "--disclosures", "."],
    ["rebuild", "--policy", "bytes"],
]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["stackwitness", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_nothing_typed_ends_in_a_traceback(
    settings: Settings,
    engine: sa.Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = make_log(settings, engine)
    loop = log.start()
    loop.sequence()
    loop.publish()
    address = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    monkeypatch.setenv("STACKWITNESS_HOME", str(settings.home))
    monkeypatch.setenv("STACKWITNESS_DATABASE_URL", address)
    monkeypatch.setenv("STACKWITNESS_MODE", "test")
    monkeypatch.chdir(tmp_path)
    # It would go on writing to this test's captured stderr in the tests that follow.
    monkeypatch.setattr("stackwitness.telemetry.configure_logging", lambda **_: None)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    assert run(monkeypatch, "service-key", "rotate") == 0  # so that service-1 is an ended key
    for command in COMMANDS:
        capsys.readouterr()
        assert run(monkeypatch, *command) == 3, command
        assert capsys.readouterr().err.startswith("stackwitness"), command
    with engine.begin() as conn:
        conn.execute(sa.text("REVOKE SELECT ON review FROM sw_export"))
    assert run(monkeypatch, "fsck") == 3
    assert "permission denied for table review" in capsys.readouterr().err
