"""Bring one station's rows through the station SDK: read, forge, pace, record, push, prove."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from emdi.keys import LocalKey
from emdi.pack import Record
from stackwitness.replay.forging import forge_rows
from stackwitness.replay.options import ReplayError, ReplayOptions
from stackwitness.replay.served import Served
from stackwitness_client.dataset import Row, Tally, read_rows
from stackwitness_client.errors import ClientError, ServerRefused
from stackwitness_client.home import CONFIG, StationConfig, make_home, open_home
from stackwitness_client.http import ServerLink
from stackwitness_client.manifest import StationSource
from stackwitness_client.pusher import PushAccount, Pusher
from stackwitness_client.registration import register
from stackwitness_client.station import PACK_BYTES, Station, row_bytes

# Envelopes sealed with one write to disk, and how far recording may run ahead of the server.
BATCH_ENVELOPES = 16
MAX_WAITING = 512
PAUSE_S = 0.3

Tell = Callable[[str, int, int], None]


class Stopped(ReplayError):
    """Say that the replay was stopped; it can be started again and goes on."""

    def __init__(self) -> None:
        super().__init__("replay.stopped", "stopped; the same command goes on where it was")


@dataclass
class StationAccount:
    """Count what became of one station's rows in this run, and of its chain in all runs."""

    stn: str
    tally: Tally = field(default_factory=Tally)
    rows_sent_before: int = 0
    rows_recorded: int = 0
    readings_recorded: int = 0
    readings_in_chain: int = 0
    envelopes_in_chain: int = 0
    from_ms: int | None = None
    to_ms: int | None = None
    push: PushAccount = field(default_factory=PushAccount)
    retries: int = 0
    receipts: int = 0
    receipt_readings: int = 0
    stored: int | None = None
    flags: dict[str, int] = field(default_factory=dict)
    detection_caught_up: bool | None = None
    error: str | None = None


