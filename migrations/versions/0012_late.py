"""Memories to step back to when readings come late."""

from pathlib import Path

from alembic import op

from stackwitness.db.timescale import run_script

revision = "0012"
down_revision = "0011"

SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    """Run the plain SQL file."""
    run_script(op.get_bind(), (SQL / "0012_late.sql").read_text(encoding="utf-8"))
