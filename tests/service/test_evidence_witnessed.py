"""An export of a log with witnesses and time stamps holds for an expert who trusts only those."""

import shutil
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from emdi.anchor import Anchor
from emdi.policy import parse_policy
from stackwitness.accounts.domain import Account
from stackwitness.db.unit import unit_of_work
from stackwitness.evidence import flow
from stackwitness.evidence.bundle.anchors import anchor_members, choose_anchors
from stackwitness.log.anchors import Anchors
from stackwitness.log.disk import Disk
from stackwitness.log.policies import take_policy
from stackwitness.settings import Settings
from stackwitness_client.verify import verify_bundle
from stackwitness_client.verify.timestamps import have_library
from tests.service.evidence_support import Shop, make_shop
from tests.service.witness_support import Crowd
from tests.support.tsa import LocalTsa

FROM, TO = datetime(2026, 1, 2, 0, 10, tzinfo=UTC), datetime(2026, 1, 2, 0, 30, tzinfo=UTC)


def export(shop: Shop) -> Path:
    account = Account("regulator-1", "r", "regulator")
    with unit_of_work(shop.engine) as conn:
        asked = flow.request_export(
            conn, shop.service_key, account, stn="S1", from_at=FROM, to_at=TO, purpose="court", defer=False
        )
    with shop.running_log():
        return flow.build_export(shop, asked.export_id)


@pytest.mark.skipif(not have_library(), reason="rfc3161-client is not installed: nothing is anchored")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here: no authority to ask")
def test_a_bundle_with_a_quorum_and_two_authorities(
    settings: Settings, engine: sa.Engine, tmp_path: Path
) -> None:
    shop = make_shop(settings, engine)
    with ExitStack() as stack:
        crowd = Crowd(shop.log, tmp_path)
        stack.enter_context(crowd.stack)
        for name in ("w1", "w2"):
            crowd.add(name)
        crowd.add_away("w3")
        file = tmp_path / "policy.txt"
        file.write_text(crowd.policy_text(2))
        policy = take_policy(shop.engine, shop.service_key, shop.log.vkey, file)
        shop.loop.announcer.follow(policy, 1.0)
        stack.callback(shop.loop.announcer.close)
        shop.loop.sequence()
        shop.loop.publish()
        authorities = [LocalTsa(tmp_path / name, name) for name in ("one", "two")]
        urls = [stack.enter_context(tsa.serving()) for tsa in authorities]
        anchors = Anchors(shop.engine, shop.service_key, Disk(settings.log_dir), urls, every_ms=1000)
        assert len(anchors.take_round()) == 2
        bundle = export(shop)
    roots = b"".join(tsa.root_pem for tsa in authorities)
    good = verify_bundle(bundle, crowd.policy_text(2), tsa_roots=roots)
    assert good.exit_code == 0, good.text()
    assert good.step(12).state == "ok"
    assert "CN=one leaf, CN=two leaf" in good.step(12).done
    strict = verify_bundle(bundle, crowd.policy_text(3), tsa_roots=roots)
    assert strict.exit_code == 4
    assert {finding.code for finding in strict.findings} == {"policy.quorum"}
    assert parse_policy(crowd.policy_text(2)).quorum == "g"


def test_the_anchors_that_say_most_are_chosen() -> None:
    held = [Anchor(size, k, "", "", "", 0) for size in (10, 20, 30, 40, 50) for k in (0, 1)]
    assert [(item.size, item.k) for item in choose_anchors(held, 12, 35)] == [
        (20, 0), (20, 1), (40, 0), (40, 1), (50, 0), (50, 1)
    ]  # fmt: skip
    assert {item.size for item in choose_anchors(held, 0, 9)} == {10, 50}
    assert {item.size for item in choose_anchors(held, 48, 99)} == {50}
    assert choose_anchors([], 0, 9) == []


def test_a_lost_or_changed_file_is_left_out(settings: Settings, engine: sa.Engine) -> None:
    shop = make_shop(settings, engine)
    tiles = shop.log_reader.tiles()
    held = [Anchor(3, 0, "", "00", "00", 0)]

    def lost(path: str) -> bytes:
        raise FileNotFoundError(path)

    assert list(anchor_members(held, tiles, lost)) == []
    assert list(anchor_members(held, tiles, lambda path: b"changed")) == []
