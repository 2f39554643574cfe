"""Fixture: a whole service in this process over real parts; the log moves when the test says so."""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from stackwitness.accounts import flow as accounts
from stackwitness.app import create_app
from stackwitness.db.unit import unit_of_work
from stackwitness.log.disk import Disk
from stackwitness.log.heads import Heads
from stackwitness.log.loop import LogLoop, ensure_genesis
from stackwitness.log.signer import SignerClient, run_signer
from stackwitness.settings import Settings
from stackwitness.wiring import Wiring, wire
from tests.support import invariants

SIGNER_STARTS_WITHIN_S = 10.0


@dataclass
class Service:
    """A running service: `client` speaks HTTP to it, `settle()` moves the log, `headers(role)` signs in."""

    settings: Settings
    wiring: Wiring
    client: TestClient
    loop: LogLoop
    tokens: dict[str, str] = field(default_factory=dict)

    def settle(self) -> int:
        """Sequence and publish until nothing waits; return the log's size."""
        while self.loop.sequence() or self.pending():
            pass
        return self.loop.publish().size

    def work(self) -> None:
        """Run the worker until no job is left."""
        from stackwitness.detection.tasks import serve  # loads numpy: only for tests that need it

        asyncio.run(serve(self.wiring, wait=False, install_signal_handlers=False))

    def pending(self) -> int:
        """Return how many leaves wait."""
        with self.wiring.engine.connect() as conn:
            return int(conn.execute(text("SELECT count(*) FROM log_pending")).scalar_one())

    def headers(self, account_id: str) -> dict[str, str]:
        """Return the headers that make a request one of the development account of this name (its role; the second operator is "approver")."""
        if account_id not in self.tokens:
            with unit_of_work(self.wiring.engine) as conn:
                if not self.tokens:
                    accounts.ensure_development_accounts(conn, self.wiring.service_key, "test")
                self.tokens[account_id] = accounts.issue_token(
                    conn, self.wiring.service_key, account_id, act=accounts.DEVELOPMENT
                )
        return {"Authorization": f"Bearer {self.tokens[account_id]}"}

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        """Return the rows of a query, for what no route shows."""
        with self.wiring.engine.connect() as conn:
            return list(conn.execute(text(statement), parameters).all())

    def check(self) -> None:
        """Check the whole state; see tests/support/invariants.py."""
        assert invariants.check(self.wiring.engine, self.settings.log_dir) == []


@pytest.fixture
def signer(settings: Settings) -> Iterator[SignerClient]:
    """Run the signer in a thread, behind its real socket."""
    stop = threading.Event()
    thread = threading.Thread(target=run_signer, args=(settings,), kwargs={"stop": stop})
    thread.start()
    client = SignerClient(settings.signer_socket)
    deadline = time.monotonic() + SIGNER_STARTS_WITHIN_S
    while not settings.signer_socket.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    yield client
    stop.set()
    thread.join()
    settings.signer_socket.unlink(missing_ok=True)


@pytest.fixture
def service(settings: Settings, signer: SignerClient) -> Iterator[Service]:
    """Give a whole service; its whole state is checked after the test."""
    wiring = wire(settings)
    ensure_genesis(wiring.engine, settings, wiring.service_key, signer)
    disk = Disk(settings.log_dir)
    heads = Heads(wiring.engine, disk, wiring.service_key, scheduled=False)
    loop = LogLoop(wiring.engine, disk, signer, heads)
    with TestClient(create_app(wiring), raise_server_exceptions=False) as client:
        running = Service(settings, wiring, client, loop)
        running.settle()
        yield running
        running.check()
    wiring.engine.dispose()
