"""Roles, grants, row security, event triggers: friction and alarm, not proof."""

from pathlib import Path

from alembic import op

from stackwitness.db.timescale import run_script

revision = "0007"
down_revision = "0006"

SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    """Run the plain SQL file."""
    run_script(op.get_bind(), (SQL / "0007_hardening.sql").read_text(encoding="utf-8"))
