"""What a superuser of the database can still do, each done for real, and the check outside that finds it.

docs/database.md tells the same list; a test there holds the two together.
"""

from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from stackwitness.log.watching import sign_catalog, watch_database
from tests.security import test_insider_fsck as insider
from tests.security.test_insider_fsck import Victim

mould, victim = insider.mould, insider.victim


def run(victim: Victim, *statements: str) -> None:
    """Run SQL as the superuser, each statement in a transaction of its own, nothing put out of the way."""
    for statement in statements:
        with victim.log.engine.begin() as conn:
            conn.execute(sa.text(statement))


def sign(victim: Victim) -> list[str]:
    """Take the log process's turn; return the commands that were signed."""
    watch_database(victim.log.engine, victim.log.service_key)
    with victim.log.engine.begin() as conn:
        rows = conn.execute(sa.text("SELECT tag, identity FROM ddl_seen JOIN ddl_event USING (seen_no)"))
        return [f"{row.tag} {row.identity}".strip() for row in rows]


@dataclass(frozen=True)
class Deed:
    """One thing a superuser does: the statements, what the log then holds of it, what fsck says of it."""

    name: str
    statements: tuple[str, ...]
    signed: str | None  # a db.ddl event, None where PostgreSQL tells nobody
    found: str | None  # a part of fsck's line, None where the database is as before
    exit_code: int = 1


PG_TRIGGER = (
    "UPDATE pg_trigger SET tgenabled = 'D' WHERE tgname = 'append_only_row' AND tgrelid = 'flag'::regclass"
)
DEEDS = [
    Deed(
        "disable_trigger",
        ("ALTER TABLE flag DISABLE TRIGGER ALL",),
        "ALTER TABLE public.flag",
        "the trigger append_only_row is switched off",
    ),
    Deed(
        "disable_trigger_and_enable_it_again",
        (
            "ALTER TABLE flag DISABLE TRIGGER append_only_row",
            "ALTER TABLE flag ENABLE ALWAYS TRIGGER append_only_row",
        ),
        "ALTER TABLE public.flag",
        None,
        0,
    ),
    Deed(
        "disable_event_trigger",
        ("ALTER EVENT TRIGGER note_ddl_end DISABLE",),
        None,
        "the event trigger note_ddl_end is switched off",
    ),
    Deed(
        "drop_event_trigger",
        ("DROP EVENT TRIGGER note_ddl_drop",),
        None,
        "the event trigger note_ddl_drop is gone",
    ),
    Deed(
        "disable_event_triggers_then_the_guard",
        (
            "ALTER EVENT TRIGGER note_ddl_end DISABLE",
            "ALTER TABLE review DISABLE TRIGGER append_only_row",
            "DELETE FROM review",
            "ALTER TABLE review ENABLE ALWAYS TRIGGER append_only_row",
            "ALTER EVENT TRIGGER note_ddl_end ENABLE ALWAYS",
        ),
        None,
        "but has no row",
        2,
    ),
    Deed(
        "write_the_catalog_itself",
        (f"SET LOCAL allow_system_table_mods = on; {PG_TRIGGER}",),
        None,
        "the trigger append_only_row is switched off",
    ),
    Deed(
        "empty_a_guard",
        (
            "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN RETURN coalesce(NEW, OLD); END'",
        ),
        "CREATE FUNCTION public.refuse_change()",
        "the function refuse_change was changed",
    ),
    Deed(
        "add_a_trigger",
        (
            "CREATE FUNCTION soften() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.value := 1; RETURN NEW; END'",
            "CREATE TRIGGER soften BEFORE INSERT ON reading FOR EACH ROW EXECUTE FUNCTION soften()",
        ),
        "CREATE TRIGGER soften on public.reading",
        "the trigger soften was added",
    ),
    Deed("grant_a_right", ("GRANT DELETE ON flag TO sw_review",), "GRANT", "the grant flag/sw_review was changed"),
    Deed(
        "let_everybody_read",
        ("ALTER TABLE station NO FORCE ROW LEVEL SECURITY", "CREATE POLICY open ON station USING (true)"),
        "CREATE POLICY open on public.station",
        "the policy station.open was added",
    ),
    Deed(
        "drop_a_constraint",
        ("ALTER TABLE review DROP CONSTRAINT review_event_id_fkey",),
        "ALTER TABLE public.review",
        "the constraint review.review_event_id_fkey is gone",
    ),
    Deed(
        "drop_the_projection",
        ("DROP TABLE reading_2026_01",),
        "DROP TABLE public.reading_2026_01",
        "has no row",
        2,
    ),
    Deed(
        "forge_the_revision",
        ("UPDATE alembic_version SET version_num = '9999'",),
        None,
        "stands at 9999, whose catalog nobody signed",
        2,
    ),
    Deed(
        "let_nobody_read_the_catalog",
        ("REVOKE SELECT ON pg_catalog.pg_trigger FROM PUBLIC",),
        "REVOKE",
        "cannot be compared: permission denied for table pg_trigger",
    ),
    Deed(
        "edit_the_signed_catalog",
        (
            "ALTER TABLE catalog_baseline DISABLE TRIGGER append_only_row",
            "UPDATE catalog_baseline SET lines = replace(lines, 'enabled=A', 'enabled=D')",
            "ALTER TABLE catalog_baseline ENABLE ALWAYS TRIGGER append_only_row",
        ),
        "ALTER TABLE public.catalog_baseline",
        "lines is",
    ),
    Deed(
        "a_row_without_its_event",
        (
            "ALTER TABLE key_revocation DISABLE TRIGGER ALL",
            "INSERT INTO key_revocation SELECT 'k1', event_id FROM flag LIMIT 1",
        ),
        "ALTER TABLE public.key_revocation",
        "no event in the log calls for this row",
    ),
]  # fmt: skip


