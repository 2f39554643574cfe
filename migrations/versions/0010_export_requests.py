"""Requests for exports are events."""

from pathlib import Path

from alembic import op

from stackwitness.db.timescale import run_script

revision = "0010"
down_revision = "0009"

SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    """Run the plain SQL file."""
    run_script(op.get_bind(), (SQL / "0010_export_requests.sql").read_text(encoding="utf-8"))
