"""What the detectors see and what they cannot judge."""

from pathlib import Path

from alembic import op

from stackwitness.db.timescale import run_script

revision = "0014"
down_revision = "0013"

SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    """Run the plain SQL file."""
    run_script(op.get_bind(), (SQL / "0014_judgements.sql").read_text(encoding="utf-8"))
