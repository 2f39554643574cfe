"""HTTP of reviews."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from stackwitness.accounts.domain import Account
from stackwitness.accounts.routes import current_account, require
from stackwitness.db.unit import unit_of_work
from stackwitness.flags.routes import FlagId
from stackwitness.reviews import flow
from stackwitness.reviews.schemas import MatterForm, ReviewForm, ReviewList, ReviewView
from stackwitness.wiring import Wiring, get_wiring

router = APIRouter(prefix="/v1/flags", tags=["reviews"])
Wired = Annotated[Wiring, Depends(get_wiring)]


@router.post("/{flag_id}/reviews", status_code=201)
def decide(
    flag_id: FlagId,
    form: ReviewForm,
    account: Annotated[Account, Depends(require("inspector"))],
    wiring: Wired,
) -> ReviewView:
    """Decide about a flag; deciding again adds a decision, it replaces none."""
    with unit_of_work(wiring.engine, "sw_review", account.sees) as conn:
        review = flow.decide(conn, wiring.service_key, account, flag_id, form.decision, form.reason)
    return ReviewView.of(review)


@router.post("/{flag_id}/matter/reviews", status_code=201)
def decide_together(
    flag_id: FlagId,
    form: MatterForm,
    account: Annotated[Account, Depends(require("inspector"))],
    wiring: Wired,
) -> ReviewList:
    """Decide about a flag and others of its matter at once: a signed event for each, all or none."""
    with unit_of_work(wiring.engine, "sw_review", account.sees) as conn:
        made = flow.decide_together(
            conn, wiring.service_key, account, flag_id, form.also, form.decision, form.reason
        )
    return ReviewList(reviews=[ReviewView.of(review) for review in made])


@router.get("/{flag_id}/reviews")
def list_reviews(
    flag_id: FlagId, account: Annotated[Account, Depends(current_account)], wiring: Wired
) -> ReviewList:
    """List every decision on a flag, oldest first."""
    with unit_of_work(wiring.engine, "sw_read", account.sees) as conn:
        return ReviewList(reviews=[ReviewView.of(review) for review in flow.list_reviews(conn, flag_id)])
