"""A small world to break: one station, one database, one log; made once, then copied for every fault."""

import asyncio
import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import sqlalchemy as sa
from starlette.testclient import TestClient

from emdi.chain import StationHead
from emdi.envelope import Envelope, seal_envelope
from emdi.keys import LocalKey
from emdi.policy import Policy
from emdi.receipt import verify_receipt
from stackwitness import clock
from stackwitness.app import create_app
from stackwitness.db.embedded import Cluster
from stackwitness.ingest.flow import Committer, accept
from stackwitness.log.fsck import fsck
from stackwitness.log.loop import LogLoop
from stackwitness.settings import Settings
from stackwitness.wiring import Wiring, wire
from tests.service.log_support import SmallLog
from tests.service.rig import MINUTE_MS, Rig, minute
from tests.support import invariants
from tests.support.service import Service

BASE_SIZE = 250  # six entries before the end of the first bundle and tile
_numbers = itertools.count(1)


@dataclass
class Base:
    """What every world begins with."""

    cluster: Cluster
    database: str
    home: Path
    key: LocalKey
    stn: str
    head: StationHead
    at_ms: int
    given: list[tuple[bytes, bytes]]
    policy: Policy

    @contextmanager
    def world(self, folder: Path) -> Iterator["World"]:
        """Yield a copy of the base, with a database and a home of its own."""
        name = f"fault_{os.getpid()}_{next(_numbers)}"
        shutil.copytree(self.home, folder / "home", ignore=shutil.ignore_patterns("*.sock"))
        with psycopg.connect(self.cluster.url("postgres"), autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {name} TEMPLATE {self.database} STRATEGY FILE_COPY")
        settings = Settings(mode="test", home=folder / "home", database_url=self.cluster.url(name))
        world = World(self, settings, wire(settings), self.head, self.at_ms, list(self.given))
        try:
            yield world
        finally:
            world.wiring.engine.dispose()
            with psycopg.connect(self.cluster.url("postgres"), autocommit=True) as conn:
                conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


@dataclass
class World:
    """A log with its station; remembers every 2xx and every receipt ever given."""

    base: Base
    settings: Settings
    wiring: Wiring
    head: StationHead
    at_ms: int
    given: list[tuple[bytes, bytes]]  # receipt, JWS
    acked: list[Envelope] = field(default_factory=list)
    _waiting: list[Envelope] = field(default_factory=list)

    @property
    def engine(self) -> sa.Engine:
        return self.wiring.engine

    @property
    def log(self) -> SmallLog:
        return SmallLog(self.settings, self.engine, self.wiring.service_key)

    def seal(self, count: int) -> list[Envelope]:
        """Return the station's next envelopes; its chain does not move."""
        made: list[Envelope] = []
        head = self.head
        for number in range(count):
            envelope = seal_envelope(
                self.base.key, stn=self.base.stn, ep=head.ep, seq=head.seq + 1, prev=head.env_id,
                iat_ms=clock.now_ms(), cp=None, records=minute(self.at_ms + number * MINUTE_MS),
            )  # fmt: skip
            made.append(envelope)
            head = StationHead(envelope.ep, envelope.seq, envelope.env_id)
        return made

    def post(self, envelopes: list[Envelope]) -> None:
        """Ingest envelopes as the API does; those it answered 2xx for are remembered. Raises its refusal."""

        async def run() -> None:
            with Committer(self.wiring) as committer:
                verdict = await accept(b"\n".join(item.jws for item in envelopes), committer)
            if verdict.failure is not None:
                raise verdict.failure.error

        asyncio.run(run())
        self.acked += envelopes
        self._waiting += envelopes
        last = envelopes[-1]
        self.head = StationHead(last.ep, last.seq, last.env_id)
        self.at_ms += len(envelopes) * MINUTE_MS

    def post_and_die(self, envelopes: list[Envelope], prepare: Callable[[], object]) -> int:
        """Ingest in a process that `prepare` makes kill itself; return the signal it died of."""
        self.engine.dispose()
        child = os.fork()
        if child == 0:
            try:
                prepare()
                self.post(envelopes)
            finally:
                os._exit(0)
        return os.WTERMSIG(os.waitpid(child, 0)[1])

    def grow(self, count: int) -> None:
        """Ingest `count` envelopes."""
        if count:
            self.post(self.seal(count))

    def turn(self, loop: LogLoop) -> int:
        """Sequence and publish; remember the receipts anyone could have now; return the published size."""
        loop.sequence()
        size = loop.publish().size
        self.collect()
        return size

    def collect(self) -> None:
        """Remember the first receipt of everything that has one now."""
        found = self.log.reader.receipts([item.env_id for item in self._waiting])
        self.given += [(found[item.env_id], item.jws) for item in self._waiting if item.env_id in found]
        self._waiting = [item for item in self._waiting if item.env_id not in found]

    @property
    def published(self) -> int:
        """The size of the checkpoint on disk."""
        return int(self.log.reader.checkpoint().split(b"\n", 2)[1])

    def check(self) -> str:
        """Check everything after a restart: nothing is lost, nothing given stopped being true."""
        stored = self.stored()
        assert {item.env_id for item in self.acked} <= stored, "an envelope answered 2xx is gone"
        found = self.log.reader.receipts([item.env_id for item in self.acked])
        assert len(found) == len({item.env_id for item in self.acked}), "an envelope has no receipt"
        for receipt, jws in [*self.given, *((found[item.env_id], item.jws) for item in self.acked[::-7])]:
            self.verify(receipt, jws)
        assert invariants.check(self.engine, self.settings.log_dir) == []
        report = fsck(
            self.engine, self.settings.log_dir, self.log.policy, signer_dir=self.settings.signer_dir
        )
        assert report.findings == []
        return f"{len(self.given)} receipts hold"

    def verify(self, receipt: bytes, jws: bytes) -> None:
        """Verify a receipt with the policy the station was given at the start."""
        verify_receipt(receipt, jws, self.base.policy)

    def stored(self) -> set[bytes]:
        """Return the ids of the envelopes in the database."""
        with self.engine.connect() as conn:
            return {bytes(row[0]) for row in conn.execute(sa.text("SELECT env_id FROM envelope"))}


def make_base(cluster: Cluster, template: str, folder: Path) -> Base:
    """Register a station through the API, ingest, sequence and publish up to BASE_SIZE entries."""
    name = f"fault_base_{os.getpid()}"
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    home = folder / "home"
    home.mkdir()
    settings = Settings(mode="test", home=home, database_url=cluster.url(name))
    wiring = wire(settings)
    log = SmallLog(settings, wiring.engine, wiring.service_key)
    loop = log.start()
    with TestClient(create_app(wiring), raise_server_exceptions=False) as client:
        service = Service(settings, wiring, client, loop)
        rig = Rig(service)
        made = [rig.next() for _ in range(BASE_SIZE - service.settle())]
        for start in range(0, len(made), 200):
            assert rig.post(*made[start : start + 200]).status_code == 202
        assert service.settle() == BASE_SIZE
    found, policy = log.reader.receipts([item.env_id for item in made]), log.policy
    given = [(found[item.env_id], item.jws) for item in made[::40]]
    wiring.engine.dispose()
    last = made[-1]
    head = StationHead(last.ep, last.seq, last.env_id)
    return Base(cluster, name, home, rig.key, rig.stn, head, rig.at_ms, given, policy)


def die() -> None:
    """Kill this process as the kernel would."""
    os.kill(os.getpid(), signal.SIGKILL)
