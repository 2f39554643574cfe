"""Stop reading a request body at its cap, whatever Content-Length says."""

import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stackwitness.errors import TooLarge
from stackwitness.problems import problem_response


class BodyTooLong(Exception):
    """Unwind the application; the middleware answers in its place."""


class BodyCap:
    """Answer 413 as soon as a body is known to be longer than `max_bytes`; counts the stream (pure ASGI)."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on while it is short enough."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        counted, too_long, started = 0, self._announces_too_much(scope), False

        async def count() -> Message:
            nonlocal counted, too_long
            message = await receive()
            counted += len(message.get("body", b""))
            if counted > self.max_bytes:
                too_long = True
                raise BodyTooLong
            return message

        async def pass_on(message: Message) -> None:
            # The framework turns what receive() raised into an answer of its own; ours replaces it.
            nonlocal started
            if not too_long or started:
                started = True
                await send(message)

        if not too_long:
            with contextlib.suppress(BodyTooLong):
                await self.app(scope, count, pass_on)
        if too_long and not started:
            error = TooLarge(
                "request.too_large", f"The body may hold {self.max_bytes} bytes", max_bytes=self.max_bytes
            )
            await problem_response(error.problem(), {"Connection": "close"})(scope, receive, send)

    def _announces_too_much(self, scope: Scope) -> bool:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                return int(value) > self.max_bytes
        return False