@pytest.mark.parametrize("deed", DEEDS, ids=[deed.name for deed in DEEDS])
def test_a_superuser_s_deed_is_found(victim: Victim, deed: Deed) -> None:
    before = sign(victim)
    run(victim, *deed.statements)
    signed = sign(victim)[len(before) :]
    assert signed == [] if deed.signed is None else deed.signed in signed
    report = victim.check()
    lines = [finding.line() for finding in report.findings]
    assert report.exit_code == deed.exit_code, lines
    assert deed.found is None or [line for line in lines if deed.found in line], lines


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("ALTER ROLE sw_read BYPASSRLS", "the role sw_read was changed"),
        ("GRANT sw_seq TO sw_read", "the membership sw_seq/sw_read was added"),
        ("CREATE ROLE second_superuser SUPERUSER LOGIN", "the role second_superuser was added"),
    ],
)
def test_roles_are_no_part_of_the_database_and_still_compared(victim: Victim, change: str, line: str) -> None:
    before = sign(victim)
    run(victim, change)
    try:
        assert sign(victim) == before
        assert [finding for finding in victim.check().findings if line in finding.text]
    finally:
        run(
            victim,
            "ALTER ROLE sw_read NOBYPASSRLS",
            "REVOKE sw_seq FROM sw_read",
            "DROP ROLE IF EXISTS second_superuser",
        )
    assert victim.check().exit_code == 0


REPLICA = "SET LOCAL session_replication_role = replica"
REFUSED: list[tuple[str, str]] = [
    ("DELETE FROM flag", "table flag is append-only"),
    ("UPDATE envelope SET recv_ms = 1", "table envelope is append-only"),
    ("TRUNCATE log_head", "table log_head is append-only"),
    ("DELETE FROM ddl_seen", "append-only"),
    ("INSERT INTO key_revocation VALUES ('k1', sha256('no event'))", "is not a key.revoke"),
    ("INSERT INTO key_revocation SELECT 'k1', event_id FROM flag LIMIT 1", "is not a key.revoke"),
]


@pytest.mark.parametrize(("statement", "words"), REFUSED, ids=[statement[:32] for statement, _ in REFUSED])
def test_a_replica_session_does_not_get_past_the_guards(victim: Victim, statement: str, words: str) -> None:
    run(victim, "CREATE TABLE anything ()")  # so that ddl_seen has a row to delete
    with pytest.raises(sa.exc.DatabaseError, match=words):
        run(victim, f"{REPLICA}; {statement}")


def test_a_replica_session_queues_its_leaf_and_notes_its_ddl(victim: Victim) -> None:
    with victim.log.engine.begin() as conn:
        conn.execute(sa.text(REPLICA))
        conn.execute(
            sa.text(
                "INSERT INTO quarantine VALUES (sha256('x'), 'S1', 1, 1, 'k1', 'because', 1, 'no signature at all')"
            )
        )
        conn.execute(sa.text("ALTER TABLE flag ADD COLUMN note text"))
        assert conn.scalar(sa.text("SELECT count(*) FROM log_pending")) == 1
    assert "ALTER TABLE public.flag" in sign(victim)


def test_ddl_that_is_rolled_back_leaves_no_row_and_a_crash_loses_none(victim: Victim) -> None:
    before = len(sign(victim))
    with pytest.raises(sa.exc.DataError):
        run(victim, "ALTER TABLE flag ADD COLUMN note text; SELECT 1 / 0")
    run(victim, "ALTER TABLE flag ADD COLUMN other text")
    with victim.log.engine.begin() as conn:  # not signed yet: the log process was away
        assert (
            conn.scalar(
                sa.text(
                    "SELECT count(*) FROM ddl_seen LEFT JOIN ddl_event USING (seen_no) WHERE event_id IS NULL"
                )
            )
            == 1
        )
    assert sign(victim)[before:] == ["ALTER TABLE public.flag"]


def test_a_catalog_is_signed_once_for_a_revision(victim: Victim) -> None:
    run(victim, "GRANT DELETE ON flag TO sw_review")
    with victim.log.engine.begin() as conn:
        assert sign_catalog(conn, victim.log.service_key) == 0
        conn.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        assert sign_catalog(conn, victim.log.service_key) == 0


def test_row_security_hides_nothing_from_a_superuser(victim: Victim) -> None:
    """Confidentiality against whoever owns the server is not claimed; nothing outside finds a mere look."""
    assert victim.value("SELECT count(*) FROM station") == 1
    assert victim.check().exit_code == 0
