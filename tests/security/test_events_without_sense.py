"""Events of every kind that say nothing, or nonsense, signed with a stolen service key: no export, check or run stops."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from stackwitness.evidence.rerun import rerun_database
from stackwitness.log.events import append_event
from stackwitness.log.fsck import fsck
from stackwitness.settings import Settings
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor import Monitor
from stackwitness_client.verify import verify_bundle
from tests.service.evidence_support import make_shop
from tests.service.test_frozen_bundle import FROM, build, end
from tests.support.static_log import static_log

STATION = [
    "station.register",
    "channel.set",
    "limit.change",
    "key.request",
    "key.register",
    "key.rotate",
    "key.revoke",
    "key.compromise",
    "gap.opened",
    "epoch.open",
    "epoch.ack",
    "late.arrival",
    "flag.raised",
    "flag.extended",
    "flag.lapsed",
    "review.decision",
    "detector.run",
    "export.requested",
    "export.made",
    "export.covers",
    "evidence.viewed",
    "evidence.downloaded",
]
LOG = [
    "anchor.tsa",
    "policy.change",
    "head.daily",
    "service.key",
    "service.compromise",
    "projection.rebuild",
    "log.note",
]
OTHER = [("detector", "detector.config"), ("database", "db.ddl"), ("database", "catalog.baseline")]
KINDS = [*(("station:S1", typ) for typ in STATION), *(("log", typ) for typ in LOG), *OTHER]
DATA: list[dict[str, Any]] = [
    {},
    {
        name: value
        for value, names in (
            (-1, "from_ms to_ms ep seq as_of lines size suspect_from_idx new late_from_ms upto_ms"),
            ([{}], "input channels approvals envelopes"),
            (
                "\U0001f600",
                "flag_id review_id kid channel env_id root_b64u sha256 revision decision export_id config_hash",
            ),
        )
        for name in names.split()
    },
]


@pytest.mark.parametrize("subj", ["station:S1", "log", "detector", "database", "account:inspector-1"])
def test_they_stop_nothing(settings: Settings, engine: sa.Engine, tmp_path: Path, subj: str) -> None:
    shop = make_shop(settings, engine)
    kinds = [typ for at, typ in KINDS if at == subj] or ["access.grant", "access.revoke", "access.token"]
    with engine.begin() as conn:
        for typ in kinds:
            for data in DATA:
                append_event(conn, shop.service_key, typ=typ, subj=subj, act="inspector-1", data=data)
    shop.loop.sequence()
    shop.loop.publish()
    fsck(engine, settings.log_dir, shop.log.policy)
    with static_log(settings.home, None) as site:  # type: ignore[arg-type]
        monitor = Monitor(tmp_path / "monitor", ServerLink(site.url), shop.log.policy)
        turn = monitor.turn()
        monitor.close()
    assert turn.raised
    with engine.begin() as conn:
        conn.execute(sa.text("SELECT set_config('stackwitness.agency', '*', true)"))
        list(rerun_database(conn, ["S1"]))
    end(shop)
    for from_at in (datetime(2000, 1, 1, tzinfo=UTC), FROM):
        report = verify_bundle(build(shop, stn="S1", from_at=from_at), shop.policy_text, rerun_detectors=True)
        assert all(step.state for step in report.steps), report.text()
