"""Yearly shards: freeze and successor."""

from pathlib import Path

from alembic import op

from stackwitness.db.timescale import run_script

revision = "0005"
down_revision = "0004"

SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    """Run the plain SQL file."""
    run_script(op.get_bind(), (SQL / "0005_shards.sql").read_text(encoding="utf-8"))
