"""Why officials act is named by salted hash alone: shown to whom it may be, withheld from others, never in the log."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from emdi.bundle import BundleReader
from emdi.event import parse_event
from emdi.policy import parse_policy
from emdi.tables import Disclosure, parse_disclosure
from stackwitness.accounts import flow as accounts
from stackwitness.accounts.domain import Account
from stackwitness.evidence.flow import build_export, request_export
from stackwitness.log.fsck import fsck
from stackwitness.log.fsck.history import at_of
from stackwitness.log.rebuild import open_source, rebuild
from stackwitness.log.shards import freeze
from stackwitness.settings import Settings
from stackwitness.stations import flow, keys, queries
from stackwitness.stations.domain import Limit
from stackwitness_client.verify import verify_bundle
from stackwitness_client.verify.report import Report
from tests.service.evidence_support import Shop, make_shop

OPERATOR = Account("operator-1", "Op", "operator")
REGULATOR = Account("regulator-1", "r", "regulator")
WORDS = {
    "limit.change": "the permit of Mr Zhang",
    "key.revoke": "the logger that Ms Li lost",
    "key.compromise": "the laptop stolen from Mr Wang",
    "access.revoke": "left after a quarrel with Ms Zhou",
}


@pytest.fixture
def shop(settings: Settings, engine: sa.Engine) -> Shop:
    """Give a log on whose station an officer acted in every way that needs a reason, and was dismissed."""
    shop = make_shop(settings, engine)
    act, signer, stn = OPERATOR.account_id, shop.service_key, shop.station.stn
    shop.grant(OPERATOR)
    with engine.begin() as conn:
        [kid] = [key.kid for key in queries.list_keys(conn, stn)]
        limit = Limit(9.0, at_of(1_790_000_000_000), WORDS["limit.change"])
        flow.change_limit(conn, signer, stn, "SO2", limit, act=act)
        keys.revoke_key(conn, signer, stn, kid, WORDS["key.revoke"], act=act)
        keys.compromise_key(conn, signer, stn, kid, WORDS["key.compromise"], 3, act=act)
        accounts.revoke_access(conn, signer, act, WORDS["access.revoke"], act="service:command-line")
    shop.loop.sequence()
    shop.loop.publish()
    return shop


def export(shop: Shop, *, redact: bool) -> tuple[Path, Report]:
    with shop.engine.begin() as conn:
        asked = request_export(
            conn,
            shop.service_key,
            REGULATOR,
            stn=shop.station.stn,
            purpose="inspection",
            redact=redact,
            defer=False,
        )
    with shop.running_log():
        bundle = build_export(shop, asked.export_id)  # type: ignore[arg-type]
    return bundle, verify_bundle(bundle, shop.policy_text)


def withheld(report: Report) -> int:
    """Return how many explanations a bundle withholds: those above, and for what bundles were asked."""
    said = re.search(r"1 reasons, (\d+) explanations;", report.text())
    return int(said[1]) if said else 0


def disclosed(bundle: Path) -> list[Disclosure]:
    with BundleReader(bundle) as reader:
        return [parse_disclosure(line) for line in reader.lines("disclosures.jsonl")]


def test_the_words_stand_in_no_entry_and_only_in_the_bundle_of_who_may_read_them(shop: Shop) -> None:
    published = b"".join(
        path.read_bytes() for path in shop.settings.log_dir.rglob("tile/entries/**/*") if path.is_file()
    )
    with shop.engine.connect() as conn:
        stored = b"".join(bytes(row.jws) for row in conn.execute(sa.text("SELECT jws FROM event")))
    for reason in WORDS.values():
        assert reason.encode() not in published
        assert reason.encode() not in stored
    bundle, report = export(shop, redact=False)
    assert report.exit_code == 0, report.text()
    assert {text.text for text in disclosed(bundle)} >= set(WORDS.values())
    assert "withheld from this bundle" not in report.text()
    bundle, report = export(shop, redact=True)
    assert report.exit_code == 0, report.text()
    assert disclosed(bundle) == []
    assert withheld(report) >= 4, report.notes
    with BundleReader(bundle) as reader:
        members = b"".join(reader.read(name) for name in reader.sizes)
    for reason in WORDS.values():
        assert reason.encode() not in members


def test_a_database_made_again_says_that_it_does_not_know_and_disclosures_give_it_back(shop: Shop) -> None:
    bundle, _ = export(shop, redact=False)
    texts = disclosed(bundle)
    with shop.engine.begin() as conn:
        for table in ("explanation", "review"):
            conn.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER USER; DELETE FROM {table};"))
            for guard in ("append_only_row", "append_only_table", "fits_event"):
                conn.execute(sa.text(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {guard}"))
    rebuilt(shop, [])
    assert found(shop) == {"explanation.text", "review.text"}
    with shop.engine.connect() as conn:
        assert queries.list_limits(conn, shop.station.stn)["SO2"][-1].why is None
    bundle, report = export(shop, redact=False)
    assert report.exit_code == 0, report.text()  # what nobody knows is withheld, not made up
    assert withheld(report) >= 4, report.notes
    # A text of another act, or one that was never said, is not taken for it.
    other = next(text for text in texts if text.text == WORDS["key.revoke"])
    wrong = [Disclosure(text.event_id, other.salt, other.text) for text in texts if text is not other]
    rebuilt(shop, wrong)
    assert found(shop) == {"explanation.text", "review.text"}
    rebuilt(shop, texts)
    assert found(shop) == set()
    with shop.engine.connect() as conn:
        assert queries.list_limits(conn, shop.station.stn)["SO2"][-1].why == WORDS["limit.change"]
    again, report = export(shop, redact=False)
    assert report.exit_code == 0
    assert set(disclosed(again)) > set(texts)  # the name of who asked for the first one came with it


def rebuilt(shop: Shop, texts: list[Disclosure]) -> None:
    policy = parse_policy(shop.policy_text)
    signed = (shop.settings.signer_dir / "state").read_bytes().partition(b"\n\n")[2]
    with ExitStack() as stack:
        source = open_source(str(shop.settings.log_dir), policy, signed, stack)
        source.verify([], lambda *_: None)
        rebuild(shop.engine, shop.service_key, source, lambda *_: None, texts)
    shop.loop.sequence()
    shop.loop.publish()


def found(shop: Shop) -> set[str]:
    report = fsck(shop.engine, shop.settings.log_dir)
    return {one.code for one in report.findings if not one.code.startswith("trigger.")}


def test_the_end_of_a_log_is_explained_as_every_act(shop: Shop) -> None:
    freeze(shop.engine, shop.log.disk, shop.service_key, successor_origin="next", why="Mr Zhang said so")
    with shop.engine.connect() as conn:
        row = conn.execute(
            sa.text(
                "SELECT why, convert_from(jws, 'UTF8') AS jws FROM explanation JOIN event USING (event_id) WHERE typ = 'log.freeze'"
            )
        ).one()
    assert row.why == "Mr Zhang said so"
    data = parse_event(row.jws.encode()).data
    assert data.keys() == {"final_size_before", "successor_origin", "why_sha256"}
    shop.loop.sequence()
    shop.loop.publish()
    assert found(shop) == set()
