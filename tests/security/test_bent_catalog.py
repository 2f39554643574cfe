"""A superuser who leaves every definition as it is and lets none of them hold: what `fsck` says of each, all alarms off meanwhile."""

import pytest
import sqlalchemy as sa

from stackwitness.log.watching import watch_database
from tests.security import test_insider_fsck as insider
from tests.security.test_insider_fsck import Victim

mould, victim = insider.mould, insider.victim

ALARMS = ("note_ddl_end", "note_ddl_drop")


def quietly(victim: Victim, *statements: str) -> None:
    """Run SQL as the superuser with the event triggers off, and put these back."""
    with victim.log.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        for alarm in ALARMS:
            conn.execute(sa.text(f"ALTER EVENT TRIGGER {alarm} DISABLE"))
        for statement in statements:
            conn.execute(sa.text(statement))
        for alarm in ALARMS:
            conn.execute(sa.text(f"ALTER EVENT TRIGGER {alarm} ENABLE ALWAYS"))


EMPTY = "AS $$ BEGIN RETURN NULL; END $$ LANGUAGE plpgsql"
MOVED = "CREATE TABLE elsewhere (LIKE reading) PARTITION BY RANGE (at)"
# (what, statements, a part of the line that names it, the exit code)
DEEDS: list[tuple[str, tuple[str, ...], str, int]] = [
    ("triggers_off_by_flag", ("UPDATE pg_class SET relhastriggers = false WHERE relname = 'flag'",),
     "flag:triggers is there: has", 1),
    ("checks_off_by_number", ("UPDATE pg_class SET relchecks = 0 WHERE relname = 'envelope'",),
     "envelope:checks is there: has 2, says it has 0", 1),
    ("indexes_off_by_flag", ("UPDATE pg_class SET relhasindex = false WHERE relname = 'envelope'",),
     "envelope:indexes is there: has", 1),
    ("unique_index_not_kept", ("UPDATE pg_index SET indisready = false WHERE indexrelid = 'flag_pkey'::regclass",),
     "flag_pkey:index is there: valid=t ready=f", 1),
    ("lost_in_a_crash", ("ALTER TABLE head_request SET UNLOGGED",),
     "head_request:storage is there: is lost in a crash", 1),
    ("a_trigger_of_a_foreign_key_gone",
     ("DELETE FROM pg_trigger WHERE oid = (SELECT min(t.oid) FROM pg_trigger t JOIN pg_constraint k ON k.oid = tgconstraint"
      " WHERE conrelid = 'review'::regclass AND contype = 'f')",),
     "integrity is there: has 3 of its 4 triggers", 1),
    ("letters_in_another_order", ("ALTER TABLE quarantine ALTER why TYPE text COLLATE \"C\"",),
     "quarantine.why:collation is there: is", 1),
    ("a_month_takes_no_high_values", ("ALTER TABLE reading_2026_01 ADD CONSTRAINT low CHECK (value < 50) NOT VALID",),
     "reading_2026_01:low is there: is a rule of this partition alone", 1),
    ("rows_from_elsewhere", ("CREATE TABLE information_schema.more () INHERITS (flag)",),
     "information_schema.more:child is there: of flag", 1),
    ("hidden_in_an_extension",
     (f"CREATE FUNCTION quiet() RETURNS trigger {EMPTY}", "ALTER EXTENSION plpgsql ADD FUNCTION quiet()"),
     "plpgsql:function_public.quiet() is there: is made a part of it", 1),
    ("another_extension", ("CREATE EXTENSION tsm_system_rows",), "the extension tsm_system_rows was added", 1),
    ("a_function_among_postgresql_s_own",
     ("CREATE FUNCTION pg_catalog.sha256(text) RETURNS bytea AS 'SELECT NULL::bytea' LANGUAGE sql",),
     "sha256:text is there: is no part of PostgreSQL", 1),
    ("an_aggregate_of_our_own", ("CREATE AGGREGATE count(uuid) (sfunc = int8inc_any, stype = int8, initcond = 0)",),
     "count:uuid is there: is no part of PostgreSQL", 1),
    ("a_built_in_function_replaced",
     ("UPDATE pg_proc SET prosrc = 'pg_conf_load_time' WHERE proname = 'pg_stat_get_snapshot_timestamp'",),
     "pg_stat_get_snapshot_timestamp() was added: written after initdb", 1),
    ("a_built_in_operator_turned", ("UPDATE pg_operator SET oprcode = 'box_overlap' WHERE oid = '&&(box,box)'::regoperator",),
     "pg_operator:&&(box,box) was added: written after initdb", 1),
    ("a_view_instead_of_the_table",
     ("ALTER TABLE custody RENAME TO custody_kept", "CREATE VIEW custody AS SELECT * FROM custody_kept WHERE stn <> 'S1'",
      "GRANT SELECT ON custody TO sw_export, sw_read"),
     "the table custody was changed", 1),
    ("a_default_changed", ("ALTER TABLE channel ALTER limit_value SET DEFAULT 1000",),
     "the column channel.limit_value was changed", 1),
    ("a_generated_column", ("ALTER TABLE review ADD COLUMN said text GENERATED ALWAYS AS ('nothing') STORED",),
     "the column review.said was added", 1),
    ("a_policy_that_hides_one_agency",
     ("CREATE POLICY hidden ON station AS RESTRICTIVE FOR SELECT TO sw_read USING (agency <> 'City')",),
     "the policy station.hidden was added", 1),
    ("a_partial_unique_index",
     ("ALTER TABLE log_entry DROP CONSTRAINT log_entry_entry_id_kind_key", "CREATE UNIQUE INDEX log_entry_entry_id_kind_key ON log_entry (entry_id) WHERE idx < 10"),
     "log_entry_entry_id_kind_key was changed", 1),
    ("truncated_and_guards_put_back",
     ("ALTER TABLE review DISABLE TRIGGER append_only_table", "TRUNCATE review",
      "ALTER TABLE review ENABLE ALWAYS TRIGGER append_only_table"),
     "is event idx", 2),
    ("a_month_taken_off", ("ALTER TABLE reading DETACH PARTITION reading_2026_01",), "has no row", 1),
    ("a_month_attached_elsewhere",
     ("ALTER TABLE reading DETACH PARTITION reading_2026_01", MOVED,
      "ALTER TABLE elsewhere ATTACH PARTITION reading_2026_01 FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')"),
     "has no row", 1),
]  # fmt: skip


