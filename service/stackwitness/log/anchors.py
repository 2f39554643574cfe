"""Have published checkpoints time-stamped by authorities outside (RFC 3161), and keep their answers for ever."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import sqlalchemy as sa
import structlog
from cryptography import x509

from emdi.anchor import ANCHORED, CHAIN, FOLDER, MOST_AUTHORITIES, Anchor
from emdi.checkpoint import parse_checkpoint
from emdi.errors import EmdiError
from emdi.keys import Signer
from emdi.note import parse_note
from emdi.units import format_at
from stackwitness import clock
from stackwitness.db.unit import unit_of_work
from stackwitness.log.anchored import read_anchors
from stackwitness.log.disk import Disk
from stackwitness.log.events import append_event
from stackwitness.log.queries import find_successor
from stackwitness.log.status import LogWarning
from stackwitness_client.http import LOOPBACK, certificates
from stackwitness_client.verify.timestamps import (
    MAX_TSR_BYTES,
    Timestamp,
    TimestampRefused,
    check_timestamp,
    open_timestamp,
    read_certificates,
)

ANSWER_WITHIN_S = 20.0
RETRY_MS = 60_000
CLOCK_SLACK_MS = 60_000  # what the verifier allows between a stamp and a time of receipt, too
POLL_S = 1.0
log = structlog.get_logger("log")


class Anchors:
    """Take a round with every authority each `every_ms`; what fails is a warning and tried again, never a stop.

    Order: the note's file, the response's file, the event. A crash in between leaves a file without an event,
    which the next round makes up for.
    """

    def __init__(
        self,
        engine: sa.Engine,
        service_key: Signer,
        disk: Disk,
        urls: Sequence[str],
        *,
        every_ms: int,
        roots: Path | None = None,
    ) -> None:
        self._engine = engine
        self._service_key = service_key
        self._disk = disk
        self._urls = tuple(urls)[:MOST_AUTHORITIES]
        self._every_ms = every_ms
        self._roots = roots
        self._warnings: dict[int, str] = {}
        self._due_ms: dict[int, int] = {}

    @property
    def warnings(self) -> tuple[LogWarning, ...]:
        """Which authorities failed last, and how."""
        found = dict(self._warnings)
        return tuple(
            LogWarning("log.anchor", f"time-stamp authority {self._urls[k]}: {found[k]}")
            for k in sorted(found)
        )

    def run(self, stop: threading.Event) -> None:
        """Take rounds until `stop`."""
        while not stop.wait(POLL_S):
            self.take_round()

    def take_round(self, *, now: bool = False) -> list[Anchor]:
        """Ask every authority that is due (with `now` all of them); return the anchors made."""
        try:
            note = self._disk.read("checkpoint")
            size = parse_checkpoint(parse_note(note).text).size
        except (FileNotFoundError, EmdiError):
            return []
        due = [k for k in range(len(self._urls)) if now or self._is_due(k)]
        return [anchor for k in due if (anchor := self._try(k, size, note)) is not None]

    def _is_due(self, k: int) -> bool:
        if k not in self._due_ms:
            stamped = (self._disk.root / FOLDER).glob(f"*.{k}.tsr")
            last_ms = max((int(path.stat().st_mtime * 1000) for path in stamped), default=0)
            self._due_ms[k] = last_ms + self._every_ms
        wait_ms = self._due_ms[k] - clock.now_ms()
        return wait_ms <= 0 or wait_ms > self._every_ms + RETRY_MS  # the clock was set back

    def _try(self, k: int, size: int, note: bytes) -> Anchor | None:
        try:
            anchor = self._anchor(k, size, note)
        except (
            Exception
        ) as error:  # a stranger's bytes, read by a library of others: whatever it is, the round goes on
            self._warnings[k] = str(error) or type(error).__name__
            self._due_ms[k] = clock.now_ms() + RETRY_MS
            log.warning("log.anchor_failed", tsa=self._urls[k], why=self._warnings[k])
            return None
        self._warnings.pop(k, None)
        self._due_ms[k] = clock.now_ms() + self._every_ms
        return anchor

    def _anchor(self, k: int, size: int, note: bytes) -> Anchor:
        note = self._keep(f"{FOLDER}/{size}.note", note)
        path = f"{FOLDER}/{size}.{k}.tsr"
        try:
            tsr = self._disk.read(path)
            stamp = open_timestamp(tsr, note)[1]
        except FileNotFoundError:
            tsr, stamp = self._ask(k, note)
            self._disk.write(path, tsr)
        anchor = Anchor(
            size,
            k,
            self._urls[k],
            hashlib.sha256(note).hexdigest(),
            hashlib.sha256(tsr).hexdigest(),
            stamp.gen_time_ms,
        )
        with unit_of_work(self._engine, "sw_seq") as conn:
            known = {item.tsr_sha256 for item in read_anchors(conn)}
            # A frozen log's last checkpoint is stamped too; only the file says so.
            if anchor.tsr_sha256 not in known and find_successor(conn) is None:
                append_event(
                    conn,
                    self._service_key,
                    typ=ANCHORED,
                    subj="log",
                    act="service:log",
                    data={name: getattr(anchor, name) for name in anchor.__dataclass_fields__},
                )
        return anchor

    def _keep(self, path: str, note: bytes) -> bytes:
        """Return the note of this size that is stamped: the one kept already, so that all stamps are on one."""
        try:
            return self._disk.read(path)
        except FileNotFoundError:
            self._disk.write(path, note)
            return note

    def _ask(self, k: int, note: bytes) -> tuple[bytes, Timestamp]:
        try:
            from rfc3161_client import HashAlgorithm, TimestampRequestBuilder
        except ImportError:
            raise TimestampRefused("anchor.no_library", "rfc3161-client is not installed") from None
        request = TimestampRequestBuilder().data(note).hash_algorithm(HashAlgorithm.SHA256)
        query = request.cert_request(cert_request=True).nonce(nonce=True).build()
        asked_ms = clock.now_ms()
        tsr = post_query(self._urls[k], query.as_bytes())
        response, stamp = open_timestamp(tsr, note)
        if not asked_ms - CLOCK_SLACK_MS <= stamp.gen_time_ms <= clock.now_ms() + CLOCK_SLACK_MS:
            raise TimestampRefused(
                "anchor.time", f"the response is of {format_at(stamp.gen_time_ms)}, not of now"
            )
        if response.tst_info.nonce != query.nonce:
            raise TimestampRefused("anchor.nonce", "the response answers another request")
        if self._roots is not None:
            check_timestamp(tsr, note, read_certificates(self._roots.read_bytes()), self._chain())
        return tsr, stamp

    def _chain(self) -> list[x509.Certificate]:
        try:
            return read_certificates(self._disk.read(f"{FOLDER}/{CHAIN}"))
        except FileNotFoundError:
            return []


@contextmanager
def anchoring(anchors: Anchors | None, stop: threading.Event) -> Iterator[None]:
    """Take rounds in a thread of their own, as an authority may take its time; until `stop`."""
    if anchors is None:
        yield
        return
    thread = threading.Thread(target=anchors.run, args=(stop,), name="anchors", daemon=True)
    thread.start()
    yield
    thread.join(ANSWER_WITHIN_S)


def post_query(url: str, query: bytes) -> bytes:
    """Send a time-stamp query (RFC 3161 3.4) and return the response; raises HTTPError, ClientError.

    It takes ANSWER_WITHIN_S at most, however slowly headers or body drip in.
    """
    return asyncio.run(_post(url, query))


async def _post(url: str, query: bytes) -> bytes:
    trust_env = urlsplit(url).hostname not in LOOPBACK
    verify = certificates(trust_env=trust_env)
    # Not compressed: a small answer could unfold without end.
    headers = {"content-type": "application/timestamp-query", "accept": "application/timestamp-reply"}
    headers |= {"accept-encoding": "identity"}
    body = b""
    try:
        async with (
            asyncio.timeout(ANSWER_WITHIN_S),
            httpx2.AsyncClient(timeout=ANSWER_WITHIN_S, trust_env=trust_env, verify=verify) as client,
            client.stream("POST", url, content=query, headers=headers) as response,
        ):
            if response.status_code != 200:
                raise TimestampRefused("anchor.status", f"answered {response.status_code}")
            async for part in response.aiter_raw():
                body += part
                if len(body) > MAX_TSR_BYTES:
                    raise TimestampRefused("anchor.form", "the response is too long or too slow")
    except TimeoutError:
        raise TimestampRefused("anchor.form", "the response is too long or too slow") from None
    return body
