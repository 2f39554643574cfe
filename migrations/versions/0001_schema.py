"""The first schema: evidence, projections, caches, the log, and the job queue's own tables.

There is no downgrade: evidence is not dropped by a command.
"""

from pathlib import Path

from alembic import op
from procrastinate.schema import SchemaManager

from stackwitness.db.timescale import prepare_readings, run_script

revision = "0001"
down_revision = None

SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    """Run the plain SQL files in order."""
    conn = op.get_bind()
    run_script(conn, (SQL / "0001_schema.sql").read_text(encoding="utf-8"))
    prepare_readings(conn, SQL)
    run_script(conn, SchemaManager.get_schema())
