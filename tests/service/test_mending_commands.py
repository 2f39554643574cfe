"""`stackwitness rebuild` and `stackwitness freeze` as a person types them: real processes, their words and exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from emdi.bundle import BundleReader
from stackwitness.settings import Settings
from tests.service.evidence_support import Shop
from tests.service.test_explanations import WORDS, export, found, shop

__all__ = ["shop"]
PROGRAM = [sys.executable, "-m", "stackwitness.cli"]
ANYWHERE = {name: value for name, value in os.environ.items() if not name.startswith("STACKWITNESS_")}


def run(settings: Settings, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command over the test's home and database to its end."""
    named = {
        "STACKWITNESS_MODE": "test",
        "STACKWITNESS_HOME": str(settings.home),
        "STACKWITNESS_DATABASE_URL": settings.database_url or "",
        "STACKWITNESS_LOG_ORIGIN": settings.log_origin,
    }
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, env={**ANYWHERE, **named}, capture_output=True, text=True, check=False)


def forget(engine: sa.Engine) -> None:
    """Lose the words of officials, as a database made again from the log has."""
    with engine.begin() as conn:
        for table in ("explanation", "review"):
            conn.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER USER; DELETE FROM {table};"))
            for guard in ("append_only_row", "append_only_table", "fits_event"):
                conn.execute(sa.text(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {guard}"))


def words(engine: sa.Engine) -> set[str]:
    with engine.connect() as conn:
        return set(conn.scalars(sa.text("SELECT why FROM explanation")))


def test_rebuild_restores_rows_from_tiles_and_words_from_a_bundle(shop: Shop, tmp_path: Path) -> None:
    bundle, _ = export(shop, redact=False)
    disclosures, policy, wrong = (
        tmp_path / "disclosures.jsonl",
        tmp_path / "policy.txt",
        tmp_path / "other.txt",
    )
    with BundleReader(bundle) as reader:
        disclosures.write_bytes(reader.read(disclosures.name))
    policy.write_text(shop.policy_text)
    wrong.write_text(shop.policy_text.replace(shop.settings.log_origin, "log.example/other"))
    forget(shop.engine)
    tiles = ("rebuild", "--from-tiles", shop.settings.log_dir, "--policy")
    refused = run(shop.settings, *tiles, wrong)
    assert (refused.returncode, words(shop.engine)) == (3, set()), refused
    assert "stackwitness rebuild:" in refused.stderr
    done = run(shop.settings, *tiles, policy, "--json")
    assert done.returncode == 2, done.stderr  # rows came back, their words did not
    told = json.loads(done.stdout)
    assert told["tables"]["explanation"] == sum(line.startswith("explanation ") for line in told["lost"])
    assert words(shop.engine) == {""}
    done = run(shop.settings, *tiles, policy, "--disclosures", disclosures)
    assert done.returncode == 1, done
    assert words(shop.engine) >= set(WORDS.values())
    shop.loop.sequence()
    shop.loop.publish()
    assert found(shop) == set()
    done = run(shop.settings, *tiles, policy, "--disclosures", disclosures)
    assert (done.returncode, "rows changed: none" in done.stdout) == (0, True), done
    broken = run(shop.settings, *tiles, policy, "--disclosures", policy)
    assert (broken.returncode, broken.stdout) == (3, ""), broken


@pytest.mark.parametrize("home", [True, False])
def test_freeze_refuses_in_words_what_it_cannot_do(shop: Shop, tmp_path: Path, *, home: bool) -> None:
    arguments = ["freeze", "--successor-home", tmp_path / "next"]
    if home:  # its database is somebody else's: no successor can be made beside it
        done, said = run(shop.settings, *arguments, "--successor-origin", "next"), "docs/runbooks/shards.md"
    else:
        done, said = run(shop.settings, *arguments), "--successor-origin"
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (3, True, False), done
    with shop.engine.connect() as conn:
        assert conn.scalar(sa.text("SELECT count(*) FROM log_freeze")) == 0
