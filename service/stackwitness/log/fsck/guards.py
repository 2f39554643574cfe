"""The database's own guards, against the schema: whoever means to edit evidence switches them off first.

Friction, not proof: guards put back in time are not missed here, what was edited meanwhile is.
"""

from typing import NamedTuple

import sqlalchemy as sa

from stackwitness.db.migrate import migrations_dir
from stackwitness.log.fsck.report import Report

APPEND_ONLY = [
    "event",
    "station",
    "channel",
    "station_key",
    "key_revocation",
    "key_request",
    "key_compromise",
    "epoch",
    "epoch_ack",
    "gap",
    "channel_limit",
    "account",
    "envelope",
    "quarantine",
    "flag",
    "flag_extension",
    "review",
    "export",
    "log_genesis",
    "log_entry",
    "log_head",
]
QUEUES = {"event": "queue_event", "envelope": "queue_envelope", "quarantine": "queue_quarantine"}
QUEUES["log_genesis"] = "queue_genesis"
FUNCTIONS = ["refuse_change", "log_prefix", *QUEUES.values()]
# pg_trigger.tgtype: 1 per row, 2 before, 4 insert, 8 delete, 16 update, 32 truncate
ROW, TABLE, INSERT = 1 | 2 | 8 | 16, 2 | 32, 4


class Guard(NamedTuple):
    """A trigger as it must be: function, tgtype, when it fires (A always, O not in replicas), no condition."""

    function: str
    kind: int
    enabled: str
    unconditional: bool = True


def expected_guards() -> dict[tuple[str, str], Guard]:
    """Return (table, trigger) -> what the schema made."""
    guards = {(table, name): Guard(name, INSERT, "O") for table, name in QUEUES.items()}
    for table in APPEND_ONLY:
        guards[table, "append_only_row"] = Guard("refuse_change", ROW, "A")
        guards[table, "append_only_table"] = Guard("refuse_change", TABLE, "A")
    return guards


def check_guards(conn: sa.Connection, report: Report) -> None:
    """Name each guard that is gone, switched off or changed."""
    expected = expected_guards()
    rows = conn.execute(
        sa.text(
            "SELECT c.relname AS place, t.tgname AS name, p.proname, t.tgtype, t.tgenabled::text AS enabled,"
            " t.tgqual IS NULL AS unconditional FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
            " JOIN pg_proc p ON p.oid = t.tgfoid WHERE pg_table_is_visible(c.oid) AND NOT t.tgisinternal"
        )
    )
    stored = {
        (row.place, row.name): Guard(row.proname, row.tgtype, row.enabled, row.unconditional) for row in rows
    }
    for (table, name), guard in expected.items():
        here = stored.get((table, name))
        if here is None:
            report.tamper("guard.missing", table, name, f"the trigger {name} is gone")
        elif here != guard:
            report.tamper("guard.changed", table, name, f"the trigger {name} is switched off or changed")
    schema = (migrations_dir() / "sql" / "0001_schema.sql").read_text(encoding="utf-8")
    query = "SELECT proname, prosrc FROM pg_proc WHERE proname = ANY(:names) AND pg_function_is_visible(oid)"
    for row in conn.execute(sa.text(query), {"names": FUNCTIONS}):
        if f"$${row.prosrc}$$" not in schema:
            report.tamper("guard.function", "pg_proc", row.proname, f"the function {row.proname} was changed")


def check_detection(conn: sa.Connection, report: Report) -> None:
    """Name each station whose readings are said to be judged further than they reach: it silences detectors."""
    query = (
        "SELECT d.stn, d.upto, h.last_at FROM detection_state d LEFT JOIN station_head h USING (stn)"
        " WHERE h.last_at IS NULL OR d.upto > h.last_at ORDER BY d.stn"
    )
    for row in conn.execute(sa.text(query)):
        text = f"judged up to {row.upto}, but the readings end at {row.last_at}: nothing later is looked at"
        report.tamper("detection_state.ahead", "detection_state", row.stn, text)
