"""Flags that are to disappear by readings that come late: a thief of the service's key, a station, the database's owner."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from emdi.event import Event
from stackwitness.db.unit import unit_of_work
from stackwitness.detection import flow, queries
from stackwitness.flags import flow as flags
from stackwitness.log.events import append_event
from stackwitness.log.fsck import fsck
from stackwitness.settings import Settings
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor import Monitor
from stackwitness_client.simulator import Cheat, Plant
from stackwitness_client.verify import verify_bundle
from tests.service.evidence_support import Shop, make_shop
from tests.service.test_frozen_bundle import FROM, build, end
from tests.support import plants
from tests.support.plants import PushedPlant, pushed_plant
from tests.support.service import Service
from tests.support.static_log import static_log

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
HASH = "c" * 64


def input_of(first: int, last: int) -> dict[str, int]:
    return {"ep_first": 0, "seq_first": first, "ep_last": 0, "seq_last": last, "count": 1}


def sign(shop: Shop, typ: str, data: dict[str, Any], subj: str = "station:S1") -> None:
    with shop.engine.begin() as conn:
        append_event(conn, shop.service_key, typ=typ, subj=subj, act="detection", data=data)


def run_of(from_ms: int, hours: int, before: str, after: str, config: str = HASH) -> dict[str, Any]:
    judged = {"from_ms": from_ms, "upto_ms": from_ms + hours * HOUR_MS, "input": input_of(0, 39)}
    memory = {"state_before": before and before * 64, "state_after": after * 64}
    return {"config_hash": config, "version": "1", **judged, **memory, "findings": 0, "digest": "d" * 64}


def test_fsck_monitor_and_verifier_name_it(settings: Settings, engine: sa.Engine, tmp_path: Path) -> None:
    """All is signed with the service's own key, and every row is what its event says."""
    shop = make_shop(settings, engine)
    with engine.begin() as conn:
        conn.execute(sa.text("SELECT set_config('stackwitness.agency', '*', true)"))
        [flag, *_] = flags.list_flags(conn, stn="S1", state=None, after=None, limit=2)[0]
        [first_ms] = conn.scalars(
            sa.text("SELECT (extract(epoch FROM min(first_at)) * 1000)::bigint FROM envelope")
        )
    from_ms = first_ms // HOUR_MS * HOUR_MS
    numbers = {"version": "1", "config": {"budget": 0.25}, "numpy": "2"}
    sign(shop, "detector.config", {**numbers, "config_hash": HASH}, "detector")
    sign(shop, "detector.run", run_of(from_ms, 0, "", "1"))
    sign(shop, "detector.run", run_of(from_ms, 1, "1", "2"))
    shop.loop.sequence()
    shop.loop.publish()
    home = tmp_path / "monitor"

    def look() -> list[str]:
        with static_log(settings.home, None) as site:  # type: ignore[arg-type]
            monitor = Monitor(home, ServerLink(site.url), shop.log.policy)
            turn = monitor.turn()
            monitor.close()
        return [says for _, says in turn.raised]

    assert [says for says in look() if "number" in says] == []
    # A late arrival that never was, laxer numbers, a run that goes back with them, and a flag that lapses.
    late = {
        "ep": 0,
        "seq": 30,
        "seq_last": 30,
        "envelopes": 1,
        "from_ms": from_ms,
        "to_ms": from_ms + HOUR_MS,
    }
    sign(shop, "late.arrival", late)
    sign(shop, "detector.config", {**numbers, "config_hash": "e" * 64}, "detector")
    claims = {"flag_id": flag.flag_id, "episode": "e-other", "to_ms": round(flag.to_at.timestamp() * 1000)}
    with engine.begin() as conn:
        flags.lapse_flag(conn, shop.service_key, "S1", flag.event_id, claims)
    sign(shop, "detector.run", run_of(from_ms, 1, "1", "3", "e" * 64))
    sign(shop, "detector.run", run_of(from_ms, 1, "1", "4"))
    shop.loop.sequence()
    shop.loop.publish()
    names = {"late.invented", "config.second", "config.unknown", "lapse.unfounded", "run.back"}
    report = fsck(engine, settings.log_dir, shop.log.policy)
    assert names <= {one.code for one in report.findings}
    with engine.begin() as conn:
        conn.execute(sa.text("ALTER TABLE flag_lapse DISABLE TRIGGER USER"))
        conn.execute(sa.text("DELETE FROM flag_lapse"))
    report = fsck(engine, settings.log_dir, shop.log.policy)
    assert "flag_lapse.missing" in {one.code for one in report.findings}
    says = " ".join(look())
    for words in (
        "did not come late",
        "other numbers",
        "does not give it",
        "has not lapsed",
        "no late reading calls",
    ):
        assert words in says
    end(shop)
    bundle = verify_bundle(build(shop, stn="S1", from_at=FROM), shop.policy_text)
    assert names <= {one.code for step in bundle.steps for one in step.findings}, bundle.text()


STATION, STEP_S = "glass-1", 900
NIGHT = Cheat("hold", ("nox",), plants.START_MS + 6 * DAY_MS, 9.0)


@pytest.fixture
def forging(service: Service, tmp_path: Path) -> Iterator[PushedPlant]:
    with pushed_plant(service, tmp_path, STATION, Plant(77, "glass"), (NIGHT,)) as pushed:
        pushed.push(plants.START_MS, plants.START_MS + 9 * DAY_MS, STEP_S)
        yield pushed


def told(service: Service, *types: str) -> list[Event]:
    with unit_of_work(service.wiring.engine) as conn:
        return queries.list_events(conn, f"station:{STATION}", types)


def test_a_station_cannot_unsay_what_it_sent(service: Service, forging: PushedPlant) -> None:
    """What it sends again for the hours that accuse it, moving as an honest channel does, changes nothing but is named."""
    flow.scan(service.wiring, STATION)
    held = {e.data["flag_id"] for e in told(service, "flag.raised") if "nox" in e.data["channels"]}
    assert held
    night_ms = NIGHT.from_ms + 20 * HOUR_MS
    for at_ms in range(night_ms, night_ms + 12 * HOUR_MS, STEP_S * 1000):
        forging.station.record_pack(Plant(77, "glass").readings(at_ms))
    forging.station.pusher.push(give_up_s=5)
    flow.scan(service.wiring, STATION)
    [late] = told(service, "late.arrival")
    assert late.data["from_ms"] == night_ms
    [*_, run] = told(service, "detector.run")
    assert run.data["from_ms"] <= night_ms
    listed = service.client.get(f"/v1/flags?station={STATION}", headers=service.headers("inspector")).json()
    assert held <= {one["flag_id"] for one in listed["flags"] if one["lapsed"] is None}
    service.settle()
    assert fsck(service.wiring.engine, service.settings.log_dir).findings == []


def test_what_the_database_alone_says_came_late_is_not_gone_back_to(
    service: Service, forging: PushedPlant
) -> None:
    flow.scan(service.wiring, STATION)
    before = len(told(service, "detector.run"))
    with unit_of_work(service.wiring.engine) as conn:
        conn.exec_driver_sql(
            "UPDATE detection_state SET late_from = upto - interval '2 days', stepped_at = now() + interval '9 years'"
        )
    flow.scan(service.wiring, STATION)
    assert len(told(service, "detector.run")) == before
    service.settle()
    found = {one.code for one in fsck(service.wiring.engine, service.settings.log_dir).findings}
    assert found == {"detection_state.edited"}
    service.check = lambda: None  # type: ignore[method-assign]  # the state is spoilt on purpose
