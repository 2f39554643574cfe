"""Logs and metrics: structlog on standard error, one line a request; Prometheus series by route template."""

import contextlib
import logging
import sys
import time
from typing import Any, TextIO, cast

import structlog
from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.tracebacks import ExceptionDictTransformer

REQUESTS = Counter("stackwitness_requests_total", "Answered requests", ["method", "route", "status"])
SECONDS = Histogram(
    "stackwitness_request_seconds",
    "Time to answer",
    ["method", "route"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
PENDING = Gauge("stackwitness_pending_leaves", "Leaves that wait for the log")
LOG_SIZE = Gauge("stackwitness_log_size", "Leaves the log has given a place")
LOG_ALARM = Gauge("stackwitness_log_alarm", "1 while the log process says that it cannot go on")
QUORUM_MISSING = Gauge("stackwitness_quorum_missing", "1 while the checkpoint lacks its quorum of witnesses")
WITNESSES_MISSING = Gauge("stackwitness_witnesses_missing", "Witnesses that did not cosign the checkpoint")
ANCHORS_MISSING = Gauge("stackwitness_anchors_missing", "Time-stamp authorities that did not answer last")
CHECKPOINT_SIZE = Gauge("stackwitness_checkpoint_size", "Leaves under the published checkpoint")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
# Without the values of local variables: they hold passwords, and take seconds to render.
TRACEBACKS = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})

log = structlog.get_logger("stackwitness.request")


class UnfailingStream:
    """Standard error as it is at each line: a full disk or a closed stream takes the line, not the process that wrote it."""

    def write(self, text: str) -> None:
        """Write, or lose the text."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed
            sys.stderr.write(text)

    def flush(self) -> None:
        """Flush, or lose what waits."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def configure_logging(*, as_json: bool = False, level: int = logging.INFO) -> None:
    """Send structlog and the standard logging module to standard error, one line an event."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        final: list[Any] = [TRACEBACKS, structlog.processors.JSONRenderer()]
    else:
        final = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, UnfailingStream())),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s [%(levelname)s] %(name)s %(message)s",
        force=True,
    )


def route_template(scope: Scope) -> str:
    """Return the matched route's path with its parameters unfilled: a bounded set of labels."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "(none)"


class RequestTelemetry:
    """Log and count every request; pure ASGI, so streaming answers stay streams."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note how it was answered; 500 when nothing was."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    @staticmethod
    def _note(scope: Scope, status: int, seconds: float) -> None:
        route = route_template(scope)
        method = scope["method"] if scope["method"] in METHODS else "other"
        REQUESTS.labels(method, route, str(status)).inc()
        SECONDS.labels(method, route).observe(seconds)
        if route not in QUIET_ROUTES:
            log.info(
                "request",
                method=method,
                path=scope["path"],
                route=route,
                status=status,
                ms=round(seconds * 1000, 1),
            )
