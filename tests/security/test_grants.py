"""Who may do what: one table for every role and every table of the catalog, read from the catalog and tried for real."""

import os
from collections.abc import Iterator

import psycopg
import pytest

from stackwitness.db.embedded import APP
from stackwitness.db.roles import OWNER, ROLES
from tests.support.database import TEST_URL

ROLE_NAMES = [role.removeprefix("sw_") for role in ROLES]
# i insert, s select, u update, d delete, . nothing; nobody may TRUNCATE. UPDATE: caches and queues. DELETE: queues.
MATRIX = """
table                          ingest  seq  detect  review  export  read
event                          is      is   is      is      is      s
subject_head                   isu     isu  isu     isu     isu     s
account                        s       .    .       is      s       s
access_token                   .       .    .       isu     s       s
station                        s       s    s       is      s       s
channel                        s       s    s       is      s       s
channel_limit                  s       s    s       is      s       s
station_key                    s       s    s       is      s       s
key_request                    s       s    s       is      s       s
key_revocation                 s       s    s       is      s       s
key_compromise                 s       s    s       is      s       s
service_key                    s       is   s       s       s       s
epoch                          is      s    s       s       s       s
epoch_ack                      s       s    s       is      s       s
explanation                    .       i    .       is      is      s
gap                            is      s    s       s       s       s
envelope                       is      s    s       .       s       .
envelope_seen                  .       .    .       s       s       s
reading                        is      .    s       .       s       .
reading_seen                   .       .    .       s       s       s
quarantine                     is      s    .       .       s       .
station_head                   isu     s    s       s       s       s
detection_state                .       .    isu     .       s       s
detection_kept                 .       .    isd     .       s       s
judgement                      .       .    isu     .       s       s
fleet_run                      .       .    isu     .       s       s
flag                           is      .    is      s       s       s
flag_extension                 is      .    is      s       s       s
flag_lapse                     .       .    is      s       s       s
review                         s       .    s       is      s       s
custody                        .       .    .       is      s       s
export_request                 .       .    .       s       isu     s
export_station                 .       .    .       s       is      s
frozen_export                  .       .    .       s       isu     s
export                         .       .    .       s       is      s
log_genesis                    s       is   s       s       s       s
log_pending                    s       sd   s       s       s       s
log_entry                      s       is   s       s       s       s
log_head                       s       is   s       s       s       s
log_freeze                     s       is   s       s       s       s
log_previous                   s       s    s       s       s       s
log_bytes                      .       s    .       .       s       .
head_daily                     .       is   .       .       s       s
head_request                   .       sd   .       .       is      .
ddl_seen                       .       s    .       .       s       s
ddl_event                      .       is   .       .       s       s
catalog_baseline               .       is   .       .       s       s
alembic_version                s       s    s       s       s       s
procrastinate_jobs             isu     .    isud    .       isu     s
procrastinate_events           i       .    isud    .       is      s
procrastinate_workers          .       .    isud    .       s       s
procrastinate_periodic_defers  .       .    isud    .       s       s
"""
VERBS = {"i": "INSERT", "s": "SELECT", "u": "UPDATE", "d": "DELETE", "t": "TRUNCATE"}
# Tables that are not evidence: caches that fsck compares with the log, queues, and the tools' own.
MUTABLE = {
    *(
        "subject_head",
        "station_head",
        "detection_state",
        "detection_kept",
        "judgement",
        "fleet_run",
        "reading",
        "access_token",
        "export_request",
    ),
    *("log_pending", "head_request", "alembic_version", "frozen_export"),
    *("procrastinate_jobs", "procrastinate_events", "procrastinate_workers", "procrastinate_periodic_defers"),
}
# Rows that no event names: what a leaf is made of, and the log itself.
WITHOUT_EVENT = {
    "envelope",
    "quarantine",
    "log_genesis",
    "log_entry",
    "log_head",
    "log_previous",
    "ddl_seen",
    "event",
}

Conn = psycopg.Connection[tuple[object, ...]]


def read_matrix() -> dict[tuple[str, str], str]:
    """Return (role, table) -> letters."""
    header, *lines = MATRIX.strip().splitlines()
    assert header.split()[1:] == ROLE_NAMES
    rows = [line.split() for line in lines]
    return {
        (role, name): letters.replace(".", "")
        for name, *cells in rows
        for role, letters in zip(ROLES, cells, strict=True)
    }


@pytest.fixture
def conn(database_url: str) -> Iterator[Conn]:
    with psycopg.connect(database_url.partition("?")[0], prepare_threshold=None) as opened:
        opened.execute(
            "SELECT make_month('2026-01-01') FROM pg_class WHERE relname = 'reading' AND relkind = 'p'"
        )
        opened.commit()
        yield opened
        opened.rollback()


def relations(conn: Conn) -> dict[str, bool]:
    """Return every table and view of the schema that no extension brought -> whether it is a partition."""
    rows = conn.execute(
        "SELECT relname, relispartition FROM pg_class c WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT EXISTS (SELECT FROM pg_depend"
        " WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')"
    ).fetchall()
    return {str(name): bool(partition) for name, partition in rows}


