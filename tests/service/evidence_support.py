"""A small log with one station, ready to be exported; the log moves in a thread while a bundle is built."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from stackwitness.accounts.domain import Account
from stackwitness.accounts.flow import grant_access
from stackwitness.log.loop import LogLoop
from stackwitness.log.reader import LogReader
from stackwitness.log.service_keys import ServiceKey
from stackwitness.settings import Settings
from tests.service.log_station import SmallStation
from tests.service.log_support import SmallLog, make_log


@dataclass
class Shop:
    """What building needs, over a small log."""

    log: SmallLog
    loop: LogLoop
    station: SmallStation
    settings: Settings
    engine: sa.Engine
    service_key: ServiceKey
    log_reader: LogReader

    @property
    def policy_text(self) -> str:
        return f"log {self.log.vkey}\nquorum none\n"

    def grant(self, account: Account) -> None:
        """Make an account."""
        with self.engine.begin() as conn:
            grant_access(conn, self.service_key, account, act="test")
        self.loop.sequence()
        self.loop.publish()

    def running_log(self) -> AbstractContextManager[None]:
        return running(self.loop)


@contextmanager
def running(loop: LogLoop) -> Iterator[None]:
    """Move the log in a thread, as its process would."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.05):
            loop.sequence()
            loop.publish()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def make_shop(settings: Settings, engine: sa.Engine) -> Shop:
    """Give a log with a station, 40 envelopes, two flags, one review."""
    log = make_log(settings, engine)
    loop = log.start()
    station = SmallStation(log)
    station.register()
    station.push(20)
    first, _ = station.raise_flag(), station.raise_flag()
    station.review(first)
    station.push(20)
    with engine.begin() as conn:
        grant_access(conn, log.service_key, Account("regulator-1", "r", "regulator"), act="test")
    loop.sequence()
    loop.publish()
    return Shop(log, loop, station, settings, engine, log.service_key, log.reader)
