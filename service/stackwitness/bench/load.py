"""Post prepared requests over keep-alive connections, cheaply: the service shares the machine."""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
BUSY_PAUSE_S = 0.1


@dataclass(frozen=True)
class Drive:
    """What one drive took: seconds, and how often the service asked to come back later."""

    seconds: float
    busy: int


def make_request(path: str, body: bytes, media_type: str) -> bytes:
    """Return a whole HTTP/1.1 request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def drive(port: int, streams: Sequence[Sequence[bytes]]) -> Drive:
    """Send every stream over its own connection, request after request. Raises RuntimeError on refusal."""
    return asyncio.run(_drive(port, streams))


async def _drive(port: int, streams: Sequence[Sequence[bytes]]) -> Drive:
    connections = [await connect(port) for _ in streams]
    started = time.perf_counter()
    busy = await asyncio.gather(
        *(_send_all(connection, stream) for connection, stream in zip(connections, streams, strict=True))
    )
    seconds = time.perf_counter() - started
    for connection in connections:
        connection.close()
    return Drive(seconds, sum(busy))


async def _send_all(connection: "Connection", stream: Sequence[bytes]) -> int:
    busy = 0
    for request in stream:
        status, body = await connection.send(request)
        while status == 503:
            busy += 1
            await asyncio.sleep(BUSY_PAUSE_S)
            status, body = await connection.send(request)
        if status >= 300:
            raise RuntimeError(f"{status}: {body[:300]!r}")
    return busy


async def connect(port: int) -> "Connection":
    """Open one connection."""
    return (await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port))[1]


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._data = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def send(self, request: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        """Send a request; the future gives status and body."""
        self._data = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0 or self._answer is None:
            return
        length = _LENGTH.search(self._data, 0, end)
        body = self._data[end + 4 :]
        if length is not None and len(body) >= int(length[1]):
            self._answer.set_result((int(self._data[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the service hung up"))

    def close(self) -> None:
        """Hang up."""
        self._transport.close()
