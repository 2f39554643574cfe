"""Heads of the day, runs of the detectors, custody."""

from pathlib import Path

from alembic import op

from stackwitness.db.timescale import run_script

revision = "0003"
down_revision = "0002"

SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    """Run the plain SQL file."""
    run_script(op.get_bind(), (SQL / "0003_events.sql").read_text(encoding="utf-8"))
