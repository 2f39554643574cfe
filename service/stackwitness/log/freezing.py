"""Run the freeze for a person: from the last event of one home to the seeded database of the next."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import Engine

from emdi.keys import Signer
from stackwitness.db.embedded import migrate_database, open_database
from stackwitness.db.engine import make_engine
from stackwitness.errors import Conflict
from stackwitness.log.disk import Disk
from stackwitness.log.reader import LogReader
from stackwitness.log.rebuild.successor import check_empty, seed_successor
from stackwitness.log.shards import find_freeze, freeze, read_final
from stackwitness.settings import Settings

LoadKey = Callable[[Path], Signer]
_YEAR = re.compile(r"(?<=/)[0-9]{4}$")


def run_freeze(
    settings: Settings, load_key: LoadKey, successor_home: Path, successor_origin: str, why: str
) -> Settings:
    """Freeze the log of these settings unless it is frozen, and seed its successor; return the successor's
    settings. `load_key` gives the key that signs events, by its folder.

    What could keep the successor from being made is asked first: a freeze is for ever. Raises Conflict (log.successor),
    LogUnavailable while no log process publishes the final checkpoint.
    """
    origin = successor_origin or next_origin(settings.log_origin)
    if settings.database_url is not None:
        raise Conflict(
            "log.successor",
            "Only a home with its own database makes its successor: see docs/runbooks/shards.md",
        )
    if successor_home.resolve() == settings.home.resolve():
        raise Conflict("log.successor", "A log's own home cannot be its successor's: give an empty folder")
    successor = settings.model_copy(update={"home": successor_home, "log_origin": origin})
    with ExitStack() as stack:
        old = _engine(stack, settings)
        service_key = load_key(settings.key_dir)
        event_id = find_freeze(old, origin)
        migrate_database(successor)
        new = _engine(stack, successor)
        if event_id is None:
            check_empty(new)
            event_id = freeze(old, Disk(settings.log_dir), service_key, successor_origin=origin, why=why)
        final = read_final(old, LogReader(settings.log_dir, old), event_id)
        seed_successor(old, new, load_key(successor.key_dir), final, successor.log_dir)
    return successor


def next_origin(origin: str) -> str:
    """Return the name a year later: the year at the end raised by one; raises Conflict where there is none."""
    match = _YEAR.search(origin)
    if match is None:
        raise Conflict("log.successor", "The origin does not end in a year: give --successor-origin")
    return f"{origin[: match.start()]}{int(match[0]) + 1}"


def _engine(stack: ExitStack, settings: Settings) -> Engine:
    engine = make_engine(stack.enter_context(open_database(settings, owner=True)))
    stack.callback(engine.dispose)
    return engine
