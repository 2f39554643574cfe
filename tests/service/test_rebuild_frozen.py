"""A frozen log that is lost with its database: what comes back into a new one, and what its checker says then."""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from emdi.policy import format_policy
from stackwitness.db.catalog import hash_catalog, join_catalog
from stackwitness.db.embedded import APP, Cluster
from stackwitness.db.engine import make_engine
from stackwitness.db.migrate import migrate
from stackwitness.log.events import append_event
from stackwitness.log.fsck import Report, fsck
from stackwitness.log.rebuild.command import run_rebuild
from stackwitness.log.rebuild.schema import RUNNING
from stackwitness.log.watching import watch_database
from stackwitness.settings import Settings
from tests.service.evidence_support import Shop, make_shop
from tests.service.log_support import SmallLog
from tests.service.test_frozen_bundle import build, end
from tests.service.test_rebuild_mirror import mirrored

# Drawings, and an account that speaks in no bundle: the log holds the SHA-256, backups the rest.
NOT_COME_BACK = {"account.text", "flag.text"}


@pytest.fixture
def new_database(cluster: Cluster) -> Iterator[str]:
    """Make a database as `up` does on a new disk: its changes of the schema are its own, not copies of the lost one's."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute("CREATE DATABASE made_anew")
    migrate(cluster.url("made_anew"), APP)
    yield cluster.url("made_anew")
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute("DROP DATABASE made_anew WITH (FORCE)")


@dataclass
class Lost:
    """A log that is gone but for its keys, a mirror, and one bundle that a court has."""

    shop: Shop
    url: str
    bundle: Path
    folder: Path
    database_url: str

    @contextmanager
    def back(self) -> Iterator[Shop]:
        """Rebuild it into the new database, with the words that the bundle discloses."""
        home = self.folder / "elsewhere"
        settings = self.shop.settings.model_copy(update={"home": home, "database_url": self.database_url})
        for name in ("keys", "signer"):
            (home / name).mkdir(parents=True)
        for file in (*self.shop.settings.key_dir.iterdir(), self.shop.settings.signer_dir / "log.key"):
            (home / file.relative_to(self.shop.settings.home)).write_bytes(file.read_bytes())
        (self.folder / "policy.txt").write_text(format_policy(self.shop.log.policy))
        engine = make_engine(self.database_url)
        try:
            assert self.rebuild(settings, engine) == 2
            log = SmallLog(settings, engine, self.shop.service_key)
            yield Shop(log, None, self.shop.station, settings, engine, log.service_key, log.reader)  # type: ignore[arg-type]
        finally:
            engine.dispose()

    def rebuild(self, settings: Settings, engine: sa.Engine) -> int:
        """Run the command; return its exit code."""
        texts = self.folder / "texts.jsonl"
        with zipfile.ZipFile(self.bundle) as archive:
            texts.write_bytes(archive.read("disclosures.jsonl"))
        policy = self.folder / "policy.txt"
        return run_rebuild(engine, settings, self.shop.service_key, self.url, policy, disclosures=texts)

    def check(self, shop: Shop) -> Report:
        """Check what came back, with the policy from outside."""
        return fsck(shop.engine, shop.settings.log_dir, self.shop.log.policy)


@contextmanager
def losing(
    shop: Shop,
    database_url: str,
    folder: Path,
    *,
    frozen: bool,
    before: Callable[[Shop], None] = lambda shop: None,
) -> Iterator[Lost]:
    """Let a log sign its own schema, give a bundle, be followed by a monitor, and be lost."""
    while watch_database(shop.engine, shop.service_key):
        pass
    before(shop)
    shop.loop.sequence()
    if frozen:
        end(shop)
    shop.loop.publish()
    with shop.running_log():
        bundle = build(shop, stn="S1")
    shop.loop.publish()
    assert fsck(shop.engine, shop.settings.log_dir, shop.log.policy).findings == []
    with mirrored(shop.log, folder / "monitor") as url:
        yield Lost(shop, url, bundle, folder, database_url)


@pytest.fixture
def shop(settings: Settings, engine: sa.Engine) -> Shop:
    return make_shop(settings, engine)


def take_from_backup(old: sa.Engine, new: sa.Engine) -> None:
    """Bring what neither log nor bundle holds, as a dump of the tables would."""
    for table, key, *names in (
        ("flag", "flag_id", "plot"),
        ("account", "account_id", "display_name", "salt"),
    ):
        with old.connect() as conn:
            rows = conn.execute(sa.text(f"SELECT {key}, {', '.join(names)} FROM {table}")).mappings().all()
        sets = ", ".join(f"{name} = :{name}" for name in names)
        with new.begin() as conn:
            conn.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER append_only_row"))
            conn.execute(
                sa.text(f"UPDATE {table} SET {sets} WHERE {key} = :{key}"), [dict(row) for row in rows]
            )
            conn.execute(sa.text(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER append_only_row"))


def run(engine: sa.Engine, *statements: str) -> None:
    """Run SQL as the superuser, none of the tables' guards in the way."""
    with engine.begin() as conn:
        conn.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            conn.execute(sa.text(statement))


def ddl(engine: sa.Engine) -> list[str]:
    """Return the rows of what was signed of the schema."""
    query = "SELECT d::text FROM ddl_seen d JOIN ddl_event USING (seen_no) ORDER BY seen_no"
    with engine.connect() as conn:
        return list(conn.scalars(sa.text(query)))


def codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


