"""The database goes away under ingest: 503 with Retry-After, nothing half stored, lost or twice."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text

from stackwitness.db.engine import make_engine
from stackwitness.errors import DatabaseUnavailable
from stackwitness.ingest import queries
from stackwitness.ingest.flow import Committer, accept
from tests.service.rig import Rig
from tests.support.service import Service

KILL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def kill_backends(url: str) -> None:
    """End every other connection to the test's database, as a crash of the server does."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(KILL)


@pytest.mark.parametrize("step", ["lock_stations", "copy_envelopes", "copy_readings", "store_heads"])
def test_connection_lost_in_the_middle(service: Service, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(service)
    rig.post(rig.next())
    url = str(service.settings.database_url)
    real: Callable[..., Any] = getattr(queries, step)
    envelopes = [rig.next() for _ in range(3)]

    def interrupted(*arguments: Any) -> Any:
        result = real(*arguments)
        kill_backends(url)
        return result

    monkeypatch.setattr(queries, step, interrupted)
    answer = rig.post(*envelopes)
    assert (answer.status_code, answer.json()["code"]) == (503, "database.unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    monkeypatch.undo()
    _ping_until_back(service.wiring.engine)
    assert rig.stored() == [(1, 0)]
    again = rig.post(*envelopes)
    assert again.status_code == 202
    assert rig.stored() == [(1, seq) for seq in range(4)]
    assert len(service.rows("SELECT 1 FROM reading")) == 12


def test_answer_lost_after_the_commit(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can know whether a COMMIT went through whose answer is lost: the second try says so."""
    rig = Rig(service)
    url = str(service.settings.database_url)
    real, real_heads = psycopg.Connection.commit, queries.store_heads
    ours: list[psycopg.Connection[Any]] = []

    def mark(raw: psycopg.Connection[Any], heads: Any) -> None:
        real_heads(raw, heads)
        ours.append(raw)

    def lost(raw: psycopg.Connection[Any]) -> None:
        if raw not in ours:  # somebody else's
            return real(raw)
        monkeypatch.undo()
        real(raw)
        kill_backends(url)
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    rig.post(rig.next())
    envelope = rig.next()
    monkeypatch.setattr(queries, "store_heads", mark)
    monkeypatch.setattr(psycopg.Connection, "commit", lost)
    first = rig.post(envelope)
    _ping_until_back(service.wiring.engine)
    assert first.status_code == 503
    assert rig.post(envelope).status_code == 200
    assert rig.stored() == [(1, 0), (1, 1)]


def test_locked_out_by_another_transaction(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(service)
    envelope = rig.next()
    rig.post(envelope)
    monkeypatch.setattr(queries, "LOCK_TIMEOUT", "200ms")
    with service.wiring.engine.begin() as conn:
        conn.execute(text("SELECT 1 FROM station FOR UPDATE"))
        answer = rig.post(rig.seal())
        assert (answer.status_code, answer.json()["code"]) == (503, "database.unavailable")
    assert rig.post(rig.next()).status_code == 202


def test_server_that_was_never_there(service: Service) -> None:
    """A service over a dead address answers 503 to everything that needs it, and does not hang."""
    engine = make_engine("postgresql://nobody@127.0.0.1:9/none")
    wiring = type("Dead", (), {
        "settings": service.settings, "engine": engine, "service_key": service.wiring.service_key,
    })()  # fmt: skip
    rig = Rig(service)

    async def run() -> None:
        with Committer(wiring) as committer, pytest.raises(DatabaseUnavailable):
            await accept(rig.seal().jws, committer)

    asyncio.run(run())
    engine.dispose()


def test_nothing_acknowledged_is_lost_while_connections_die(service: Service) -> None:
    """A station pushes on while its server's connections are cut again and again."""
    rig = Rig(service)
    url = str(service.settings.database_url)
    stop = threading.Event()

    def cut() -> None:
        while not stop.wait(0.15):
            kill_backends(url)

    cutter = threading.Thread(target=cut)
    cutter.start()
    acknowledged, refused = [], 0
    try:
        for _ in range(30):
            envelope = rig.next()
            while True:
                answer = rig.post(envelope)
                if answer.status_code in (200, 202):
                    acknowledged.append((envelope.ep, envelope.seq))
                    break
                assert answer.status_code == 503, answer.text
                refused += 1
                time.sleep(0.01)
    finally:
        stop.set()
        cutter.join()
    _ping_until_back(service.wiring.engine)
    assert rig.stored() == acknowledged
    assert len(service.rows("SELECT 1 FROM reading")) == 3 * len(acknowledged)


def _ping_until_back(engine: Engine) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            with engine.connect() as conn:
                conn.execute(text("SELECT 1"))
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
