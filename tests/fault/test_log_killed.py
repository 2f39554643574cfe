"""The real processes, killed with signal 9 while the log grows: nothing is lost, nothing is signed twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from emdi.policy import parse_policy
from emdi.receipt import verify_receipt
from stackwitness.log.fsck import fsck
from stackwitness.settings import Settings
from stackwitness.wiring import ensure_service_key
from tests.service.log_support import SmallLog

WITHIN_S = 60.0


class Processes:
    """`stackwitness signer` and `stackwitness log` over one home; `kill` and `start` them by name."""

    def __init__(self, settings: Settings) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._env = {
            **os.environ,
            "STACKWITNESS_MODE": "test",
            "STACKWITNESS_HOME": str(settings.home),
            "STACKWITNESS_DATABASE_URL": str(settings.database_url),
            "STACKWITNESS_CHECKPOINT_MS": "100",
            "STACKWITNESS_INTEGRATE_MS": "20",
        }

    def start(self, name: str) -> None:
        command = [sys.executable, "-m", "stackwitness.cli", name]
        self._running[name] = subprocess.Popen(command, env=self._env, stdout=subprocess.DEVNULL)

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        process = self._running.pop(name)
        process.send_signal(number)
        return process.wait(timeout=30)

    def stop(self) -> None:
        for name in list(self._running):
            self.kill(name)


@pytest.fixture
def processes(settings: Settings) -> Iterator[Processes]:
    started = Processes(settings)
    yield started
    started.stop()


def await_receipt(log: SmallLog, event_id: bytes) -> bytes:
    receipt = log.reader.await_receipt(event_id, WITHIN_S)
    assert receipt is not None
    return receipt


def test_killed_again_and_again(settings: Settings, engine: sa.Engine, processes: Processes) -> None:
    log = SmallLog(settings, engine, ensure_service_key(settings.key_dir))
    for name in ("signer", "log"):
        processes.start(name)
    made = log.note_many(200)
    given = [(await_receipt(log, made[-1][0]), made[-1][1])]
    for name, pause_s in (("log", 0.0), ("signer", 0.03), ("log", 0.11)):
        made += log.note_many(90)
        time.sleep(pause_s)
        processes.kill(name)
        made += log.note_many(10)
        processes.start(name)
        event_id, jws = made[-1]
        given.append((await_receipt(log, event_id), jws))
    found = log.reader.receipts([event_id for event_id, _ in made])
    assert len(found) == len(made)
    policy = parse_policy(f"log {log.vkey}\nquorum none\n")
    for receipt, jws in [*given, *((found[event_id], jws) for event_id, jws in made[::50])]:
        verify_receipt(receipt, jws, policy)
    assert processes.kill("log", signal.SIGTERM) == 0
    assert processes.kill("signer", signal.SIGTERM) == 0
    assert fsck(engine, settings.log_dir, policy, signer_dir=settings.signer_dir).findings == []
