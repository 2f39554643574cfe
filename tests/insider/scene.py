"""What an insider finds in place: a log with two stations, and outside it a witness, a monitor, receipts, a bundle.

It is built once; every deed gets a copy of its database and of its folders.
"""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
import sqlalchemy as sa
import uvicorn

from emdi.keys import LocalKey
from emdi.note import NoteSigner
from emdi.policy import Policy
from stackwitness.accounts import flow as accounts
from stackwitness.accounts.domain import Account
from stackwitness.app import create_app
from stackwitness.db.embedded import Cluster
from stackwitness.db.engine import make_engine
from stackwitness.db.roles import EVERY_AGENCY
from stackwitness.db.unit import unit_of_work
from stackwitness.evidence import flow as evidence
from stackwitness.log.custody import Custody
from stackwitness.log.disk import Disk
from stackwitness.log.heads import make_head
from stackwitness.log.service_keys import open_service_key
from stackwitness.log.watching import watch_database
from stackwitness.settings import Settings
from stackwitness.wiring import Wiring
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor import Monitor, Turn
from stackwitness_client.witness.cosigner import Cosigner
from stackwitness_client.witness.memory import WitnessMemory
from tests.service.evidence_support import running
from tests.service.log_station import SmallStation
from tests.service.log_support import SmallLog

ENVELOPES = 290
LATER = 40
REGULATOR = Account("regulator-1", "r", "regulator")
AUDITOR = Account("auditor-1", "a", "auditor")
WITNESS_SEED = b"a witness of the insider tests.."
FOLDERS = ("home", "witness", "monitor", "kept")


@dataclass
class Scene:
    """One copy of it all. `folder` holds home (the service's), witness, monitor and kept (at stations and courts)."""

    folder: Path
    log: SmallLog
    station: SmallStation
    other: SmallStation
    flags: list[str]
    policy: Policy
    auditor_token: str
    database: str
    cluster: Cluster
    backup: str
    places: dict[tuple[str, int], int] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return self.log.settings

    @property
    def engine(self) -> sa.Engine:
        return self.log.engine

    @property
    def kept(self) -> Path:
        """Return the folder of what stations and courts have: receipts, an old checkpoint, a bundle."""
        return self.folder / "kept"

    @property
    def wiring(self) -> Wiring:
        key = self.log.service_key
        return Wiring(self.settings, self.engine, key, self.log.reader, Custody(self.engine, key))

    def run(self, *statements: str) -> None:
        """Run SQL as a superuser who puts the guards out of the way and tidies up after himself."""
        with self.engine.begin() as conn:
            guards = conn.execute(sa.text(
                "SELECT tgrelid::regclass::text, tgname, tgenabled::text FROM pg_trigger"
                " WHERE NOT tgisinternal AND tgparentid = 0"
            )).all()  # fmt: skip
            for table, guard, _ in guards:
                conn.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER {guard}"))
            conn.execute(sa.text("SET LOCAL session_replication_role = replica"))
            for statement in statements:
                assert conn.execute(sa.text(statement)).rowcount != 0, statement
            conn.execute(sa.text("SET LOCAL session_replication_role = origin"))
            for table, guard, enabled in guards:
                always = "ALWAYS " if enabled == "A" else ""
                conn.execute(sa.text(f"ALTER TABLE {table} ENABLE {always}TRIGGER {guard}"))

    def value(self, query: str) -> int:
        with self.engine.begin() as conn:
            return int(conn.execute(sa.text(query)).scalar_one())

    def idx_of(self, seq: int, stn: str = "S1") -> int:
        """Return the log index of an envelope, from the order it came in: whatever the database says now."""
        return self.places[(stn, seq)]

    def cosigner(self) -> Cosigner:
        """Return the witness, over its memory as it is."""
        return Cosigner(
            WitnessMemory(self.folder / "witness" / "state.db"),
            [NoteSigner("witness.example/1", WITNESS_SEED, 4)],
        )

    def look(self, url: str | None = None) -> Turn:
        """Let the monitor take a turn over HTTP; at everything again, not only at what is new."""
        if url is None:
            with served(self.wiring) as here:
                return self.look(here)
        link = ServerLink(url, token=self.auditor_token)
        monitor = Monitor(self.folder / "monitor", link, self.policy, api=True)
        try:
            monitor.state.put("projected", 0)
            return monitor.turn()
        finally:
            monitor.close()
            link.close()

    def export(self) -> Path:
        """Export the first station's two days, as a regulator; the log process runs meanwhile."""
        with unit_of_work(self.engine, "sw_export", EVERY_AGENCY) as conn:
            asked = evidence.request_export(
                conn, self.log.service_key, REGULATOR, stn="S1", purpose="a court", defer=False
            )
        with running(self.log.start()):
            return evidence.build_export(self.wiring, asked.export_id)

    def restore_backup(self) -> None:
        """Put the database back as it was before the last envelopes: last week's backup."""
        self.engine.dispose()
        name = self.engine.url.database
        assert name is not None
        _create(self.cluster, name, self.backup)


