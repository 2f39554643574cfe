"""Put the parts of one process together, once, from its settings."""

import os
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from sqlalchemy import Engine

from emdi.keys import LocalKey
from stackwitness.db.embedded import locked
from stackwitness.db.engine import make_engine
from stackwitness.log.custody import Custody
from stackwitness.log.reader import LogReader
from stackwitness.settings import Settings

SERVICE_KID = "service-1"


@dataclass(frozen=True)
class Wiring:
    """Hold what flows need: settings, engine, the key that signs events, the published log, the custody log."""

    settings: Settings
    engine: Engine
    service_key: LocalKey
    log_reader: LogReader
    custody: Custody


def wire(settings: Settings) -> Wiring:
    """Return the wiring of a process; `settings.database_url` must be set (see db.embedded.open_database)."""
    if settings.database_url is None:
        raise ValueError("wire() needs a database_url; open_database(settings) gives one")
    engine = make_engine(settings.database_url)
    key = ensure_service_key(settings.key_dir)
    return Wiring(settings, engine, key, LogReader(settings.log_dir, engine), Custody(engine, key))


def ensure_service_key(key_dir: Path) -> LocalKey:
    """Return the service's Ed25519 key, made at the first start; two processes agree on one."""
    key_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = key_dir / "service.pem"
    with locked(key_dir / "lock"):
        if not path.exists():
            draft = path.with_suffix(f".{os.getpid()}")
            draft.unlink(missing_ok=True)
            LocalKey.generate("Ed25519", SERVICE_KID).save(draft)
            draft.rename(path)
    return LocalKey.load(path, SERVICE_KID)


def get_wiring(request: Request) -> Wiring:
    """Return the wiring of the application that serves this request (a FastAPI dependency)."""
    wiring: Wiring = request.app.state.wiring
    return wiring
