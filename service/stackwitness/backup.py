"""Back up and restore one home: see docs/runbooks/backup.md for what to do when."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine

from stackwitness.db.copies import read_copies, write_copies
from stackwitness.db.embedded import migrate_database, open_database
from stackwitness.db.engine import make_engine
from stackwitness.errors import Conflict
from stackwitness.log.disk import Disk
from stackwitness.log.publisher import read_checkpoint
from stackwitness.settings import Settings

PARTS = ("signer", "keys", "exports")


def make_backup(settings: Settings, folder: Path) -> Iterator[str]:
    """Write a backup of a home, running or not, and yield a line for each part.

    The signer's state goes first and the published log last: thus the log covers the database's copy, which covers
    what the signer remembers, and a restored home is never ahead of its own log. Raises Conflict backup.folder.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Conflict("backup.folder", f"{folder} is not empty")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for part in PARTS:
        source = settings.home / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("lock", ".*.tmp"))
            yield f"{part}: copied"
    with _owner_engine(settings) as engine:
        counts = write_copies(engine, folder / "db")
    yield f"db: {sum(counts.values())} rows of {len(counts)} tables"
    log = folder / "log"
    log.mkdir()
    if (settings.log_dir / "checkpoint").is_file():
        # First: what follows covers at least this. Partial tiles may give way to full ones meanwhile.
        shutil.copy2(settings.log_dir / "checkpoint", log / "checkpoint")
    ignored = shutil.ignore_patterns("checkpoint", ".lock", ".*.tmp")
    try:
        shutil.copytree(settings.log_dir, log, ignore=ignored, dirs_exist_ok=True)
    except shutil.Error as error:
        gone = [source for source, _, _ in error.args[0] if Path(source).exists()]
        if gone:
            raise
    checkpoint = read_checkpoint(Disk(log))
    yield f"log: {checkpoint.size if checkpoint else 0} entries"


def restore_backup(settings: Settings, folder: Path) -> Iterator[str]:
    """Make an empty home from a backup and yield a line for each part; raises Conflict backup.home."""
    if settings.home.is_dir() and any(
        (settings.home / part).exists() for part in ("log", "signer", "postgres")
    ):
        raise Conflict("backup.home", f"{settings.home} already holds a log: restore into an empty home")
    if not (folder / "db").is_dir():
        raise Conflict("backup.folder", f"{folder} is no backup")
    settings.home.mkdir(mode=0o755, parents=True, exist_ok=True)
    for part in (*PARTS, "log"):
        if (folder / part).is_dir():
            shutil.copytree(folder / part, settings.home / part)
            yield f"{part}: restored"
    migrate_database(settings)
    with _owner_engine(settings) as engine:
        counts = read_copies(engine, folder / "db")
    yield f"db: {sum(counts.values())} rows of {len(counts)} tables"
    yield "Before it serves: stackwitness rebuild (from a monitor's mirror if the log went on), then stackwitness fsck"


@contextmanager
def _owner_engine(settings: Settings) -> Iterator[Engine]:
    with open_database(settings, owner=True) as url:
        engine = make_engine(url)
        try:
            yield engine
        finally:
            engine.dispose()
