"""Take the tables' own triggers off for one transaction, and put each back exactly as it was."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from stackwitness.log.sequencer import lock_log

_ENABLE = {"O": "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}
_TRIGGERS = (
    "SELECT c.relname AS place, t.tgname AS name, t.tgenabled::text AS enabled FROM pg_trigger t"
    " JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal AND c.relname = ANY(:tables)"
    " AND pg_table_is_visible(c.oid) ORDER BY 1, 2"
)


@contextmanager
def opened_tables(conn: sa.Connection, tables: Iterable[str]) -> Iterator[None]:
    """Let rows of evidence be put right inside this block; the caller's transaction keeps everyone else out.

    Whatever goes wrong rolls back the triggers with the rows. A trigger found switched off stays off: that is
    for the checker to name.
    """
    names = sorted(set(tables))
    lock_log(conn)
    conn.execute(sa.text(f"LOCK TABLE {', '.join(names)} IN SHARE ROW EXCLUSIVE MODE"))
    triggers = conn.execute(sa.text(_TRIGGERS), {"tables": names}).all()
    conn.execute(sa.text("SET LOCAL session_replication_role = replica"))
    for place in dict.fromkeys(row.place for row in triggers):
        conn.execute(sa.text(f'ALTER TABLE "{place}" DISABLE TRIGGER USER'))
    yield
    for row in triggers:
        if row.enabled in _ENABLE:
            conn.execute(sa.text(f'ALTER TABLE "{row.place}" {_ENABLE[row.enabled]} TRIGGER "{row.name}"'))
    conn.execute(sa.text("SET LOCAL session_replication_role = origin"))
