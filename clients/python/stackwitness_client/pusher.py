"""Bring the spool's envelopes to the server and free them only against verified receipts."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from emdi.entry import KIND_READING
from emdi.errors import EmdiError, TileError
from emdi.merkle import verify_consistency
from emdi.policy import Policy
from emdi.receipt import parse_receipt, verify_receipt
from emdi.tiles import TileReader
from stackwitness_client.errors import (
    ReceiptRefused,
    ServerBusy,
    ServerRefused,
    ServerUnreachable,
)
from stackwitness_client.http import Backoff, ServerLink, base_of, head_of
from stackwitness_client.spool import Proven, Spool, Spooled

MAX_BATCH_LINES = 256
RECEIPT_DAYS = 400
Result = TypeVar("Result")


@dataclass(frozen=True)
class PushAccount:
    """Count one call: envelopes sent, acknowledged as new or known, freed against receipts."""

    sent: int = 0
    stored: int = 0
    known: int = 0
    freed: int = 0
    freed_readings: int = 0

    def __add__(self, other: PushAccount) -> PushAccount:
        return PushAccount(
            self.sent + other.sent,
            self.stored + other.stored,
            self.known + other.known,
            self.freed + other.freed,
            self.freed_readings + other.freed_readings,
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Pusher:
    """Push one station's spool; `policy` is pinned, never taken from the server.

    `retries` counts repeats; `unwitnessed` how many of the receipts asked for last lacked the policy's quorum
    of witnesses: those envelopes stay in the spool until a later checkpoint has it.
    """

    def __init__(
        self,
        spool: Spool,
        link: ServerLink,
        policy: Policy,
        *,
        batch_lines: int = MAX_BATCH_LINES,
        batch_bytes: int = 2 << 20,
        receipt_days: int = RECEIPT_DAYS,
        backoff: Backoff | None = None,
        sleep: Callable[[float], None] = time.sleep,
        now_ms: Callable[[], int] = _now_ms,
        on_progress: Callable[[PushAccount], None] | None = None,
    ) -> None:
        self._spool = spool
        self._links = [link]
        self._opened: list[ServerLink] = []
        self.policy = policy
        self._batch_lines = min(batch_lines, MAX_BATCH_LINES)
        self._batch_bytes = batch_bytes
        self._receipt_days = receipt_days
        self._backoff = backoff or Backoff()
        self._sleep = sleep
        self._now_ms = now_ms
        self._on_progress = on_progress
        self.retries = 0
        self.unwitnessed = 0

    def push(self, *, give_up_s: float | None = None) -> PushAccount:
        """Send everything that waits, in order, repeating until the server has acknowledged it.

        Gives up after `give_up_s` seconds without success (None = never) and raises the last attempt's error.
        A refusal (4xx) is raised at once: the same envelope would be refused again. A log that is frozen is left
        for its successor when the policy names that with its address, else its refusal is raised.
        """
        account = PushAccount()
        met = False
        while batch := self._spool.waiting(self._batch_lines, self._batch_bytes):
            try:
                step = self._retrying(lambda batch=batch: self._send(batch), give_up_s)  # type: ignore[misc]
            except ServerRefused as refusal:
                self._spool.mark_stored(acknowledged(refusal.problem, "stored"))
                if refusal.code == "log.frozen":
                    self._spool.mark_stored(acknowledged(refusal.problem, "known"))
                    self._move_on(refusal)
                    continue
                if refusal.code not in ("chain.gap", "chain.prev", "chain.epoch") or met:
                    raise
                self._meet(refusal)
                met = True
                continue
            met = False
            account += step
            self._tell(step)
        return account

    def collect(self, *, give_up_s: float | None = None) -> PushAccount:
        """Fetch and verify the receipts that exist by now and free those envelopes: one pass, no waiting."""
        account = PushAccount()
        self.unwitnessed = 0
        after = (-1, -1)
        while batch := self._spool.unproven(MAX_BATCH_LINES, after=after):
            step = self._retrying(lambda batch=batch: self._prove(batch), give_up_s)  # type: ignore[misc]
            account += step
            self._tell(step)
            after = (batch[-1].ep, batch[-1].seq)
        if account.freed:
            self._spool.forget_receipts(self._now_ms(), self._receipt_days)
        return account

    def drain(self, *, give_up_s: float | None = None, poll_s: float = 0.5) -> PushAccount:
        """Push and collect until the spool is empty; `give_up_s` seconds without any progress end it."""
        account = PushAccount()
        last_progress = time.monotonic()
        while True:
            step = self.push(give_up_s=give_up_s) + self.collect(give_up_s=give_up_s)
            account += step
            count = self._spool.count()
            if not count.waiting and not count.stored:
                return account
            if step.freed or step.sent:
                last_progress = time.monotonic()
            elif give_up_s is not None and time.monotonic() - last_progress > give_up_s:
                why = ", receipts lack the policy's quorum of witnesses" if self.unwitnessed else ""
                raise ServerUnreachable(f"no receipt came for {count.stored} acknowledged envelopes{why}")
            self._sleep(poll_s)

    # One attempt ------------------------------------------------------------------------------------------
    def _send(self, batch: list[Spooled]) -> PushAccount:
        answer = self._links[0].send_envelopes([spooled.jws for spooled in batch])
        stored, known = acknowledged(answer, "stored"), acknowledged(answer, "known")
        mine = {spooled.env_id for spooled in batch}
        if not mine & (stored | known):
            raise ServerUnreachable("the server answered without acknowledging any envelope of the batch")
        self._spool.mark_stored(mine & (stored | known))
        return PushAccount(sent=len(batch), stored=len(stored & mine), known=len(known & mine))

    def _prove(self, batch: list[Spooled]) -> PushAccount:
        readings = {spooled.env_id: spooled.readings for spooled in batch}
        freed = self._prove_by(self._links[0], batch)
        for link in self._links[1:]:  # of a log left behind: what it took before it was frozen
            left = [spooled for spooled in batch if spooled.env_id not in freed]
            with suppress(ServerUnreachable, ServerBusy):
                freed |= self._prove_by(link, left) if left else set()
        return PushAccount(freed=len(freed), freed_readings=sum(readings[env_id] for env_id in freed))

    def _prove_by(self, link: ServerLink, batch: list[Spooled]) -> set[bytes]:
        receipts = link.receipts([spooled.env_id for spooled in batch])
        held = [(spooled, text) for spooled in batch if (text := receipts.get(spooled.env_id))]
        proven = [proof for spooled, text in held if (proof := self._verify(spooled, text))]
        self.unwitnessed += len(held) - len(proven)
        self._check_views(link, proven)
        self._spool.free(proven, self._now_ms())
        return {proof.env_id for proof in proven}

    def _verify(self, spooled: Spooled, text: bytes) -> Proven | None:
        try:
            verified = verify_receipt(text, spooled.jws, self.policy)
            receipt = parse_receipt(text)
        except EmdiError as error:
            if error.code == "policy.quorum":  # the log may have gone on without its witnesses: no fraud yet
                return None
            raise ReceiptRefused(
                error.code, f"the receipt of epoch {spooled.ep}, seq {spooled.seq} does not hold: {error}"
            ) from error
        if verified.kind != KIND_READING:
            # Logged as set aside, hence outside the station's chain: freed, the readings would be gone.
            raise ReceiptRefused(
                "receipt.kind", f"epoch {spooled.ep}, seq {spooled.seq} was logged, but not as accepted"
            )
        return Proven(
            spooled.env_id,
            verified.index,
            verified.recv_ms,
            receipt.extra,
            tuple(receipt.path),
            receipt.checkpoint,
            verified.size,
            verified.root,
        )

    def _check_views(self, link: ServerLink, proven: list[Proven]) -> None:
        """Check that every checkpoint continues the last verified one of its log: none may shrink or fork."""
        seen: dict[str, tuple[int, bytes] | None] = {}
        for origin, size, root in sorted({(proof.origin, proof.size, proof.root) for proof in proven}):
            before = seen.get(origin) or self._spool.seen(origin)
            if before is not None:
                self._check_continues(link, before, (size, root))
            seen[origin] = (size, root)

    def _check_continues(self, link: ServerLink, old: tuple[int, bytes], new: tuple[int, bytes]) -> None:
        if new[0] < old[0]:
            raise ReceiptRefused(
                "checkpoint.back",
                f"the log went back from {old[0]} to {new[0]} entries since the last receipt",
            )
        if new[0] == old[0]:
            if new[1] != old[1]:
                raise ReceiptRefused("checkpoint.fork", f"the log shows two trees of {old[0]} entries")
            return
        if old[0] == 0:
            return
        try:
            path = TileReader(link.tile, new[0]).consistency(old[0])
        except (FileNotFoundError, TileError) as error:
            # Without tiles nothing is proven either way: nothing is freed, and the next attempt asks again.
            raise ServerUnreachable(
                f"the log's tiles for {new[0]} entries cannot be read: {error}"
            ) from error
        try:
            verify_consistency(old[0], new[0], old[1], new[1], path)
        except EmdiError as error:
            raise ReceiptRefused(
                "checkpoint.inconsistent",
                f"the log of {new[0]} entries does not continue that of {old[0]}: {error}",
            ) from error

    # Around an attempt ------------------------------------------------------------------------------------
    def _move_on(self, refusal: ServerRefused) -> None:
        """Send what follows to the successor; the receipts of what this log took are still asked for here."""
        origin = refusal.problem.get("successor_origin")
        urls = [base_of(log.url) for log in self.policy.logs if log.url and log.key.name == origin]
        if not urls or urls[0] in {link.url for link in self._links}:
            raise refusal
        link = ServerLink(urls[0])
        self._opened.append(link)
        self._links.insert(0, link)

    def close(self) -> None:
        """Close the connections to successors; the link given at the start is its owner's."""
        for link in self._opened:
            link.close()

    def _meet(self, refusal: ServerRefused) -> None:
        self._spool.meet(head_of(refusal.problem.get("head")))

    def _retrying(self, attempt: Callable[[], Result], give_up_s: float | None) -> Result:
        began = time.monotonic()
        while True:
            try:
                result = attempt()
            except (ServerUnreachable, ServerBusy) as error:
                if give_up_s is not None and time.monotonic() - began >= give_up_s:
                    raise
                self.retries += 1
                self._sleep(self._backoff.next_s(getattr(error, "retry_after_s", None)))
            else:
                self._backoff.reset()
                return result

    def _tell(self, step: PushAccount) -> None:
        if self._on_progress is not None:
            self._on_progress(step)


def acknowledged(body: Any, member: str) -> set[bytes]:
    """Read the envelope ids of an answer's "stored" or "known" list (ids, or objects with "env_id")."""
    try:
        entries = body.get(member) or []
        return {bytes.fromhex(entry["env_id"] if isinstance(entry, dict) else entry) for entry in entries}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ServerUnreachable("the answer of /v1/envelopes has another shape") from error
