"""An export is everything about a station and a period, and verifies with public keys only."""

import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from emdi.bundle import write_bundle
from stackwitness.accounts.domain import Account
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import NotFound, StackwitnessError, Unprocessable
from stackwitness.evidence import build as build_module
from stackwitness.evidence import flow
from stackwitness.evidence.command import Wanted, read_time, run_export
from stackwitness.evidence.domain import Export
from stackwitness.log.fsck import fsck
from stackwitness.settings import Settings
from stackwitness_client.verify import Report, verify_bundle
from tests.service.evidence_support import Shop, make_shop

FROM, TO = datetime(2026, 1, 2, 0, 10, tzinfo=UTC), datetime(2026, 1, 2, 0, 30, tzinfo=UTC)
REGULATOR = Account("regulator-1", "r", "regulator")


@pytest.fixture
def shop(settings: Settings, engine: sa.Engine) -> Shop:
    return make_shop(settings, engine)


def ask(shop: Shop, from_at: datetime = FROM, to_at: datetime = TO) -> Export:
    with unit_of_work(shop.engine) as conn:
        return flow.request_export(
            conn,
            shop.service_key,
            REGULATOR,
            stn="S1",
            from_at=from_at,
            to_at=to_at,
            purpose="yearly audit",
            defer=False,
        )


def build(shop: Shop, export: Export) -> Path:
    with shop.running_log():
        return flow.build_export(shop, export.export_id)


def verify(shop: Shop, bundle: Path) -> Report:
    return verify_bundle(bundle, shop.log.reader.checkpoint() and shop.policy_text)


def test_bundle_verifies_and_holds_the_period(shop: Shop) -> None:
    bundle = build(shop, ask(shop))
    report = verify(shop, bundle)
    assert report.findings == [], report.text()
    assert report.exit_code == 0
    # 20 envelopes of the period and one on either side, two flags, one review
    assert (report.counts["envelopes"], report.counts["readings"]) == (22, 44)
    assert (report.counts["flags"], report.counts["reviews"]) == (2, 1)
    settings = shop.settings
    clean = fsck(shop.engine, settings.log_dir, shop.log.policy, signer_dir=settings.signer_dir)
    assert clean.findings == []


def test_second_export_closes_the_chain_over_the_first(shop: Shop) -> None:
    first, second = build(shop, ask(shop)), build(shop, ask(shop))
    for bundle in (first, second):
        report = verify(shop, bundle)
        assert report.exit_code == 0, report.text()


@pytest.mark.parametrize("days", [-400, 400])
def test_period_without_readings_still_holds_the_decisions(shop: Shop, days: int) -> None:
    moment = datetime.fromtimestamp(FROM.timestamp() + days * 86400, UTC)
    bundle = build(shop, ask(shop, moment, datetime.fromtimestamp(moment.timestamp() + 60, UTC)))
    report = verify(shop, bundle)
    assert report.exit_code == 0, report.text()
    assert (report.counts["envelopes"], report.counts["flags"]) == (0, 2)


def test_flag_raised_while_building_comes_after_the_exported_part(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = build_module.seal

    def raise_then_seal(*arguments: object) -> None:
        shop.station.raise_flag()
        seal(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(build_module, "seal", raise_then_seal)
    report = verify(shop, build(shop, ask(shop)))
    assert report.exit_code == 0, report.text()
    assert report.counts["flags"] == 2
    assert "came between the exported part of the log and its seal" in report.text()


def test_crash_between_seal_and_zip_is_finished_later(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    export = ask(shop)
    with monkeypatch.context() as broken:
        broken.setattr(flow, "finish", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(shop, export)
    bundle = build(shop, export)
    assert verify(shop, bundle).exit_code == 0
    with unit_of_work(shop.engine) as conn:
        assert flow.find_export(conn, export.export_id).state == "done"
        count = conn.execute(sa.text("SELECT count(*) FROM event WHERE typ = 'export.made'")).scalar_one()
    assert count == 1


def test_lost_members_of_a_sealed_export_fail_and_say_so(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    export = ask(shop)
    bundle = build(shop, export)
    bundle.unlink()
    with pytest.raises(StackwitnessError) as caught, shop.running_log():
        flow.build_export(shop, export.export_id)
    assert caught.value.code == "export.lost"
    with unit_of_work(shop.engine) as conn:
        assert flow.find_export(conn, export.export_id).state == "failed"


def test_same_members_give_the_same_bytes(shop: Shop, tmp_path: Path) -> None:
    bundle = build(shop, ask(shop))
    with zipfile.ZipFile(bundle) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    write_bundle(tmp_path / "again.zip", members)
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def test_requests_that_cannot_be(shop: Shop) -> None:
    with unit_of_work(shop.engine) as conn:
        for error, change in (
            (NotFound, {"stn": "nowhere"}),
            (Unprocessable, {"to_at": FROM}),
            (Unprocessable, {"purpose": " \n"}),
        ):
            given = {"stn": "S1", "from_at": FROM, "to_at": TO, "purpose": "audit", **change}
            with pytest.raises(error):
                flow.request_export(conn, shop.service_key, REGULATOR, **given)  # type: ignore[arg-type]


def test_command_writes_the_bundle(shop: Shop, tmp_path: Path) -> None:
    output = tmp_path / "bundle.zip"
    wanted = Wanted("S1", "", "2026-01-02T00:10:00Z", "2026-01-02T08:30:00+08:00", "", "audit", "regulator-1")
    with shop.running_log():
        run_export(shop, wanted, output)
    assert verify(shop, output).exit_code == 0
    assert read_time("2026-01-02") == datetime(2026, 1, 2, tzinfo=UTC)


SEVENTEEN = "(SELECT envelope_no FROM envelope WHERE seq = 17)"
EDITS = {
    f"UPDATE reading SET value = 12 WHERE envelope_no = {SEVENTEEN} AND value < 1000": (1, "T00:17:00.000Z"),
    f"DELETE FROM reading WHERE envelope_no = {SEVENTEEN}": (1, "T00:17:00.000Z"),
    "UPDATE envelope SET jws = set_byte(jws, 300, 65) WHERE seq = 17": (1, "idx"),
    "DELETE FROM flag WHERE flag_id = (SELECT max(flag_id) FROM flag)": (1, "flag S1-"),
    "UPDATE flag SET verdict = 'unusual'": (1, "flag S1-"),
    "UPDATE review SET reason = 'All was well.'": (1, "review S1-"),
}


@pytest.mark.parametrize("statement", EDITS)
def test_edited_database_surfaces_in_the_bundle(shop: Shop, statement: str) -> None:
    code, text = EDITS[statement]
    with shop.engine.begin() as conn:
        for table in ("event", "envelope", "flag", "review"):
            conn.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER append_only_row"))
        conn.execute(sa.text("SET LOCAL session_replication_role = replica"))
        assert conn.execute(sa.text(statement)).rowcount > 0
    report = verify(shop, build(shop, ask(shop)))
    lines = [finding.line() for finding in report.findings]
    assert [line for line in lines if text in line], report.text()
    assert report.exit_code == code, report.text()