@contextmanager
def served(wiring: Wiring) -> Iterator[str]:
    """Serve the API on a free loopback port."""
    server = uvicorn.Server(uvicorn.Config(create_app(wiring), port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def build_scene(cluster: Cluster, template: str, folder: Path) -> Scene:
    """Build the first scene: everything honest, published, cosigned, followed, exported."""
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    _create(cluster, "insider_scene", template)
    url = cluster.url("insider_scene")
    settings = Settings(mode="test", home=folder / "home", database_url=url)
    engine = make_engine(url)
    log = SmallLog(settings, engine, open_service_key(settings.key_dir))
    loop = log.start()
    station, other = SmallStation(log), SmallStation(log, "S2", LocalKey.from_seed(b"o" * 32, "o1"))
    station.register()
    other.register()
    loop.sequence()
    station.push(ENVELOPES)
    other.push(5)
    loop.sequence()
    flags = [station.raise_flag(), station.raise_flag()]
    station.review(flags[0])
    with unit_of_work(engine, "sw_review") as conn:
        for account in (REGULATOR, AUDITOR):
            accounts.grant_access(conn, log.service_key, account, act="service:test")
        token = accounts.issue_token(conn, log.service_key, AUDITOR.account_id, act="service:test")
    watch_database(engine, log.service_key)
    loop.sequence()
    size = loop.publish().size
    make_head(engine, Disk(settings.log_dir), log.service_key, size)
    loop.sequence()
    loop.publish()
    engine.dispose()
    _create(cluster, "insider_backup", "insider_scene")
    old = log.reader.checkpoint()
    scene = Scene(
        folder, log, station, other, flags, log.policy, token, "insider_scene", cluster, "insider_backup"
    )
    station.push(LATER)
    loop.sequence()
    loop.publish()
    memory = WitnessMemory(folder / "witness" / "state.db")
    memory.add_log(log.policy.logs[0].key)
    (scene.kept / "old-checkpoint").write_bytes(old)
    shutil.copyfile(scene.export(), scene.kept / "bundle.zip")
    loop.publish()
    _keep_outside(scene)
    engine.dispose()
    return scene


def _keep_outside(scene: Scene) -> None:
    """Let station, witness and monitor take what is theirs."""
    from tests.insider.checks import submit

    with scene.engine.begin() as conn:
        rows = conn.execute(sa.text(
            "SELECT v.stn, v.seq, v.env_id, v.jws, e.idx FROM envelope v JOIN log_entry e ON e.entry_id = v.env_id"
        )).all()  # fmt: skip
    scene.places = {(row.stn, row.seq): row.idx for row in rows}
    for row in rows:
        if row.stn == "S1" and row.seq in (17, ENVELOPES + LATER - 1):
            receipt = scene.log.reader.receipt(bytes(row.env_id))
            assert receipt is not None
            (scene.kept / f"{row.seq}.jws").write_bytes(bytes(row.jws))
            (scene.kept / f"{row.seq}.tlog-proof").write_bytes(receipt)
    (scene.kept / "checkpoint").write_bytes(scene.log.reader.checkpoint())
    assert submit(scene, 0, scene.log.reader.checkpoint()).status == 200
    turn = scene.look()
    assert (turn.exit_code, turn.raised) == (0, []), turn


@contextmanager
def copied(scene: Scene, folder: Path) -> Iterator[Scene]:
    """Give a copy to spoil; the first scene stays as it is."""
    name = "insider_copy"
    _create(scene.cluster, name, scene.database)
    for part in FOLDERS:
        shutil.copytree(scene.folder / part, folder / part)
    url = scene.cluster.url(name)
    engine = make_engine(url)
    settings = Settings(mode="test", home=folder / "home", database_url=url)
    log = SmallLog(settings, engine, open_service_key(settings.key_dir))
    station, other = replace(scene.station, log=log), replace(scene.other, log=log)
    copy = replace(scene, folder=folder, log=log, station=station, other=other)
    try:
        yield copy
    finally:
        engine.dispose()
        with psycopg.connect(scene.cluster.url("postgres"), autocommit=True) as conn:
            conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _create(cluster: Cluster, name: str, template: str) -> None:
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY".encode())
