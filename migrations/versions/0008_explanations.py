"""Why officials act: words and salt apart from the log, which holds their salted hash."""

from pathlib import Path

from alembic import op

from stackwitness.db.timescale import run_script

revision = "0008"
down_revision = "0007"

SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    """Run the plain SQL file."""
    run_script(op.get_bind(), (SQL / "0008_explanations.sql").read_text(encoding="utf-8"))
