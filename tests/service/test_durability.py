"""A database that may lose commits is refused in production."""

import pytest
import sqlalchemy as sa

from stackwitness.db.durability import has_checksums, read_fragile, refuse_fragile
from stackwitness.errors import LogUnavailable


def test_the_embedded_cluster_keeps_checksums(engine: sa.Engine) -> None:
    with engine.connect() as conn:
        assert has_checksums(conn)


def test_the_embedded_cluster_keeps_less_in_tests(engine: sa.Engine) -> None:
    with engine.connect() as conn:  # without fsync
        assert read_fragile(conn) == ["fsync = off", "full_page_writes = off"]


def test_a_server_that_may_lose_commits_is_named(engine: sa.Engine) -> None:
    with engine.connect() as conn:
        conn.execute(sa.text("SET synchronous_commit = off"))
        with pytest.raises(LogUnavailable) as refused:
            refuse_fragile(conn)
        assert "synchronous_commit = off" in str(refused.value.detail)
