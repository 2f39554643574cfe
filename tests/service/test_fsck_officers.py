"""fsck names an act of somebody who never held the role: what an insider signs with the service's own key."""

import sqlalchemy as sa

from stackwitness.log.events import append_event
from stackwitness.log.fsck import fsck
from stackwitness.settings import Settings
from tests.service.log_station import SmallStation
from tests.service.log_support import SmallLog, make_log


def test_an_invented_officer_is_named(settings: Settings, engine: sa.Engine) -> None:
    log: SmallLog = make_log(settings, engine)
    loop = log.start()
    station = SmallStation(log)
    station.register()
    station.push(1)
    loop.sequence()
    loop.publish()
    assert not fsck(log.engine, log.settings.log_dir, log.policy).findings
    with log.engine.begin() as conn:
        data = {"ep": 0, "why_sha256": "ab" * 32}
        append_event(conn, log.service_key, typ="epoch.ack", subj="station:S1", act="ghost", data=data)
    loop.sequence()
    loop.publish()
    found = {finding.code: finding for finding in fsck(log.engine, log.settings.log_dir, log.policy).findings}
    assert "officer.unknown" in found
    assert "'ghost'" in str(found["officer.unknown"])
