"""Put the parts of one process together, once, from its settings."""

from dataclasses import dataclass

from sqlalchemy import Engine
from starlette.requests import Request  # FastAPI's own name for it; commands import no FastAPI

from stackwitness.db.engine import make_engine
from stackwitness.log.custody import Custody
from stackwitness.log.reader import LogReader
from stackwitness.log.service_keys import ServiceKey, open_service_key
from stackwitness.settings import Settings


@dataclass(frozen=True)
class Wiring:
    """Hold what flows need: settings, engine, the key that signs events, the published log, the custody log."""

    settings: Settings
    engine: Engine
    service_key: ServiceKey
    log_reader: LogReader
    custody: Custody


def wire(settings: Settings) -> Wiring:
    """Return the wiring of a process; `settings.database_url` must be set (see db.embedded.open_database)."""
    if settings.database_url is None:
        raise ValueError("wire() needs a database_url; open_database(settings) gives one")
    engine = make_engine(settings.database_url)
    key = open_service_key(settings.key_dir)
    return Wiring(settings, engine, key, LogReader(settings.log_dir, engine), Custody(engine, key))


def get_wiring(request: Request) -> Wiring:
    """Return the wiring of the application that serves this request (a FastAPI dependency)."""
    wiring: Wiring = request.app.state.wiring
    return wiring
