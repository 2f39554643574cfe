"""Rotation of the key that signs events."""

from pathlib import Path

from alembic import op

from stackwitness.db.timescale import run_script

revision = "0009"
down_revision = "0008"

SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    """Run the plain SQL file."""
    run_script(op.get_bind(), (SQL / "0009_service_keys.sql").read_text(encoding="utf-8"))
