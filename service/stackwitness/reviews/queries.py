"""SQL of reviews."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text

from stackwitness.reviews.domain import Review


def list_reviews(conn: Connection, flag_id: str) -> list[Review]:
    """Return every review of a flag in the order they were logged."""
    query = text(
        "SELECT r.review_id, r.flag_id, r.account_id, r.decision, r.reason, r.salt, r.decided_at, r.event_id"
        " FROM review r JOIN event v USING (event_id) WHERE r.flag_id = :flag_id ORDER BY v.sseq"
    )
    return [
        Review(
            row.review_id,
            row.flag_id,
            row.account_id,
            row.decision,
            row.reason,
            bytes(row.salt),
            row.decided_at,
            bytes(row.event_id),
        )
        for row in conn.execute(query, {"flag_id": flag_id})
    ]


def insert_review(conn: Connection, row: Mapping[str, Any]) -> None:
    """Store a review."""
    conn.execute(
        text(
            "INSERT INTO review (review_id, flag_id, account_id, decision, reason, salt, decided_at,"
            " event_id) VALUES (:review_id, :flag_id, :account_id, :decision, :reason, :salt, :decided_at,"
            " :event_id)"
        ),
        row,
    )