# One after the other in the same database: what is done, and what the checker must name of it.
BENDINGS = [
    (
        (
            "ALTER TABLE flag DISABLE TRIGGER ALL",
            "GRANT DELETE ON envelope TO sw_read",
            "ALTER EVENT TRIGGER note_ddl_end DISABLE",
        ),
        {"trigger.changed", "grant.added", "eventtrigger.changed"},
    ),
    (
        ("ALTER TABLE ddl_seen DISABLE TRIGGER ALL", "DELETE FROM ddl_seen WHERE seen_no = 7"),
        {"trigger.changed", "ddl_seen.missing"},
    ),
    (
        ("ALTER TABLE catalog_baseline DISABLE TRIGGER ALL", "UPDATE catalog_baseline SET lines = ''"),
        {"catalog.changed", "catalog_baseline.text"},
    ),
    (("UPDATE alembic_version SET version_num = '9999'",), {"catalog.unsigned"}),
]


def test_a_frozen_log_comes_back_clean_and_whoever_bends_it_then_is_named(
    shop: Shop, new_database: str, tmp_path: Path
) -> None:
    with losing(shop, new_database, tmp_path, frozen=True) as lost, lost.back() as again:
        report = lost.check(again)
        assert (codes(report), report.tampered) == (NOT_COME_BACK, 0), report.findings
        assert ddl(again.engine) == ddl(shop.engine) != []
        with shop.engine.connect() as conn:
            query = "SELECT DISTINCT statement FROM ddl_seen WHERE identity LIKE '%reading\\_20%'"
            assert set(conn.scalars(sa.text(query))) == set(RUNNING)
        # How this database began is kept and counted; no event can name it any more.
        assert report.unchecked.keys() == {"ddl_seen.frozen"}
        assert build(again, stn="S1").read_bytes() == lost.bundle.read_bytes()
        take_from_backup(shop.engine, again.engine)
        clean = lost.check(again)
        assert (clean.findings, clean.exit_code) == ([], 0)
        assert clean.unchecked["ddl_seen.frozen"] > report.unchecked["ddl_seen.frozen"] > 100
        assert lost.rebuild(again.settings, again.engine) == 0  # a second time there is nothing to do
        for statements, named in BENDINGS:
            run(again.engine, *statements)
            assert named <= codes(lost.check(again))
            # A rebuild hides nothing: a row may come back, the schema is nobody's to put right.
            lost.rebuild(again.settings, again.engine)
            assert named - {"ddl_seen.missing"} <= codes(lost.check(again))


def leave_what_cannot_be_known(shop: Shop) -> None:
    """Sign a change of the schema that no program of ours makes, and the catalog of a revision that has passed."""
    run(shop.engine, "CREATE TABLE once_here (n integer)", "DROP TABLE once_here")
    watch_database(shop.engine, shop.service_key)
    lines = ["table flag as it was"]
    digest, data = hash_catalog(lines), {"revision": "0001", "sha256": hash_catalog(lines).hex(), "lines": 1}
    with shop.engine.begin() as conn:
        event = append_event(
            conn, shop.service_key, typ="catalog.baseline", subj="database", act="service:test", data=data
        )
        conn.execute(
            sa.text("INSERT INTO catalog_baseline VALUES ('0001', :sha256, :lines, :event_id)"),
            {"sha256": digest, "lines": join_catalog(lines), "event_id": event.event_id},
        )


def test_what_cannot_come_back_is_named_and_so_is_a_schema_that_was_bent_before(
    shop: Shop, new_database: str, tmp_path: Path
) -> None:
    with losing(shop, new_database, tmp_path, frozen=True, before=leave_what_cannot_be_known) as lost:
        insider = make_engine(new_database)
        with lost.back() as again:
            report = lost.check(again)
            assert codes(report) == NOT_COME_BACK | {"ddl_seen.text"}, report.findings
            assert (report.exit_code, report.unchecked["catalog_baseline.passed"]) == (2, 1)
            query = (
                "SELECT tag, identity, statement FROM ddl_seen WHERE identity LIKE '%once_here' ORDER BY 1"
            )
            with again.engine.connect() as conn:
                rows = [tuple(row) for row in conn.execute(sa.text(query))]
            assert rows == [("CREATE TABLE", "public.once_here", ""), ("DROP TABLE", "public.once_here", "")]
            run(insider, "ALTER TABLE catalog_baseline DISABLE TRIGGER ALL", "DELETE FROM catalog_baseline")
            lost.rebuild(again.settings, again.engine)
            report = lost.check(again)
            # The lines come back where the schema is the signed one, and nowhere else.
            assert {"catalog.changed", "catalog_baseline.text"} <= codes(report)
            assert report.exit_code == 1
        insider.dispose()


def test_a_log_that_goes_on_signs_how_its_new_database_was_made(
    shop: Shop, new_database: str, tmp_path: Path
) -> None:
    with losing(shop, new_database, tmp_path, frozen=False) as lost:
        signed, insider = ddl(shop.engine), make_engine(new_database)
        run(insider, "CREATE TABLE aside (n integer)", "DROP TABLE aside")
        insider.dispose()
        with lost.back() as again:
            assert ddl(again.engine) == signed
            while watch_database(again.engine, again.service_key):
                pass
            now = ddl(again.engine)
            assert now[: len(signed)] == signed
            assert sum("public.aside" in row for row in now[len(signed) :]) == 2
            report = lost.check(again)
            assert (codes(report), report.unchecked) == ({"flag.text"}, {}), report.findings
