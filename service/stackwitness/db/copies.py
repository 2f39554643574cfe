"""Write every table to files and read them back: a logical copy in one snapshot, with no program beside this one."""

import json
from pathlib import Path

import sqlalchemy as sa

# Jobs wait for nobody who restores; the schema's version is the migrations' own.
_SKIPPED = "procrastinate\\_%"
COLUMNS = "columns.json"
CHUNK_BYTES = 1 << 20
_TABLES = (
    "SELECT c.relname AS name, array_agg(a.attname ORDER BY a.attnum)::text[] AS columns FROM pg_class c"
    " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
    " AND c.relname NOT LIKE :skipped AND c.relname <> 'alembic_version' GROUP BY 1 ORDER BY 1"
)
_SEQUENCES = (
    "SELECT pg_get_serial_sequence(table_name, column_name) AS sequence, table_name, column_name"
    " FROM information_schema.columns WHERE table_schema = 'public' AND is_identity = 'YES'"
    " AND table_name NOT LIKE :skipped"
)


def write_copies(engine: sa.Engine, folder: Path) -> dict[str, int]:
    """Copy every table to `folder` as of one moment; return rows by table. Logs in as owner or superuser."""
    folder.mkdir(parents=True)
    counts: dict[str, int] = {}
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as conn, conn.begin():
        tables = {row.name: row.columns for row in conn.execute(sa.text(_TABLES), {"skipped": _SKIPPED})}
        for name, columns in tables.items():
            cursor = conn.connection.cursor()
            query = f"COPY (SELECT {', '.join(columns)} FROM {name}) TO STDOUT (FORMAT BINARY)"
            with (folder / f"{name}.copy").open("wb") as file, cursor.copy(query) as copy:
                for data in copy:
                    file.write(data)
            counts[name] = cursor.rowcount
            cursor.close()
    (folder / COLUMNS).write_text(json.dumps(tables, indent=1), encoding="ascii")
    return counts


def read_copies(engine: sa.Engine, folder: Path) -> dict[str, int]:
    """Fill a freshly migrated database from `folder` in one transaction; return rows by table."""
    tables: dict[str, list[str]] = json.loads((folder / COLUMNS).read_text(encoding="ascii"))
    counts: dict[str, int] = {}
    with engine.begin() as conn:
        conn.execute(sa.text("SET LOCAL session_replication_role = replica"))
        triggers = conn.execute(
            sa.text(
                "SELECT c.relname AS place, t.tgname AS name, t.tgenabled::text AS enabled FROM pg_trigger t"
                " JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal AND c.relname = ANY(:tables)"
                " AND t.tgenabled = 'A'"
            ),
            {"tables": list(tables)},
        ).all()
        for row in triggers:
            conn.execute(sa.text(f'ALTER TABLE "{row.place}" DISABLE TRIGGER "{row.name}"'))
        for name, columns in tables.items():
            conn.execute(sa.text(f"DELETE FROM {name}"))
            counts[name] = _fill(conn, name, columns, folder / f"{name}.copy")
        for row in conn.execute(sa.text(_SEQUENCES), {"skipped": _SKIPPED}).all():
            top = f"(SELECT coalesce(max({row.column_name}), 0) + 1 FROM {row.table_name})"
            conn.execute(sa.text(f"SELECT setval('{row.sequence}', {top}, false)"))
        top = "(SELECT coalesce(max(envelope_no), 0) + 1 FROM envelope)"
        conn.execute(sa.text(f"SELECT setval('envelope_no_seq', {top}, false)"))
        for row in triggers:
            conn.execute(sa.text(f'ALTER TABLE "{row.place}" ENABLE ALWAYS TRIGGER "{row.name}"'))
    return counts


def _fill(conn: sa.Connection, name: str, columns: list[str], path: Path) -> int:
    target = name
    if name == "reading":  # months are made from what is there: a partition must stand before its rows
        target = "reading_restored"
        conn.execute(sa.text("CREATE TEMP TABLE reading_restored (LIKE reading) ON COMMIT DROP"))
    cursor = conn.connection.cursor()
    query = f"COPY {target} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
    with path.open("rb") as file, cursor.copy(query) as copy:
        while data := file.read(CHUNK_BYTES):
            copy.write(data)
    count = cursor.rowcount
    cursor.close()
    if target != name:
        conn.execute(
            sa.text(
                "SELECT make_month(month::date) FROM (SELECT DISTINCT date_trunc('month', at AT TIME ZONE 'UTC')"
                " AS month FROM reading_restored) m"
            )
        )
        names = ", ".join(columns)
        conn.execute(sa.text(f"INSERT INTO reading ({names}) SELECT {names} FROM reading_restored"))
    return count