class Sender:
    """Replay one station; `tell(stn, readings recorded, readings proven)` is called as it goes."""

    def __init__(
        self,
        source: StationSource,
        options: ReplayOptions,
        server: str,
        served: Served,
        policy_text: str,
        stop: threading.Event,
        tell: Tell,
    ) -> None:
        self._source = source
        self._options = options
        self._server = server
        self._served = served
        self._policy_text = policy_text
        self._stop = stop
        self._tell = tell
        self._done = threading.Event()
        self._failure: ClientError | None = None
        self.account = StationAccount(source.stn)

    def run(self) -> StationAccount:
        """Send every row that was not sent before and wait for all receipts; raises ClientError."""
        home = self._options.home / "replay" / self._source.stn
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Two replays of one station at once would each record the same rows.
        with (home / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ReplayError(
                    "replay.running", f"another replay sends station {self._source.stn}"
                ) from error
            return self._run(self._open(home))

    def _run(self, station: Station) -> StationAccount:
        account = self.account
        proven_before = station.spool.count().receipt_readings
        pusher = threading.Thread(
            target=self._push, args=(station,), name=f"push {self._source.stn}", daemon=True
        )
        pusher.start()
        try:
            self._record(station)
        finally:
            self._done.set()
            pusher.join()
            head, count = station.spool.head(), station.spool.count()
            account.readings_in_chain, account.envelopes_in_chain = head.readings, head.sealed
            account.receipts, account.receipt_readings = count.receipts, count.receipt_readings
            station.close()
        if self._failure is not None:
            raise self._failure
        self._tell(
            self._source.stn, 0, account.receipt_readings - proven_before - account.push.freed_readings
        )
        return account

    # 1 Key, registration, place in the chain ------------------------------------------------------------
    def _open(self, home: Path) -> Station:
        if not (home / CONFIG).exists():
            self._make_home(home)
        station = open_home(home, server=self._server)
        if station.spool.head().seq < 0 and station.spool.head().ep == 0:
            head = self._served.patiently(lambda: self._served.link.station_head(self._source.stn))
            if head is not None:
                # The server knows this station from a spool that is gone: its readings are not sent again.
                last_ms = self._served.last_reading_ms(self._source.stn)
                station.spool.open_epoch(head[0] + 1, last_at_ms=last_ms)
        return station

    def _make_home(self, home: Path) -> None:
        """Make a key and have it pinned, under the first key id that no lost key has taken."""
        stn = self._source.stn
        for number in range(1, 100):
            kid = f"{stn[:60]}-{number}"
            key_home = home / kid
            if not (key_home / CONFIG).exists():
                units = {channel.name: channel.unit for channel in self._source.channels}
                make_home(
                    key_home,
                    StationConfig(stn, kid, self._server, units),
                    alg="Ed25519",
                    policy_text=self._policy_text,
                )
            signer = LocalKey.load(key_home / "key.pem", kid)
            try:
                self._served.patiently(
                    lambda signer=signer: register(  # type: ignore[misc]
                        self._served.link, self._source.registration(), signer, self._served.approver
                    )
                )
            except ServerRefused as refusal:
                if refusal.code != "key.taken":
                    raise
                continue
            for name in ("policy.txt", "key.pem", CONFIG):
                (key_home / name).replace(home / name)
            key_home.rmdir()
            return
        raise ReplayError("replay.keys", f"every key id of station {stn} is taken")

    # 2 Rows into the spool ------------------------------------------------------------------------------
    def _record(self, station: Station) -> None:
        account = self.account
        sent_upto_ms = station.spool.head().last_at_ms
        batch: list[list[Record]] = []
        for pack in self._packs(self._fresh(self._rows(), sent_upto_ms)):
            if pack:
                batch.append(pack)
            if batch and (not pack or len(batch) >= BATCH_ENVELOPES or self._options.speed is not None):
                station.record_packs(batch)
                account.readings_recorded += sum(len(records) for records in batch)
                self._tell(self._source.stn, sum(len(records) for records in batch), 0)
                batch = []
                self._hold_back(station)
        if batch:
            station.record_packs(batch)
            account.readings_recorded += sum(len(records) for records in batch)
            self._tell(self._source.stn, sum(len(records) for records in batch), 0)

    def _rows(self) -> Iterable[Row]:
        options = self._options
        rows = read_rows(
            self._source,
            options.data,
            from_ms=options.from_ms,
            to_ms=options.to_ms,
            only=options.files,
            tally=self.account.tally,
        )
        forgeries = [forgery for forgery in options.forgeries if forgery.stn == self._source.stn]
        # Forged before what was sent is skipped: a replay that goes on must forge the same.
        return forge_rows(self._source, rows, forgeries, seed=options.seed) if forgeries else rows

    def _fresh(self, rows: Iterable[Row], sent_upto_ms: int | None) -> Iterator[Row]:
        account = self.account
        for row in rows:
            if self._stop.is_set() or self._failure is not None:
                raise self._failure or Stopped()
            account.from_ms = row.at_ms if account.from_ms is None else account.from_ms
            account.to_ms = row.at_ms + 1
            if sent_upto_ms is not None and row.at_ms <= sent_upto_ms:
                account.rows_sent_before += 1
                continue
            account.rows_recorded += 1
            yield row

    def _packs(self, rows: Iterable[Row]) -> Iterator[list[Record]]:
        """Group rows into packs; an empty one says: nothing comes for a while, record what there is."""
        limit = self._options.readings_per_envelope
        pack: list[Record] = []
        size = 0
        for row in self._paced(rows):
            if row is None:
                if pack:
                    yield pack
                    pack, size = [], 0
                yield []
                continue
            row_size = row_bytes(row.records)
            if pack and (len(pack) + len(row.records) > limit or size + row_size > PACK_BYTES):
                yield pack
                pack, size = [], 0
            pack += row.records
            size += row_size
        if pack:
            yield pack

    def _paced(self, rows: Iterable[Row]) -> Iterator[Row | None]:
        """Yield each row when it is due; None before a wait."""
        speed = self._options.speed
        began, first_ms = time.monotonic(), None
        for row in rows:
            if speed is not None:
                first_ms = row.at_ms if first_ms is None else first_ms
                wait_s = began + (row.at_ms - first_ms) / 1000 / speed - time.monotonic()
                if wait_s > 0.01:
                    yield None
                    if self._stop.wait(wait_s):
                        raise Stopped()
            yield row

    def _hold_back(self, station: Station) -> None:
        while station.spool.count().waiting > MAX_WAITING:
            if self._failure is not None or self._stop.wait(PAUSE_S):
                raise self._failure or Stopped()

    # 3 Spool to server, receipts back -------------------------------------------------------------------
    def _push(self, station: Station) -> None:
        link = ServerLink(self._server)
        pusher = Pusher(
            station.spool,
            link,
            station.pusher.policy,
            sleep=self._sleep,
            on_progress=lambda step: self._tell(self._source.stn, 0, step.freed_readings),
        )
        patience_s = self._options.patience_s
        quiet_since = time.monotonic()
        try:
            while True:
                finished = self._done.is_set()
                step = pusher.push(give_up_s=patience_s) + pusher.collect(give_up_s=patience_s)
                self.account.push += step
                count = station.spool.count()
                if step.sent or step.freed:
                    quiet_since = time.monotonic()
                elif finished and not count.waiting and not count.stored:
                    return
                elif count.stored and time.monotonic() - quiet_since > patience_s:
                    raise ReplayError("replay.no_receipts", f"no receipt for {count.stored} stored envelopes")
                if not step.sent:
                    self._sleep(PAUSE_S)
        except ClientError as error:
            self._failure = error
        finally:
            self.account.retries = pusher.retries
            link.close()

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped()
