"""Key life cycle: approvals, rotation by both keys, compromise; epochs; grants of access."""

from pathlib import Path

from alembic import op

from stackwitness.db.timescale import run_script

revision = "0002"
down_revision = "0001"

SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    """Run the plain SQL file."""
    run_script(op.get_bind(), (SQL / "0002_keys.sql").read_text(encoding="utf-8"))
