"""Decide about flags."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import asdict
from typing import get_args

from sqlalchemy import Connection

from emdi.keys import Signer
from stackwitness.accounts.domain import Account
from stackwitness.errors import Conflict, Forbidden, Unprocessable
from stackwitness.flags import flow as flags
from stackwitness.flags import matters
from stackwitness.log.events import append_event, lock_subject
from stackwitness.reviews import queries
from stackwitness.reviews.domain import MAX_REASON, MIN_REASON, SALT_BYTES, Decision, Review, reason_sha256
from stackwitness.stations.domain import subject_of


def decide(
    conn: Connection, signer: Signer, account: Account, flag_id: str, decision: Decision, reason: str
) -> Review:
    """Store an inspector's decision on a flag: signed event and row, in the caller's transaction.

    A flag may be decided again; the earlier decision stays and the latest counts. Raises Forbidden, NotFound,
    Unprocessable (review.decision, review.reason).
    """
    # 1 Who, what, why.
    if account.role != "inspector":
        raise Forbidden(detail=f"Only an inspector decides; you are {account.role}")
    if decision not in get_args(Decision):
        raise Unprocessable("review.decision", "There is no such decision", detail=decision)
    reason = check_reason(reason)
    # 2 The flag, under the lock of its station's subject.
    flag = flags.find_flag(conn, flag_id)
    head = lock_subject(conn, subject_of(flag.stn))
    review_id = f"{flag.stn}-{0 if head is None else head.sseq + 1}"
    # 3 The event names the hash, the row keeps the words.
    salt = secrets.token_bytes(SALT_BYTES)
    event = append_event(
        conn,
        signer,
        typ="review.decision",
        subj=subject_of(flag.stn),
        act=account.account_id,
        ref=(flag.event_id.hex(),),
        data={
            "review_id": review_id,
            "flag_id": flag_id,
            "decision": decision,
            "reason_sha256": reason_sha256(salt, reason),
        },
    )
    review = Review(
        review_id,
        flag_id,
        account.account_id,
        decision,
        reason,
        salt,
        flags.at_of(event.ts_ms),
        event.event_id,
    )
    queries.insert_review(conn, asdict(review))
    return review


def decide_together(
    conn: Connection,
    signer: Signer,
    account: Account,
    flag_id: str,
    also: Collection[str],
    decision: Decision,
    reason: str,
) -> list[Review]:
    """Decide a flag and, of `also`, those of its matter that are open: one signed event each, all or none.

    The caller names what the inspector has seen: a flag that joined the matter since stays open. Raises as decide
    does, Unprocessable review.matter for a flag of another matter, and Conflict review.decided when somebody decided
    all of them meanwhile: whoever comes second would decide anew about one flag of many.
    """
    matter = matters.find_matter(conn, flag_id)
    strangers = set(also) - {member.key for member in matter.members}
    if strangers:
        raise Unprocessable(
            "review.matter", "These flags are no one matter", detail=", ".join(sorted(strangers))
        )
    # Under the lock nobody else decides these flags in between.
    lock_subject(conn, subject_of(matter.lead.stn))
    named = {flag_id, *also}
    wanted = [member.key for member in matter.members if member.key in named]
    waiting = [key for key in wanted if flags.find_flag(conn, key).decision is None]
    if len(wanted) > 1 and not waiting:
        raise Conflict("review.decided", "Somebody has decided on this matter meanwhile")
    others = [key for key in waiting if key != flag_id]
    return [decide(conn, signer, account, one, decision, reason) for one in (flag_id, *others)]


def check_reason(reason: str) -> str:
    """Return the reason without surrounding space; raise Unprocessable review.reason when it says nothing."""
    reason = reason.strip()
    if not MIN_REASON <= len(reason) <= MAX_REASON:
        raise Unprocessable(
            "review.reason",
            "A decision needs a reason",
            detail=f"Give the reason in {MIN_REASON} to {MAX_REASON} characters",
        )
    if "\x00" in reason or not _is_text(reason):
        raise Unprocessable("review.reason", "The reason is not text")
    return reason


def list_reviews(conn: Connection, flag_id: str) -> list[Review]:
    """Return every decision on a flag, oldest first. Raises NotFound."""
    flags.find_flag(conn, flag_id)
    return queries.list_reviews(conn, flag_id)


def _is_text(reason: str) -> bool:
    try:
        reason.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON lets through
        return False
    return True
