"""Sign what the database wrote down about itself: changes of its schema, and the catalog's fingerprint.

Part of every turn of the log process. Nothing is remembered between turns: a row without its event is signed at
the next one.
"""

import hashlib

import sqlalchemy as sa

from emdi.keys import Signer
from stackwitness.db.catalog import hash_catalog, is_bent, join_catalog, read_catalog
from stackwitness.db.migrate import current_revision, newest_revision
from stackwitness.db.unit import unit_of_work
from stackwitness.log.events import append_event, lock_subject
from stackwitness.log.queries import find_successor

SUBJECT = "database"
AT_ONCE = 200

_UNSIGNED = """
SELECT s.seen_no, s.at_ms, s.tag, s.identity, s.role, s.statement FROM ddl_seen s
WHERE NOT EXISTS (SELECT FROM ddl_event e WHERE e.seen_no = s.seen_no) ORDER BY s.seen_no LIMIT :most
"""


def watch_database(engine: sa.Engine, signer: Signer) -> int:
    """Sign what is not signed yet; return how many events were made: none once the log is frozen."""
    with unit_of_work(engine, "sw_seq") as conn:
        if not anything_unsigned(conn) or find_successor(conn) is not None:
            return 0
        # Another log process may do the same: under the subject's lock it is looked at again.
        lock_subject(conn, SUBJECT)
        return sign_ddl(conn, signer) + sign_catalog(conn, signer)


def anything_unsigned(conn: sa.Connection) -> bool:
    """Tell whether a change of the schema, or the present revision, has no event yet."""
    query = (
        "SELECT EXISTS (SELECT FROM ddl_seen s WHERE NOT EXISTS"
        " (SELECT FROM ddl_event e WHERE e.seen_no = s.seen_no))"
        " OR NOT EXISTS (SELECT FROM catalog_baseline JOIN alembic_version ON version_num = revision)"
    )
    return bool(conn.scalar(sa.text(query)))


def sign_ddl(conn: sa.Connection, signer: Signer) -> int:
    """Make a `db.ddl` event of every change of the schema that has none; return how many."""
    rows = conn.execute(sa.text(_UNSIGNED), {"most": AT_ONCE}).all()
    for row in rows:
        data = {
            "seen_no": row.seen_no,
            "at_ms": row.at_ms,
            "tag": row.tag,
            "identity": row.identity,
            "role": row.role,
            "statement_sha256": hashlib.sha256(row.statement.encode()).hexdigest(),
        }
        event = append_event(conn, signer, typ="db.ddl", subj=SUBJECT, act=f"service:{signer.kid}", data=data)
        conn.execute(
            sa.text("INSERT INTO ddl_event (seen_no, event_id) VALUES (:seen_no, :event_id)"),
            {"seen_no": row.seen_no, "event_id": event.event_id},
        )
    return len(rows)


def sign_catalog(conn: sa.Connection, signer: Signer) -> int:
    """Make the `catalog.baseline` event of a revision that has none; 0 when there is nothing to do.

    Only of the revision this program brings: a number put into the database by hand is not vouched for.
    """
    revision = current_revision(conn)
    query = "SELECT EXISTS (SELECT FROM catalog_baseline WHERE revision = :revision)"
    if revision != newest_revision() or conn.scalar(sa.text(query), {"revision": revision}):
        return 0
    lines = [line for line in read_catalog(conn) if not is_bent(line)]
    sha256 = hash_catalog(lines)
    data = {"revision": revision, "sha256": sha256.hex(), "lines": len(lines)}
    act = f"service:{signer.kid}"
    event = append_event(conn, signer, typ="catalog.baseline", subj=SUBJECT, act=act, data=data)
    conn.execute(
        sa.text(
            "INSERT INTO catalog_baseline (revision, sha256, lines, event_id)"
            " VALUES (:revision, :sha256, :lines, :event_id)"
        ),
        {"revision": revision, "sha256": sha256, "lines": join_catalog(lines), "event_id": event.event_id},
    )
    return 1
