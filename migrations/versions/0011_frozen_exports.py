"""Bundles of a frozen log."""

from pathlib import Path

from alembic import op

from stackwitness.db.timescale import run_script

revision = "0011"
down_revision = "0010"

SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    """Run the plain SQL file."""
    run_script(op.get_bind(), (SQL / "0011_frozen_exports.sql").read_text(encoding="utf-8"))
