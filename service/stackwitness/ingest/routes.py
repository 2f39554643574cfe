"""HTTP of ingest as OpenAPI shows it. Envelopes are answered by gate.py, in front of these routes."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from stackwitness.db.roles import EVERY_AGENCY
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import NotFound
from stackwitness.ingest import gate, queries
from stackwitness.stations.forms import HeadView, StnPath

router = APIRouter(tags=["envelopes"])

BODY_DOC: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One envelope (JWS compact), or up to 256 of one station, one a line, in chain order.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "All were known already", "content": {"application/json": {"schema": {}}}},
    201: {"description": "The receipt of the one envelope", "content": {"text/plain": {"schema": {}}}},
    202: {"description": "Stored; receipts follow", "content": {"application/json": {"schema": {}}}},
    **{
        status: {"description": HTTPStatus(status).phrase, "content": {gate.PROBLEM: {"schema": {}}}}
        for status in (400, 403, 409, 413, 422, 503)
    },
}
WAIT_DOC = f"seconds (at most {gate.MAX_WAIT_S:.0f}) to wait for the receipt of a single envelope"


@router.post(gate.PATH, response_class=Response, status_code=202, openapi_extra=BODY_DOC, responses=ANSWERS)
async def post_envelopes(
    request: Request, wait: Annotated[str | None, Query(description=WAIT_DOC)] = None
) -> Response:
    """Take signed envelopes: the signature is the authentication."""
    state = request.app.state
    body = await gate.read_body(request.receive, state.wiring.settings.max_body_bytes)
    answer = await gate.take(body, gate.parse_wait(wait), state)
    return Response(answer.body, answer.status, answer.headers, answer.media_type)


@router.get("/v1/stations/{stn}/head")
def read_head(stn: StnPath, request: Request) -> HeadView:
    """Return where the station's chain stands: what a station needs that lost its spool."""
    with unit_of_work(request.app.state.wiring.engine, "sw_read", EVERY_AGENCY) as conn:
        head = queries.find_head(conn, stn)
    if head is None:
        raise NotFound("head.unknown", "There is no envelope of such a station")
    return HeadView(ep=head.ep, seq=head.seq, env_id=head.env_id.hex())
