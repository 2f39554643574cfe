"""POST /v1/envelopes as plain ASGI, in front of the framework, whose routing costs more than our COPY."""

import json
import re
import time
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import structlog
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Receive, Scope, Send

from stackwitness.errors import BadRequest, StackwitnessError, TooLarge, problem_members
from stackwitness.ingest import flow
from stackwitness.ingest.domain import Kept, Verdict

PATH = "/v1/envelopes"
PROBLEM = "application/problem+json"
MAX_WAIT_S = 20.0
_WAIT = re.compile(r"[0-9]{1,2}(\.[0-9]{1,3})?", re.ASCII)

ENVELOPES = Counter("stackwitness_envelopes_total", "Envelopes by outcome", ["outcome"])
READINGS = Counter("stackwitness_readings_total", "Readings stored")
SECONDS = Histogram("stackwitness_ingest_seconds", "Time to answer a request with envelopes")

log = structlog.get_logger("stackwitness.ingest")


class Answer(NamedTuple):
    """A response before it is sent."""

    status: int
    media_type: str
    body: bytes
    headers: dict[str, str]


class EnvelopeGate:
    """Answer POST /v1/envelopes, pass everything else on. Envelopes are counted, refusals logged too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        state = scope["app"].state
        try:
            wait = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("wait")
            wait_s = parse_wait(None if wait is None else wait[-1])
            body = await read_body(receive, state.wiring.settings.max_body_bytes)
            answer = await take(body, wait_s, state)
        except StackwitnessError as error:
            answer = problem_of(error)
        except Exception:
            log.error("unforeseen", path=PATH, exc_info=True)
            answer = _problem(problem_members(500, "internal", "Something went wrong on our side"), {})
        await _send(answer, send)
        SECONDS.observe(time.perf_counter() - started)


async def take(body: bytes, wait_s: float, state: Any) -> Answer:
    """Accept a body and return the answer; with `wait_s`, a single envelope's receipt if it comes in time.

    Raises StackwitnessError for the request as a whole.
    """
    verdict = await flow.accept(body, state.committer)
    _count(verdict)
    if wait_s and verdict.failure is None and len(verdict.stored) + len(verdict.known) == 1:
        (kept,) = verdict.stored + verdict.known
        receipt = await state.receipt_waiters.receipt(kept.env_id, wait_s)
        if receipt is not None:
            return Answer(201, "text/plain; charset=utf-8", receipt, {})
    return answer_of(verdict)


def parse_wait(text: str | None) -> float:
    """Return the seconds a caller is ready to wait, 0 without; raises BadRequest query.wait."""
    if text is None:
        return 0.0
    if _WAIT.fullmatch(text) is None or float(text) > MAX_WAIT_S:
        raise BadRequest("query.wait", f"wait is a number of seconds, at most {MAX_WAIT_S:.0f}")
    return float(text)


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """Return the body, giving up as soon as it is too long. Raises TooLarge, BadRequest request.cut."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("request.cut", "The connection closed before the body ended")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge("request.too_large", f"The body may hold {max_bytes} bytes", max_bytes=max_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def answer_of(verdict: Verdict) -> Answer:
    """(8) Return the answer: 202, 200 when all was known, else the problem and what was stored before it."""
    stored = [_kept_json(kept) for kept in verdict.stored]
    known = [_kept_json(kept) for kept in verdict.known]
    if verdict.failure is None:
        body = json.dumps({"stored": stored, "known": known}).encode("ascii")
        return Answer(202 if stored else 200, "application/json", body, {})
    error = verdict.failure.error
    members = {**error.problem(), "line": verdict.failure.line, "stored": stored, "known": known}
    return _problem(members, error.headers)


def problem_of(error: StackwitnessError) -> Answer:
    """Return the answer to an error of the request as a whole."""
    return _problem(error.problem(), error.headers)


async def _send(answer: Answer, send: Send) -> None:
    headers = [
        (b"content-type", answer.media_type.encode("ascii")),
        (b"content-length", str(len(answer.body)).encode("ascii")),
        *((name.lower().encode("ascii"), value.encode("ascii")) for name, value in answer.headers.items()),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _problem(members: dict[str, Any], headers: dict[str, str]) -> Answer:
    log.info("ingest.refused", status=members["status"], code=members["code"], line=members.get("line"))
    return Answer(members["status"], PROBLEM, json.dumps(members).encode("ascii"), headers)


def _count(verdict: Verdict) -> None:
    _STORED.inc(len(verdict.stored))
    READINGS.inc(sum(kept.readings for kept in verdict.stored))
    if verdict.known:
        ENVELOPES.labels("known").inc(len(verdict.known))
    if verdict.failure is not None:
        ENVELOPES.labels(verdict.failure.error.code).inc()


def _kept_json(kept: Kept) -> dict[str, Any]:
    env_id = kept.env_id.hex()
    return {
        "env_id": env_id,
        "ep": kept.ep,
        "seq": kept.seq,
        "readings": kept.readings,
        "receipt": f"/v1/receipts/{env_id}",
    }


_STORED = ENVELOPES.labels("stored")
