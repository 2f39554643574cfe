"""Witnesses and RFC 3161 anchors."""

from pathlib import Path

from alembic import op

from stackwitness.db.timescale import run_script

revision = "0006"
down_revision = "0005"

SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    """Run the plain SQL file."""
    run_script(op.get_bind(), (SQL / "0006_anchors.sql").read_text(encoding="utf-8"))