def test_the_catalog_grants_what_the_table_says(conn: Conn) -> None:
    names = relations(conn)
    wanted = read_matrix()
    assert {name for _, name in wanted} == {name for name, partition in names.items() if not partition}
    granted = conn.execute(
        "SELECT r, t, string_agg(left(lower(v), 1), '' ORDER BY v) FILTER (WHERE has_table_privilege(r, t, v))"
        " FROM unnest(%s::text[]) r, unnest(%s::text[]) t,"
        " unnest('{INSERT,SELECT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) v GROUP BY r, t",
        (list(ROLES), list(names)),
    ).fetchall()
    found = {(str(role), str(name)): set(str(letters or "")) for role, name, letters in granted}
    expected = {(role, name): set(wanted.get((role, name), "")) for role in ROLES for name in names}
    assert {cell: found[cell] for cell in found if found[cell] != expected[cell]} == {}


def test_every_cell_tried_for_real(conn: Conn) -> None:
    wanted = read_matrix()
    names = relations(conn)
    columns = dict(
        conn.execute(
            "SELECT relname, (SELECT min(attname) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0"
            " AND NOT attisdropped) FROM pg_class c WHERE relnamespace = 'public'::regnamespace"
        ).fetchall()
    )
    wrong = []
    for role in ROLES:
        conn.execute(f"SET ROLE {role}")
        for name in names:
            trials = {
                "i": f"INSERT INTO {name} DEFAULT VALUES",
                "s": f"SELECT * FROM {name} LIMIT 0",
                "u": f"UPDATE {name} SET {columns[name]} = DEFAULT WHERE false",
                "d": f"DELETE FROM {name} WHERE false",
                "t": f"TRUNCATE {name}",
            }
            for letter, statement in trials.items():
                if may(conn, statement, name) != (letter in wanted.get((role, name), "")):
                    wrong.append(f"{role} {VERBS[letter]} {name}")
        conn.execute("RESET ROLE")
    assert wrong == []


def may(conn: Conn, statement: str, name: str) -> bool:
    """Tell whether a statement gets past the check of rights, whatever becomes of it then."""
    conn.execute("SAVEPOINT trial")
    try:
        conn.execute(statement)
    except psycopg.errors.InsufficientPrivilege as error:
        return not str(error).startswith(("permission denied for table", "permission denied for view"))
    except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.WrongObjectType):
        return False  # a view over several tables takes no rows, and no view is truncated
    except psycopg.Error:
        return True
    finally:
        conn.execute("ROLLBACK TO SAVEPOINT trial")
    return True


def test_nobody_in_particular_may_nothing(conn: Conn) -> None:
    public = conn.execute(
        "SELECT relname FROM pg_class c, aclexplode(coalesce(relacl, acldefault('r', relowner)))"
        " WHERE relnamespace = 'public'::regnamespace AND grantee = 0 AND relname = ANY (%s)"
        " UNION ALL SELECT proname FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner)))"
        " WHERE pronamespace = 'public'::regnamespace AND grantee = 0 AND NOT EXISTS (SELECT FROM pg_depend"
        " WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')"
        " UNION ALL SELECT nspname FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'public' AND grantee = 0",
        (list(relations(conn)),),
    ).fetchall()
    assert public == []


def test_owner_owns_and_cannot_sign_in(conn: Conn) -> None:
    owners = conn.execute(
        "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relname = ANY (%s)",
        (list(relations(conn)),),
    ).fetchall()
    assert owners == [(OWNER,)]
    rows = conn.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)"
        " AND (rolcanlogin OR rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb)",
        ([OWNER, *ROLES],),
    ).fetchall()
    assert rows == []


def test_functions_of_the_owner_keep_to_one_path(conn: Conn) -> None:
    loose = conn.execute(
        "SELECT proname FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND prosecdef"
        " AND NOT EXISTS (SELECT FROM unnest(proconfig) c WHERE c LIKE 'search_path=public, pg_temp')"
        " AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')"
    ).fetchall()
    assert loose == []


def test_every_table_of_evidence_is_guarded(conn: Conn) -> None:
    tables = {
        str(name)
        for (name,) in conn.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') AND NOT relispartition"
        ).fetchall()
    } & set(relations(conn))
    guards: dict[str, set[str]] = {}
    for table, guard in conn.execute(
        "SELECT relname, tgname FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE tgenabled = 'A'"
    ).fetchall():
        guards.setdefault(str(table), set()).add(str(guard))
    evidence = tables - MUTABLE
    append_only = {"append_only_row", "append_only_table"}
    assert {table for table in evidence if not append_only <= guards.get(table, set())} == set()
    assert {t for t in evidence - WITHOUT_EVENT if "fits_event" not in guards[t]} == set()
    queues = {"envelope": "queue_envelope", "event": "queue_event", "quarantine": "queue_quarantine"}
    assert {
        t for t, guard in {**queues, "log_genesis": "queue_genesis"}.items() if guard not in guards[t]
    } == set()


@pytest.mark.skipif(
    TEST_URL in os.environ, reason="one foreign server: the service's own login is not made there"
)
def test_the_service_s_login_has_no_right_but_to_take_a_role(conn: Conn) -> None:
    inherited = conn.execute(
        "SELECT t, v FROM unnest(%s::text[]) t, unnest('{INSERT,SELECT,UPDATE,DELETE,TRUNCATE}'::text[]) v"
        " WHERE has_table_privilege(%s, t, v)",
        (list(relations(conn)), APP),
    ).fetchall()
    assert inherited == []
    rights = conn.execute(
        "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls FROM pg_roles WHERE rolname = %s",
        (APP,),
    ).fetchall()
    assert rights == [(True, False, False, False, False)]
