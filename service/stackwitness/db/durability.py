"""Whether the database keeps what it said it kept: a commit that a power cut takes back is a receipt that lies."""

import sqlalchemy as sa

from stackwitness.errors import LogUnavailable

WANTED = {
    "fsync": {"on"},
    "full_page_writes": {"on"},
    "synchronous_commit": {"on", "remote_apply", "remote_write"},
}


def read_fragile(conn: sa.Connection) -> list[str]:
    """Return the settings under which a commit may be lost, as `name = value`."""
    values = {name: conn.execute(sa.text(f"SHOW {name}")).scalar_one() for name in WANTED}
    return [f"{name} = {value}" for name, value in values.items() if value not in WANTED[name]]


def has_checksums(conn: sa.Connection) -> bool:
    """Tell whether pages carry checksums: without, a flipped bit in the database is found by fsck alone."""
    return bool(conn.execute(sa.text("SHOW data_checksums")).scalar_one() == "on")


def refuse_fragile(conn: sa.Connection) -> None:
    """Raise LogUnavailable("database.fragile") when commits of this server may be lost."""
    fragile = read_fragile(conn)
    if fragile:
        raise LogUnavailable(
            "database.fragile", "The database may lose what it has committed", detail=", ".join(fragile)
        )
