"""A frozen log: what it refuses and how, what it goes on doing, and that its processes come to rest."""

import sqlalchemy as sa

from stackwitness.log.disk import Disk
from stackwitness.log.freezing import next_origin
from stackwitness.log.heads import Heads
from stackwitness.log.shards import freeze
from stackwitness.log.watching import watch_database
from tests.service.rig import Rig, station_form
from tests.support.service import Service

SUCCESSOR = "stackwitness.local/log/2027"


def end(service: Service, successor: str) -> None:
    """Freeze the log, as the command does."""
    engine, disk, key = service.wiring.engine, Disk(service.settings.log_dir), service.wiring.service_key
    freeze(engine, disk, key, successor_origin=successor, why="end of the year")


def test_what_is_known_is_acknowledged_and_the_rest_is_sent_to_the_successor(service: Service) -> None:
    rig = Rig(service)
    known, new, other = rig.next(), rig.next(), Rig(service, "4712")
    assert rig.post(known).status_code == 202
    end(service, SUCCESSOR)
    service.settle()
    # Twice: the first request is what tells the committer.
    for envelopes in ((known, new), (known, new), (new,)):
        answer = rig.post(*envelopes)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (409, "log.frozen"), answer.text
        assert problem["successor_origin"] == SUCCESSOR
        assert [kept["seq"] for kept in problem["known"]] == [0] * (len(envelopes) - 1)
        assert "docs/runbooks/shards.md" in problem["detail"]
    assert rig.post(known).status_code == 200
    assert other.post(other.next()).json()["code"] == "log.frozen"
    answer = rig.client.post("/v1/stations", json=station_form("4713"), headers=rig.operator)
    assert (answer.status_code, answer.json()["code"]) == (409, "log.frozen")
    assert rig.client.get(f"/v1/receipts/{known.env_id.hex()}").status_code == 200
    assert rig.client.get("/readyz").status_code == 200


def test_nothing_is_due_in_a_frozen_log(service: Service) -> None:
    rig = Rig(service)
    for _ in range(3):
        rig.post(rig.next())
    rig.at_ms += 3 * 3_600_000
    rig.post(rig.next())  # hours nobody judged yet
    engine, key = service.wiring.engine, service.wiring.service_key
    end(service, next_origin("a/2026"))
    size = service.settle()
    with engine.begin() as conn:
        conn.execute(sa.text("CREATE TABLE later (n integer)"))
        conn.execute(sa.text("DROP TABLE later"))
    assert service.rows(
        "SELECT count(*) AS n FROM ddl_seen s WHERE s.seen_no NOT IN (SELECT seen_no FROM ddl_event)"
    )[0].n
    assert watch_database(engine, key) == 0
    assert Heads(engine, service.loop._publisher._disk, key).make_due(size) is None
    service.work()
    assert service.settle() == size
    assert (
        service.rows("SELECT count(*) AS n FROM procrastinate_jobs WHERE status IN ('todo', 'failed')")[0].n
        == 0
    )
