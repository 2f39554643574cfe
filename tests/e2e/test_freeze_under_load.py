"""A log is frozen while stations push, and who freezes and who publishes are killed: nothing acknowledged is lost."""

import json
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest

from emdi.envelope import ZERO_HASH, Envelope, seal_envelope
from emdi.keys import LocalKey
from emdi.pack import Record
from stackwitness_client.errors import ServerBusy, ServerRefused, ServerUnreachable
from stackwitness_client.http import ServerLink
from stackwitness_client.registration import register
from tests.e2e.test_shards import NEW, OLD, PROGRAM, STATION, folder, run
from tests.support.processes import Up, wait_until

__all__ = ["folder"]
AT_ONCE = 3
NAMES = ("S1", "S2", "S3")


@dataclass
class Pusher:
    """One station that pushes without pause, and goes on asking where it was refused."""

    stn: str
    key: LocalKey
    url: str
    acknowledged: list[Envelope] = field(default_factory=list)
    refused: list[Envelope] = field(default_factory=list)
    answers: set[tuple[int, str, str]] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        link, waiting = ServerLink(self.url), [*self._seal(ZERO_HASH, 0)]
        try:
            while not self.stop.is_set():
                if self._send(link, waiting):
                    last = waiting[-1]
                    waiting = [*self._seal(last.env_id, last.seq + 1)]
                else:
                    time.sleep(0.05)
        except Exception as error:  # a thread's own end would pass unseen
            self.faults.append(repr(error))
        finally:
            link.close()

    def _send(self, link: ServerLink, envelopes: list[Envelope]) -> bool:
        """Send them; tell whether they are acknowledged."""
        try:
            link.send_envelopes([envelope.jws for envelope in envelopes])
        except (ServerBusy, ServerUnreachable):
            return False
        except ServerRefused as refused:
            self.answers.add((refused.status, refused.code, refused.problem.get("successor_origin", "")))
            known = {item["seq"] for item in refused.problem.get("known", ())}
            if self.refused and any(envelope.seq in known for envelope in self.refused):
                self.faults.append("what was refused is known later")
            if not self.refused:
                self.acknowledged += [envelope for envelope in envelopes if envelope.seq in known]
                self.refused = [envelope for envelope in envelopes if envelope.seq not in known]
            return False
        if self.refused:
            self.faults.append("what was refused is taken later")
        self.acknowledged += envelopes
        return True

    def _seal(self, prev: bytes, seq: int) -> list[Envelope]:
        made: list[Envelope] = []
        now_ms = time.time_ns() // 1_000_000
        for n in range(AT_ONCE):
            record = Record("nox", now_ms - 1000 + n, "mg/m3", Decimal(20), "N")
            last = made[-1].env_id if made else prev
            made.append(
                seal_envelope(
                    self.key,
                    stn=self.stn,
                    ep=1,
                    seq=seq + n,
                    prev=last,
                    iat_ms=now_ms,
                    cp=None,
                    records=[record],
                )
            )
        return made

    def end(self) -> None:
        self.stop.set()
        self.thread.join()


def start_freeze(folder: Path) -> subprocess.Popen[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STACKWITNESS_")}
    options = ("freeze", "--home", str(folder / "old/state"), "--successor-home", str(folder / "new/state"))
    return subprocess.Popen(
        [*PROGRAM, *options],
        env={**clean, "STACKWITNESS_LOG_ORIGIN": OLD},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_in_the_middle(folder: Path, pushers: list[Pusher]) -> None:
    """Kill who freezes while it makes the successor's database, and again, with the publisher, as the log is frozen."""
    first = start_freeze(folder)
    wait_until(lambda: (folder / "new/state").exists(), within_s=60, what="the successor's home")
    first.kill()
    first.wait()
    assert not any(pusher.refused for pusher in pushers)
    second = start_freeze(folder)
    try:
        wait_until(lambda: any(pusher.refused for pusher in pushers), within_s=90, what="the first refusal")
    finally:
        second.kill()
        second.wait()
    os.kill(json.loads((folder / "old/state/run.json").read_text())["pids"]["log"], signal.SIGKILL)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_a_log_is_frozen_under_load(folder: Path) -> None:
    old, new, pushers = Up(folder / "old", STACKWITNESS_LOG_ORIGIN=OLD), None, []
    try:
        old.wait_ready()
        tokens = [
            (folder / f"old/state/{name}.token").read_text().strip() for name in ("operator", "approver")
        ]
        operator, approver = (ServerLink(old.url, token=token) for token in tokens)
        for stn in NAMES:
            key = LocalKey.generate("Ed25519", f"{stn}-1")
            register(operator, {**STATION, "stn": stn}, key, approver)
            pushers.append(Pusher(stn, key, old.url))
        wait_until(lambda: all(len(p.acknowledged) > 10 for p in pushers), within_s=60, what="load")
        kill_in_the_middle(folder, pushers)
        done = run(
            *("freeze", "--successor-home", str(folder / "new/state")),
            home=folder / "old/state",
            STACKWITNESS_LOG_ORIGIN=OLD,
        )
        assert done.returncode == 0, done.stderr
        assert NEW in done.stdout
        wait_until(lambda: all(p.refused for p in pushers), within_s=60, what="everybody is refused")
        for pusher in pushers:
            pusher.end()
            assert (pusher.faults, pusher.answers) == ([], {(409, "log.frozen", NEW)})
            check_kept(old.url, pusher)
        checked = run("fsck", home=folder / "old/state", STACKWITNESS_LOG_ORIGIN=OLD)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        new = Up(folder / "new", STACKWITNESS_LOG_ORIGIN=NEW)
        new.wait_ready()
        link = ServerLink(new.url)
        for pusher in pushers:
            last = pusher.acknowledged[-1]
            assert link.station_head(pusher.stn) == (last.ep, last.seq, last.env_id)
            link.send_envelopes([envelope.jws for envelope in pusher.refused])
        link.close()
    finally:
        for pusher in pushers:
            pusher.end()
        old.end()
        if new is not None:
            new.end()


def check_kept(url: str, pusher: Pusher) -> None:
    """Each acknowledged envelope has a receipt of the old log, and none that was refused."""
    link = ServerLink(url)
    ids = [envelope.env_id for envelope in pusher.acknowledged]
    receipts = {}
    for at in range(0, len(ids), 100):
        receipts |= link.receipts(ids[at : at + 100])
    assert receipts.keys() == set(ids)
    assert [envelope.seq for envelope in pusher.acknowledged] == list(range(len(ids)))
    assert link.receipts([envelope.env_id for envelope in pusher.refused]) == {}
    link.close()
