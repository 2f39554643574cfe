"""The database's own guards, against the catalog as it was signed: whoever means to edit evidence switches them
off first.

Friction, not proof: guards put back in time are not missed here; what was edited meanwhile is, and the change of
the schema itself was signed by then.
"""

import sqlalchemy as sa

from stackwitness.db.catalog import compare_catalogs, hash_catalog, is_bent, read_catalog, split_line
from stackwitness.db.migrate import current_revision
from stackwitness.errors import Unavailable
from stackwitness.log.fsck.records import Records
from stackwitness.log.fsck.report import Report

# Where to look for a thing that is no part of a table.
PLACES = {
    "function": "pg_proc",
    "eventtrigger": "pg_event_trigger",
    "role": "pg_roles",
    "member": "pg_auth_members",
    "grant schema": "pg_namespace",
    "schema": "pg_namespace",
    "setting": "pg_db_role_setting",
    "cast": "pg_cast",
    "operator": "pg_operator",
    "extension": "pg_extension",
    "bent": "pg_catalog",
}
WORDS = {
    "eventtrigger": "event trigger",
    "member": "membership",
    "integrity": "foreign key",
    "bent": "bent catalog entry",
}
MOST = 300


def check_guards(conn: sa.Connection, report: Report, records: Records) -> None:
    """Name each guard, right or definition that is gone, new or changed since the catalog was signed."""
    baselines = records.tables["catalog_baseline"]
    if not baselines:  # a log from before there were baselines: the log process signs one when it starts
        return
    revision = current_revision(conn) or "none"
    wanted = baselines.get(revision)
    if wanted is None:
        text = f"the schema stands at {revision}, whose catalog nobody signed"
        report.miss("catalog.unsigned", "alembic_version", revision, text)
        return
    try:
        present = read_catalog(conn)
    except Unavailable as error:  # it could be read when it was signed
        text = f"guards and rights cannot be compared: {error.detail}"
        report.tamper("catalog.unreadable", "pg_catalog", revision, text, wanted.idx)
        return
    for line in filter(is_bent, present):
        _, name, rest = split_line(line)
        text = f"the bent catalog entry {name} is there: {rest[:MOST]}"
        report.tamper("bent.present", "pg_catalog", name, text, wanted.idx)
    if hash_catalog(present) == wanted.columns["sha256"]:
        return
    signed = read_signed(conn, revision)
    if hash_catalog(signed) != wanted.columns["sha256"]:
        text = "the catalog is not the one that was signed, and the signed one is lost"
        report.tamper("catalog.changed", "catalog_baseline", revision, text, wanted.idx)
        return
    for kind, name, old, new in compare_catalogs(signed, [line for line in present if not is_bent(line)]):
        table = PLACES.get(kind, name.partition("/")[0].partition(".")[0])
        code, text = describe(kind, name, old, new)
        report.tamper(code, table, name, text, wanted.idx)


def count_unchecked(conn: sa.Connection, report: Report) -> None:
    """Count what the log cannot say of the schema: the checker's reader is told, and judges by what else is found."""
    queries = {
        "ddl_seen.frozen": "SELECT count(*) FROM ddl_seen s WHERE EXISTS (SELECT FROM log_freeze)"
        " AND NOT EXISTS (SELECT FROM ddl_event e WHERE e.seen_no = s.seen_no)",
        "catalog_baseline.passed": "SELECT count(*) FROM catalog_baseline WHERE lines = ''"
        " AND NOT EXISTS (SELECT FROM alembic_version WHERE version_num = revision)",
    }
    counts = {name: conn.scalar(sa.text(query)) for name, query in queries.items()}
    report.unchecked = {name: count for name, count in counts.items() if count}


def read_signed(conn: sa.Connection, revision: str) -> list[str]:
    """Return the lines kept of a signed catalog."""
    query = sa.text("SELECT lines FROM catalog_baseline WHERE revision = :revision")
    return str(conn.scalar(query, {"revision": revision}) or "").splitlines()


def describe(kind: str, name: str, old: str | None, new: str | None) -> tuple[str, str]:
    """Return (code, text) of one difference."""
    short = name.partition(".")[2] if kind == "trigger" else name
    if kind == "function":
        short = name.partition("(")[0]
    thing = f"the {WORDS.get(kind, kind)} {short}"
    if new is None:
        return f"{kind.replace(' ', '_')}.missing", f"{thing} is gone"
    if old is None:
        return f"{kind.replace(' ', '_')}.added", f"{thing} was added: {new[:MOST]}"
    off = "enabled=D" in new.split() or (kind == "integrity" and new == "off")
    text = (
        f"{thing} is switched off"
        if off
        else f"{thing} was changed: signed {old[:MOST]!r}, now {new[:MOST]!r}"
    )
    return f"{kind.replace(' ', '_')}.changed", text


def check_detection(conn: sa.Connection, report: Report) -> None:
    """Name each station whose readings are said to be judged further than they reach: it silences detectors."""
    query = (
        "SELECT d.stn, d.upto, h.last_at FROM detection_state d LEFT JOIN station_head h USING (stn)"
        " WHERE h.last_at IS NULL OR d.upto > h.last_at ORDER BY d.stn"
    )
    for row in conn.execute(sa.text(query)):
        text = f"judged up to {row.upto}, but the readings end at {row.last_at}: nothing later is looked at"
        report.tamper("detection_state.ahead", "detection_state", row.stn, text)
