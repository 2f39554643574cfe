"""Flags that later readings no longer bear out."""

from pathlib import Path

from alembic import op

from stackwitness.db.timescale import run_script

revision = "0013"
down_revision = "0012"

SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    """Run the plain SQL file."""
    run_script(op.get_bind(), (SQL / "0013_lapses.sql").read_text(encoding="utf-8"))
