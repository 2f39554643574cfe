"""What the API says about reviews."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from stackwitness.reviews.domain import MAX_REASON, MIN_REASON, Decision, Review


class ReviewForm(BaseModel):
    """A decision to store."""

    decision: Decision
    reason: str = Field(min_length=MIN_REASON, max_length=MAX_REASON)


class MatterForm(ReviewForm):
    """A decision about several flags of one matter: `also` names the others; those decided already are left as they are."""

    also: list[str] = Field(default=[], max_length=1000)


class ReviewView(BaseModel):
    """A decision as stored."""

    review_id: str
    flag_id: str
    account_id: str
    decision: str
    reason: str
    decided_at: datetime
    event_id: str

    @classmethod
    def of(cls, review: Review) -> ReviewView:
        """Show a review."""
        return cls(
            review_id=review.review_id,
            flag_id=review.flag_id,
            account_id=review.account_id,
            decision=review.decision,
            reason=review.reason,
            decided_at=review.decided_at,
            event_id=review.event_id.hex(),
        )


class ReviewList(BaseModel):
    """Every decision on a flag, oldest first; the last one counts."""

    reviews: list[ReviewView]