@pytest.mark.parametrize(("statements", "words", "code"), [d[1:] for d in DEEDS], ids=[d[0] for d in DEEDS])
def test_it_is_named(victim: Victim, statements: tuple[str, ...], words: str, code: int) -> None:
    quietly(victim, *statements)
    report = victim.check()
    lines = [finding.line() for finding in report.findings]
    assert [line for line in lines if words in line], lines
    assert report.exit_code == code, lines


@pytest.mark.parametrize("setting", ["event_triggers = off", "session_replication_role = replica"])
def test_a_setting_of_the_server_is_named(victim: Victim, setting: str) -> None:
    """As `ALTER SYSTEM` does: what stands is asked of the session, wherever it comes from."""
    database = victim.log.engine.url.database
    quietly(victim, f"ALTER DATABASE {database} SET {setting}")
    victim.log.engine.dispose()
    words = f"the bent catalog entry setting:{setting.partition(' ')[0]} is there"
    assert [one for one in victim.check().findings if words in one.line()]


def test_what_was_bent_before_the_catalog_was_signed_is_named_all_the_same(victim: Victim) -> None:
    quietly(
        victim,
        "UPDATE pg_class SET relhastriggers = false WHERE relname IN ('flag', 'catalog_baseline')",
        "DELETE FROM catalog_baseline",
        "UPDATE pg_class SET relhastriggers = true WHERE relname = 'catalog_baseline'",
    )
    watch_database(victim.log.engine, victim.log.service_key)
    lines = [one.line() for one in victim.check().findings]
    assert [line for line in lines if "the bent catalog entry flag:triggers is there" in line], lines
    quietly(victim, "UPDATE pg_class SET relhastriggers = true WHERE relname = 'flag'")
    lines = [one.line() for one in victim.check().findings]
    assert not [line for line in lines if "bent" in line], (
        lines
    )  # put right is right, whatever was signed meanwhile
