"""The end of a log, asked for carelessly or with bad intent: what would be for ever and wrong is refused beforehand."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from stackwitness.db.embedded import Cluster
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Conflict, LogFrozen, LogUnavailable
from stackwitness.evidence import flow
from stackwitness.log.errors import QuorumMissing
from stackwitness.log.freezing import run_freeze
from stackwitness.log.fsck import fsck
from stackwitness.log.heads import read_lines, seal_head
from stackwitness.log.policies import take_policy
from stackwitness.log.queries import find_successor
from stackwitness.log.reader import LogReader
from stackwitness.log.rebuild.successor import seed_successor
from stackwitness.log.service_keys import open_service_key
from stackwitness.log.shards import freeze, read_final
from stackwitness.settings import Settings
from stackwitness_client.verify import verify_bundle
from tests.service.evidence_support import Shop, make_shop
from tests.service.test_frozen_bundle import ask, build, end
from tests.service.test_shards import successor
from tests.service.witness_support import Crowd


@pytest.fixture
def shop(settings: Settings, engine: sa.Engine) -> Shop:
    return make_shop(settings, engine)


@pytest.mark.parametrize("origin", ["", "two words", "a+b", "line\nline", "nul\0", None])
def test_no_log_ends_in_a_name_that_no_log_can_have(shop: Shop, origin: str | None) -> None:
    name = shop.settings.log_origin if origin is None else origin
    with pytest.raises(Conflict) as refused:
        freeze(shop.engine, shop.log.disk, shop.service_key, successor_origin=name, why="careless")
    assert refused.value.code == "log.successor"
    with unit_of_work(shop.engine, "sw_seq") as conn:
        assert find_successor(conn) is None


def test_a_home_is_not_its_own_successor(settings: Settings) -> None:
    own = settings.model_copy(update={"database_url": None})
    with pytest.raises(Conflict, match="own home"):
        run_freeze(own, open_service_key, own.home / "x" / "..", "next", "careless")


def test_an_export_leaves_nothing_but_its_bundle(shop: Shop) -> None:
    end(shop)
    bundle = build(shop, stn="S1")
    assert [path.name for path in shop.settings.export_dir.iterdir()] == [bundle.name]


@pytest.mark.parametrize("required", [False, True])
def test_a_bundle_without_the_witnesses_is_made_with_a_warning_or_not_at_all(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, required: bool
) -> None:
    crowd = Crowd(shop.log, tmp_path)
    crowd.add_away("w1")
    file = tmp_path / "policy.txt"
    file.write_text(crowd.policy_text(1))
    take_policy(shop.engine, shop.service_key, shop.log.vkey, file)
    end(shop)
    monkeypatch.setattr(LogReader.await_quorum, "__defaults__", (0.1,))
    object.__setattr__(shop.settings, "require_quorum", required)
    with capture_logs() as said:
        if not required:
            assert verify_bundle(build(shop, stn="S1"), crowd.policy_text(1)).exit_code == 4
            assert [line["event"] for line in said] == ["export.quorum"]
            return
        with pytest.raises(QuorumMissing):
            build(shop, stn="S1")


SPOILT = {
    "no note": b"\0",
    "another log's": b"other.example/log\n5\n" + b"A" * 43 + b"=\n\n\xe2\x80\x94 x AAAAAAAA\n",
}


@pytest.mark.parametrize("what", [*SPOILT, "an earlier one", "another question"])
def test_rows_of_earlier_exports_spoil_no_later_one(shop: Shop, what: str) -> None:
    before = (shop.settings.log_dir / "checkpoint").read_bytes()
    end(shop)
    first = build(shop, stn="S1")
    data = first.read_bytes()
    with shop.engine.begin() as conn:
        if what == "another question":
            conn.execute(sa.text("UPDATE frozen_export SET purpose = 'none', redacted = true, to_at = now()"))
        else:
            given = {"note": SPOILT.get(what, before)}
            conn.execute(sa.text("UPDATE frozen_export SET checkpoint = :note"), given)
    if what == "another question":  # whose answer lies there already
        flow.build_export(shop, first.stem)
    report = verify_bundle(build(shop, stn="S1", purpose="another court asks"), shop.policy_text)
    assert report.exit_code == 0, report.text()
    first.unlink()
    assert build(shop, stn="S1").read_bytes() == data


def test_the_successor_gives_bundles_of_a_station_that_is_silent_since(
    shop: Shop, cluster: Cluster, template: str, tmp_path: Path
) -> None:
    event_id = end(shop)
    final = read_final(shop.engine, shop.log_reader, event_id, 1.0)
    with successor(cluster, template, tmp_path / "next") as log:
        seed_successor(shop.engine, log.engine, log.service_key, final, log.settings.log_dir)
        loop = log.start()
        loop.sequence()
        loop.publish()
        new = Shop(log, loop, shop.station, log.settings, log.engine, log.service_key, log.reader)
        with new.running_log():
            bundle = build(new, stn="S1")
        report = verify_bundle(bundle, new.policy_text)
    assert report.exit_code == 0, report.text()
    assert "the chain goes on from" in report.text()


def test_a_log_that_was_opened_again_for_a_while_is_named(shop: Shop) -> None:
    """A superuser takes the row away, lets something in, and puts all back as it was."""
    event_id = end(shop)
    rows = "SELECT event_id, successor_origin FROM log_freeze"
    with shop.engine.begin() as conn:
        conn.execute(sa.text("SET LOCAL ROLE NONE"))
        states = conn.execute(
            sa.text(
                "SELECT tgname FROM pg_trigger WHERE tgrelid = 'log_freeze'::regclass AND tgenabled = 'A'"
            )
        ).scalars()
        triggers = list(states)
        row = conn.execute(sa.text(rows)).one()
        conn.execute(sa.text("ALTER TABLE log_freeze DISABLE TRIGGER ALL"))
        conn.execute(sa.text("DELETE FROM log_freeze"))
    shop.station.push(1)
    shop.loop.sequence()
    shop.loop.publish()
    with shop.engine.begin() as conn:
        insert = "INSERT INTO log_freeze (event_id, successor_origin) VALUES (:event_id, :successor_origin)"
        conn.execute(sa.text(insert), dict(row._mapping))
        conn.execute(sa.text("ALTER TABLE log_freeze ENABLE TRIGGER ALL"))
        for name in triggers:
            conn.execute(sa.text(f"ALTER TABLE log_freeze ENABLE ALWAYS TRIGGER {name}"))
    assert row.event_id == event_id
    found = fsck(shop.engine, shop.settings.log_dir, shop.log.policy).findings
    assert "freeze.broken" in {finding.code for finding in found}, found
    with pytest.raises(LogUnavailable, match=r"log\.unavailable"):
        build(shop, stn="S1")


def test_a_row_that_froze_nothing_ends_in_no_traceback(shop: Shop) -> None:
    with shop.engine.begin() as conn:
        seal_head(conn, shop.log.disk, shop.service_key, 2, read_lines(conn, 2))
        conn.execute(sa.text("ALTER TABLE log_freeze DISABLE TRIGGER ALL"))
        made_up = "INSERT INTO log_freeze SELECT event_id, 'x' FROM event WHERE typ = 'station.register'"
        conn.execute(sa.text(made_up))
    with pytest.raises(LogFrozen):
        ask(shop, stn="S1")
    found = fsck(shop.engine, shop.settings.log_dir, shop.log.policy).findings
    assert "log_freeze.surplus" in {finding.code for finding in found}, found
