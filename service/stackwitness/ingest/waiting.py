"""Wait for receipts together: one look at the checkpoint for all who wait, one question for all it may cover."""

import asyncio
from typing import Protocol

from stackwitness.errors import NotFound

LOOK_S = 0.05
MOST_AT_ONCE = 256


class Receipts(Protocol):
    """The part of the log's reader that waiting needs."""

    def checkpoint(self) -> bytes:
        """Return the newest checkpoint; raises NotFound before the first."""

    def receipts(self, entry_ids: list[bytes]) -> dict[bytes, bytes]:
        """Return the receipts that exist, by id."""


class ReceiptWaiters:
    """The requests of one event loop that wait for receipts. Hundreds cost what one costs."""

    def __init__(self, reader: Receipts) -> None:
        self._reader = reader
        self._waiting: dict[bytes, list[asyncio.Future[bytes]]] = {}
        self._unasked: set[bytes] = set()
        self._looking: asyncio.Task[None] | None = None

    async def receipt(self, entry_id: bytes, wait_s: float) -> bytes | None:
        """Return the receipt as soon as a checkpoint covers the entry; None when that takes longer."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(entry_id, []).append(future)
        self._unasked.add(entry_id)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(wait_s):
                return await future
        except TimeoutError:
            return None
        finally:
            self._forget(entry_id, future)

    async def _look(self) -> None:
        seen = b""
        try:
            while self._waiting:
                note = await asyncio.to_thread(self._newest)
                wanted = list(self._waiting if note != seen else self._unasked & self._waiting.keys())
                self._unasked.clear()
                for start in range(0, len(wanted), MOST_AT_ONCE):
                    self._answer(
                        await asyncio.to_thread(self._reader.receipts, wanted[start : start + MOST_AT_ONCE])
                    )
                seen = note
                await asyncio.sleep(LOOK_S)
        except Exception as error:  # whatever it is, nobody shall wait in vain: each request answers it
            for futures in self._waiting.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(error)

    def _newest(self) -> bytes:
        try:
            return self._reader.checkpoint()
        except NotFound:
            return b""

    def _answer(self, found: dict[bytes, bytes]) -> None:
        for entry_id, receipt in found.items():
            for future in self._waiting.get(entry_id, ()):
                if not future.done():
                    future.set_result(receipt)

    def _forget(self, entry_id: bytes, future: "asyncio.Future[bytes]") -> None:
        futures = self._waiting[entry_id]
        futures.remove(future)
        if not futures:
            del self._waiting[entry_id]
            self._unasked.discard(entry_id)
