"""HTTP of ingest: thin and without pydantic, for thousands of envelopes a second pass here."""

import asyncio
import json
import time
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import StringConstraints

from stackwitness.db.unit import unit_of_work
from stackwitness.errors import BadRequest, NotFound, TooLarge
from stackwitness.ingest import flow, queries
from stackwitness.ingest.domain import Kept, Verdict
from stackwitness.stations.forms import HeadView, StnPath

router = APIRouter(tags=["envelopes"])

MAX_WAIT_S = 20.0
RECEIPT_POLL_S = 0.1
WaitText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,2}(\.[0-9]{1,3})?$")]

BODY_DOC: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One envelope (JWS compact), or up to 256 of one station, one a line, in chain order.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    },
    "responses": {
        "200": {"description": "All were known already", "content": {"application/json": {"schema": {}}}},
        "201": {"description": "The receipt of the one envelope", "content": {"text/plain": {"schema": {}}}},
        "202": {"description": "Stored; receipts follow", "content": {"application/json": {"schema": {}}}},
    },
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, "content": {"application/problem+json": {}}}
    for status in (400, 403, 409, 413, 422, 503)
}


@router.post(
    "/v1/envelopes",
    response_class=Response,
    status_code=202,
    openapi_extra=BODY_DOC,
    responses=PROBLEMS,
)
async def post_envelopes(request: Request, wait: WaitText | None = None) -> Response:
    """Take signed envelopes: the signature is the authentication. `wait` seconds for one receipt."""
    wait_s = 0.0 if wait is None else float(wait)
    if wait_s > MAX_WAIT_S:
        raise BadRequest("query.wait", f"wait is at most {MAX_WAIT_S:.0f} seconds")
    body = await _read_body(request, request.app.state.wiring.settings.max_body_bytes)
    verdict = await flow.accept(body, request.app.state.committer)
    if wait_s and verdict.failure is None and len(verdict.stored) + len(verdict.known) == 1:
        (kept,) = verdict.stored + verdict.known
        receipt = await _await_receipt(request.app.state.wiring.log_reader, kept.env_id, wait_s)
        if receipt is not None:
            return Response(receipt, 201, media_type="text/plain")
    return answer_of(verdict)


@router.get("/v1/stations/{stn}/head")
def read_head(stn: StnPath, request: Request) -> HeadView:
    """Return where the station's chain stands: what a station needs that lost its spool."""
    with unit_of_work(request.app.state.wiring.engine) as conn:
        head = queries.find_head(conn, stn)
    if head is None:
        raise NotFound("head.unknown", "There is no envelope of such a station")
    return HeadView(ep=head.ep, seq=head.seq, env_id=head.env_id.hex())


def answer_of(verdict: Verdict) -> Response:
    """(8) Return the answer: 202, 200 when all was known, else the problem and what was stored before it."""
    stored = [_kept_json(kept) for kept in verdict.stored]
    known = [_kept_json(kept) for kept in verdict.known]
    if verdict.failure is None:
        return _json({"stored": stored, "known": known}, 202 if stored else 200, "application/json")
    error = verdict.failure.error
    members = {**error.problem(), "line": verdict.failure.line, "stored": stored, "known": known}
    return _json(members, error.status, "application/problem+json", error.headers)


async def _read_body(request: Request, max_bytes: int) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge("request.too_large", f"The body may hold {max_bytes} bytes", max_bytes=max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


async def _await_receipt(reader: Any, env_id: bytes, wait_s: float) -> bytes | None:
    """Look for the receipt until the time is up, without holding a thread meanwhile."""
    deadline = time.monotonic() + wait_s
    while True:
        receipt: bytes | None = await asyncio.to_thread(reader.receipt, env_id)
        left = deadline - time.monotonic()
        if receipt is not None or left <= 0:
            return receipt
        await asyncio.sleep(min(RECEIPT_POLL_S, left))


def _kept_json(kept: Kept) -> dict[str, Any]:
    env_id = kept.env_id.hex()
    return {
        "env_id": env_id,
        "ep": kept.ep,
        "seq": kept.seq,
        "readings": kept.readings,
        "receipt": f"/v1/receipts/{env_id}",
    }


def _json(
    members: dict[str, Any], status: int, media_type: str, headers: dict[str, str] | None = None
) -> Response:
    return Response(json.dumps(members), status, headers, media_type)
