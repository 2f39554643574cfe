"""A change of policy that is none changes nothing: bundles are made and verify, and the entry is named."""

import pytest
import sqlalchemy as sa

from emdi.errors import PolicyError
from emdi.policy import read_change
from stackwitness.accounts.domain import Account
from stackwitness.db.unit import unit_of_work
from stackwitness.evidence import flow
from stackwitness.log.events import append_event
from stackwitness.log.fsck import fsck
from stackwitness.log.policies import read_policy
from stackwitness.settings import Settings
from stackwitness_client.verify import verify_bundle
from tests.service.evidence_support import make_shop

NONE = (
    {},
    {"policy": 5},
    {"policy": "log nonsense\n", "sha256": "0" * 64},
    {"policy": "log {other}\nquorum none\n", "sha256": "0" * 64},
    {"policy": "log {own}\nquorum none\n", "sha256": "0" * 64},
    {"policy": "\ud800"},
)


def test_exports_go_on_with_the_last_policy_that_is_one(settings: Settings, engine: sa.Engine) -> None:
    shop = make_shop(settings, engine)
    own = shop.log.vkey
    before = None
    for data in NONE:
        given = dict(data)
        if isinstance(text := given.get("policy"), str):
            given["policy"] = text.replace("{own}", own).replace("{other}", f"other{own}")
        with pytest.raises(PolicyError, match=r"policy\.change"):
            read_change(given, settings.log_origin)
        if given.get("policy") == "\ud800":
            continue  # no JSON of ours holds it
        with unit_of_work(engine, "sw_seq") as conn:
            before = before or read_policy(conn)
            append_event(conn, shop.service_key, typ="policy.change", subj="log", act="thief", data=given)
            assert read_policy(conn) == before
    with unit_of_work(engine, "sw_export", "*") as conn:
        asked = flow.request_export(
            conn,
            shop.service_key,
            Account("regulator-1", "r", "regulator"),
            stn="S1",
            purpose="audit",
            defer=False,
        )
    with shop.running_log():
        bundle = flow.build_export(shop, asked.export_id)  # type: ignore[arg-type]
    report = verify_bundle(bundle, shop.policy_text)
    assert report.exit_code == 0, report.text()
    assert report.text().count("changes nothing") == len(NONE) - 1
    named = [
        finding for finding in fsck(engine, settings.log_dir).findings if finding.code == "policy.change"
    ]
    assert len({finding.idx for finding in named}) == len(NONE) - 1
