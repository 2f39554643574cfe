"""HTTP of readings."""

import json
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, Field, StringConstraints

from stackwitness.accounts.domain import Account
from stackwitness.accounts.routes import current_account
from stackwitness.db.unit import unit_of_work
from stackwitness.readings import flow
from stackwitness.readings.queries import Aggregate
from stackwitness.stations.forms import STN_PATTERN

router = APIRouter(prefix="/v1/readings", tags=["readings"])

Stn = Annotated[str, StringConstraints(pattern=STN_PATTERN)]
ChannelName = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class ReadingRow(BaseModel):
    """One reading (aggregate=none)."""

    channel: str
    at: datetime
    value: float | None
    status: str
    revisions: int


class BucketRow(BaseModel):
    """One hour or day, UTC; figures over readings with a value."""

    channel: str
    at: datetime
    mean: float | None
    min: float | None
    max: float | None
    count: int
    missing: int
    normal: int
    revisions: int


class SuspectRow(BaseModel):
    """What a key signed at a log index and later: envelopes, and the span of their readings.

    `compromised_kid` is the key in other hands: this one, or one it follows by rotation.
    """

    kid: str
    suspect_from_idx: int
    compromised_kid: str
    envelopes: int
    from_at: datetime = Field(alias="from")
    to_at: datetime = Field(alias="to")


class ReadingPage(BaseModel):
    """A page; `next` is the cursor to give as `after`, null at the end; `suspect` speaks of the whole period."""

    rows: list[ReadingRow] | list[BucketRow]
    next: str | None
    suspect: list[SuspectRow]


@router.get("", responses={200: {"model": ReadingPage}}, response_class=Response)
def list_readings(
    account: Annotated[Account, Depends(current_account)],
    request: Request,
    station: Stn,
    from_at: Annotated[AwareDatetime, Query(alias="from")],
    to_at: Annotated[AwareDatetime, Query(alias="to")],
    channel: Annotated[list[ChannelName] | None, Query(max_length=200)] = None,
    aggregate: Aggregate = "none",
    limit: Annotated[int, Query(ge=1, le=flow.MAX_ROWS)] = 1000,
    after: Annotated[str | None, Query(max_length=40)] = None,
) -> Response:
    """Return readings in [from, to) by time, then channel.

    Where two envelopes give the same channel and time, the value seen first is shown, and `revisions` counts
    the others.
    """
    with unit_of_work(request.app.state.wiring.engine, "sw_read", account.sees) as conn:
        page = flow.read_page(
            conn,
            station,
            from_at,
            to_at,
            channels=channel or (),
            aggregate=aggregate,
            limit=limit,
            after=after,
        )
    # Straight to JSON: a validating model would take longer than the query for ten thousand rows.
    return Response(
        json.dumps({"rows": page.rows, "next": page.next, "suspect": page.suspect}),
        media_type="application/json",
    )
