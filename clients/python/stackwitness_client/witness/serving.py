"""The witness over HTTP, with nothing but the standard library: small bodies, deadlines, a bounded crowd."""

import contextlib
import io
import logging
import re
import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from emdi.witness import MAX_REQUEST_BYTES
from stackwitness_client.errors import ClientError
from stackwitness_client.witness.cosigner import Cosigner, Reply, say

REQUEST_WITHIN_S = 15.0
CONNECTIONS = 64
_CHECKPOINT = re.compile(r"/([0-9a-f]{64}/checkpoint)")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,8}")
log = logging.getLogger("stackwitness.witness")


class WitnessServer(ThreadingHTTPServer):
    """Serve one cosigner; beyond 64 connections at once a new one is closed unanswered."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], cosigner: Cosigner, *, within_s: float = REQUEST_WITHIN_S
    ) -> None:
        self.cosigner = cosigner
        self.within_s = within_s
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    @property
    def url(self) -> str:
        """Return where it listens."""
        host, port = self.server_address[0], self.server_address[1]
        name = host.decode() if isinstance(host, bytes | bytearray) else str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to a thread, if there is room."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event."""
        log.debug("connection lost", exc_info=True)


class _Dated(io.RawIOBase):
    """Read a socket until a deadline, however slowly the bytes drip in; TimeoutError after it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WitnessServer
    server_version = "stackwitness-witness"
    sys_version = ""
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._dated = _Dated(self.connection)
        self.rfile = io.BufferedReader(self._dated)

    def handle_one_request(self) -> None:
        self._dated.deadline = time.monotonic() + self.server.within_s
        super().handle_one_request()

    def do_POST(self) -> None:
        """Take add-checkpoint; any prefix may stand before it."""
        body = self._read_body()
        if isinstance(body, Reply):
            self.close_connection = True
            self._answer(body)
        elif self.path.endswith("/add-checkpoint"):
            self._answer(self._cosign(body))
        else:
            self._answer(say(404, "there is only add-checkpoint"))

    def do_GET(self) -> None:
        """Show monitors what was cosigned last."""
        # A body nobody asked for would be read as the next request.
        self.close_connection |= "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        match = _CHECKPOINT.search(self.path)
        try:
            note = self.server.cosigner.newest(match[1]) if match and self.path.endswith(match[0]) else None
        except ClientError as error:
            self._answer(_unavailable(error))
            return
        self._answer(say(404, "nothing of this name was cosigned here") if note is None else Reply(200, note))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request of ours in one line of text; what asks for another method, with 405."""
        self.close_connection = True
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self.request_version = self.protocol_version  # an answer with headers, whatever the request claimed
        self._answer(say(status, status.phrase))

    def log_message(self, format: str, *args: Any) -> None:
        log.info("%s %s", self.address_string(), format % args)

    def _read_body(self) -> bytes | Reply:
        lengths = self.headers.get_all("Content-Length") or []
        if "Transfer-Encoding" in self.headers or not lengths:
            return say(411, "a request here states its length")
        if len(lengths) != 1 or _LENGTH.fullmatch(lengths[0]) is None:
            return say(400, "a length is a decimal number")
        length = int(lengths[0])
        if length > MAX_REQUEST_BYTES:
            return say(413, f"a request has at most {MAX_REQUEST_BYTES} bytes")
        try:
            body = self.rfile.read(length)
        except TimeoutError:
            return say(408, "the request took too long")
        return body if len(body) == length else say(400, "the request is shorter than its length")

    def _cosign(self, body: bytes) -> Reply:
        try:
            reply = self.server.cosigner.add_checkpoint(body)
        except ClientError as error:
            reply = _unavailable(error)
        if reply.status == 422:
            # May be proof that the log forked: keep it where the operator looks.
            log.warning("refused with 422: %s\n%s", reply.body, body.decode("utf-8", "replace"))
        return reply

    def _answer(self, reply: Reply) -> None:
        with contextlib.suppress(OSError):
            self.connection.settimeout(self.server.within_s)
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.media_type)
            self.send_header("Content-Length", str(len(reply.body)))
            self.send_header("Cache-Control", "no-store")
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)


def _unavailable(error: ClientError) -> Reply:
    log.error("cannot cosign: %s", error)
    return say(503, "the state of this witness cannot be used now")
