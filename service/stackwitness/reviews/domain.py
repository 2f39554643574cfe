"""What a review is, and how its reason is hidden in the public log without being changeable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from emdi.tables import salted_sha256

Decision = Literal["confirmed_odd", "explained", "needs_visit", "dismissed"]
DECISIONS: tuple[Decision, ...] = ("confirmed_odd", "explained", "needs_visit", "dismissed")
MIN_REASON = 10
MAX_REASON = 4000
SALT_BYTES = 32


@dataclass(frozen=True)
class Review:
    """Hold one decision; `reason` stays with the authority, the log knows only its salted hash."""

    review_id: str
    flag_id: str
    account_id: str
    decision: str
    reason: str
    salt: bytes
    decided_at: datetime
    event_id: bytes


def reason_sha256(salt: bytes, reason: str) -> str:
    """Return the lowercase hex SHA-256 of salt and UTF-8 reason (salted, so that nobody guesses it)."""
    return salted_sha256(salt, reason).hex()
