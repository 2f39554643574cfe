"""Fixtures: one throwaway PostgreSQL per session, one database per test cloned from a migrated template."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import Engine

from stackwitness.db.embedded import APP, Cluster
from stackwitness.db.engine import make_engine
from stackwitness.db.migrate import migrate
from stackwitness.db.timescale import run_script
from stackwitness.evidence.build import Progress

TEST_URL = "STACKWITNESS_TEST_DATABASE_URL"
TEMPLATE = "template_stackwitness"
GUARDED_BY_TIMESCALE = (
    "its insider switches a hypertable's triggers off, which TimescaleDB refuses beside a columnstore"
)
# What the TimescaleDB of `make test-timescale` cannot do (one backend, no concurrency, not our cluster): why, by
# part of a test's id. Everything else of the service's tests runs there too.
NOT_ON_ONE_BACKEND = {
    "test_migrating_again_or_at_once": "needs a database of its own and concurrent migrations",
    "test_a_back_fill_makes_its_months": "native partitions only; a hypertable makes its chunks",
    "test_months_are_made_beside": "native partitions only, and needs concurrent transactions",
    "test_a_reading_outside_every_month": "native partitions only; a hypertable makes its chunks",
    "test_receipts_verify_at_every_published_size[sizes3]": "executemany in a pipeline of thousands blocks its wire server",
    "test_checkpoints_are_consistent": "executemany in a pipeline of thousands blocks its wire server",
    "test_second_leader_without_the_lock": "needs two open transactions",
    "test_a_late_commit_with_a_lower_number": "needs two open transactions",
    "test_an_absent_server": "about a server that is absent",
    "test_fsck_spans": "processes read in the checker's own snapshot (SET TRANSACTION SNAPSHOT): several backends",
    "test_the_embedded_cluster_keeps": "about the checksums and the fsync of the embedded PostgreSQL",
    "test_a_killed_build_goes_on": "another process says a build's progress beside the transaction it reads in: two backends",
    "test_the_progress_of_a_build": "a build says its progress beside the transaction it reads in: two backends",
    "test_what_is_known_is_acknowledged_and": "its wire server drops the DETAIL of a failed COPY, which names the successor",
    "test_what_is_shown_otherwise_than_signed": GUARDED_BY_TIMESCALE,
    "test_a_reading_nobody_signed_is_named": GUARDED_BY_TIMESCALE,
    "test_without_a_token_no_more": GUARDED_BY_TIMESCALE,
    "test_the_sample_alone_finds_an_edit": GUARDED_BY_TIMESCALE,
    "test_guards_switched_off_and_heads": GUARDED_BY_TIMESCALE,
}
_numbers = itertools.count(1)
MEMORY = Path("/dev/shm")
MEMORY_NEEDED_BYTES = 2 << 30


def memory_folder() -> str | None:
    """Name the folder that is kept in memory when it has room, else None: the usual temporary one.

    A database cloned per test is 300 files written and removed again: on a disk's file system that costs up to ten
    times the processor time that it costs in memory. No promise is about the disk below a throwaway cluster, whose
    fsync is off anyhow.
    """
    try:
        roomy = shutil.disk_usage(MEMORY).free >= MEMORY_NEEDED_BYTES
        roomy = roomy and psutil.virtual_memory().available >= 2 * MEMORY_NEEDED_BYTES
    except OSError:
        return None
    return str(MEMORY) if roomy and os.access(MEMORY, os.W_OK | os.X_OK) else None


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Start a throwaway cluster in a folder that the user nobody may enter; stop and remove it at the end."""
    if TEST_URL in os.environ:
        pytest.skip(f"{TEST_URL} names one foreign server: no cluster of our own to clone databases in")
    folder = Path(tempfile.mkdtemp(prefix="stackwitness-test-", dir=memory_folder()))
    folder.chmod(0o755)
    running = Cluster(folder, throwaway=True)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template(cluster: Cluster) -> str:
    """Migrate the template database once."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {TEMPLATE}")
    migrate(cluster.url(TEMPLATE), APP)
    return TEMPLATE


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the test a database of its own, migrated and empty."""
    foreign = os.environ.get(TEST_URL)
    if foreign is not None:
        # A build says its progress beside the transaction it reads in: all of it but that runs on one backend.
        request.getfixturevalue("monkeypatch").setattr(Progress, "say", lambda _: None)
        yield from _foreign_database(foreign, rights="test_grants" in request.node.nodeid)
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    template: str = request.getfixturevalue("template")
    name = f"test_{next(_numbers)}"
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield cluster.url(name)
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


DROP_ALL = """
DO $$
DECLARE commands text[]; command text;
BEGIN
    DROP EVENT TRIGGER IF EXISTS note_ddl_end; DROP EVENT TRIGGER IF EXISTS note_ddl_drop;  -- they write to a table that is dropped below
    SELECT array_agg(c) INTO commands FROM (
        SELECT format('DROP %s IF EXISTS %s CASCADE',
                      CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                      oid::regclass) AS c
        FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'S')
        AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND deptype IN ('e', 'a', 'i'))
        UNION ALL
        SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', oid::regprocedure)
        FROM pg_proc p WHERE pronamespace = 'public'::regnamespace
        AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
        UNION ALL
        SELECT format('DROP TYPE IF EXISTS %s CASCADE', oid::regtype)
        FROM pg_type t WHERE typnamespace = 'public'::regnamespace
        AND (typtype IN ('e', 'd') OR EXISTS (SELECT FROM pg_class WHERE oid = t.typrelid AND relkind = 'c'))
        AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = t.oid AND deptype = 'e')
    ) all_of_ours;
    FOREACH command IN ARRAY coalesce(commands, '{}') LOOP
        EXECUTE command;
    END LOOP;
END $$
"""


def _foreign_database(url: str, *, rights: bool) -> Iterator[str]:
    """Drop all that is ours on a server with one database only, and migrate it anew.

    This server makes every COPY FROM STDIN one from a file of its own, which only a superuser may do into a
    hypertable. Where a test is not about `rights`, the role that copies readings is given that.
    """
    engine = make_engine(url, pool_size=1)
    with engine.begin() as conn:
        # What an earlier test SET stays, every session being the one backend; and what ours say as they open is ignored.
        run_script(conn, "RESET ALL; SET search_path = public")
        run_script(conn, DROP_ALL)
        # The server is started like this: whoever finds it so on a real one is right to name it.
        run_script(conn, "SET allow_system_table_mods = off")
    engine.dispose()
    migrate(url)
    engine = make_engine(url, pool_size=1)
    with engine.begin() as conn:
        run_script(conn, "GRANT pg_read_server_files TO sw_seq")
        run_script(conn, f"ALTER ROLE sw_ingest {'NOSUPERUSER' if rights else 'SUPERUSER'}")
    engine.dispose()
    yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Give an engine on the test's database."""
    made = make_engine(database_url, pool_size=1 if TEST_URL in os.environ else 10)
    yield made
    made.dispose()
