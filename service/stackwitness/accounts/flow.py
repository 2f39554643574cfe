"""Grant and revoke access, issue tokens and links, open and end sessions: each an event of the account's subject.

Only the SHA-256 of a token is ever stored. A row of account or access_token counts only with the signed event that
made it: one that was written by hand, or edited, lets nobody in.
"""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

from sqlalchemy import Connection

from emdi.event import Event
from emdi.keys import Signer
from emdi.tables import salted_sha256
from stackwitness import clock
from stackwitness.accounts import queries
from stackwitness.accounts.backing import is_backed
from stackwitness.accounts.domain import Account, Session, TokenKind, subject_of
from stackwitness.errors import Conflict, Forbidden, NotFound, Unauthorized
from stackwitness.log.events import append_event, append_explained, check_names, lock_subject
from stackwitness.log.service_keys import read_spans

BEARER_LIFE = timedelta(days=365)
LINK_LIFE = timedelta(hours=12)
SESSION_LIFE = timedelta(hours=12)
MAX_TOKEN_LENGTH = 200

COMMAND_LINE, DEVELOPMENT = "service:command-line", "service:development"
DEVELOPMENT_ACCOUNTS = (
    Account("operator", "Development operator", "operator"),
    Account("approver", "Development second operator", "operator"),
    Account("inspector", "Development inspector", "inspector"),
    Account("regulator", "Development regulator", "regulator"),
    Account("auditor", "Development auditor", "auditor"),
)


def hash_token(token: str) -> bytes:
    """Return SHA-256 of a token. No salt: a token is 256 random bits, not a password."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def grant_access(conn: Connection, signer: Signer, account: Account, *, act: str) -> None:
    """Make an account; nothing happens when it is there already, with this role and agency.

    Raises Conflict account.fixed: nobody's role changes, they get another account.
    """
    check_names(account_id=account.account_id, display_name=account.display_name, agency=account.agency)
    lock_subject(conn, subject_of(account.account_id))
    known = queries.find_account(conn, account.account_id)
    if known is not None:
        if (known.role, known.agency) != (account.role, account.agency):
            raise Conflict(
                "account.fixed",
                "An account keeps its role and agency",
                detail=f"{known.account_id} is {known.role}; make another account",
            )
        return
    salt = secrets.token_bytes(32)
    data = {
        "account_id": account.account_id,
        "role": account.role,
        "agency": account.agency,
        "display_sha256": salted_sha256(salt, account.display_name).hex(),
    }
    event = _append(conn, signer, account.account_id, "access.grant", act, data)
    queries.insert_account(conn, account, salt, event.event_id, event.ts_ms)


def revoke_access(conn: Connection, signer: Signer, account_id: str, why: str, *, act: str) -> None:
    """End an account: none of its tokens lets anybody in any more. Raises NotFound, Conflict account.revoked."""
    lock_subject(conn, subject_of(account_id))
    _live_account(conn, account_id)
    data = {"account_id": account_id}
    append_explained(
        conn, signer, typ="access.revoke", subj=subject_of(account_id), act=act, why=why, data=data
    )


def issue_token(conn: Connection, signer: Signer, account_id: str, *, act: str) -> str:
    """Return a new bearer token of an account; it can be shown this once only.

    Raises NotFound, Conflict account.revoked.
    """
    return _issue(conn, signer, account_id, "bearer", BEARER_LIFE, act)


def issue_link(conn: Connection, signer: Signer, account_id: str) -> str:
    """Return a sign-in link token of a development account.

    It may be used again until it expires: it is printed for a developer's browsers, never in production.
    """
    return _issue(conn, signer, account_id, "link", LINK_LIFE, DEVELOPMENT)


def redeem_link(conn: Connection, signer: Signer, token: str) -> Session:
    """Exchange a sign-in link's token for a session. Raises Unauthorized when unknown or expired."""
    account = account_of(conn, signer, token, "link")
    if account is None:
        raise Unauthorized("link.invalid", "This sign-in link is unknown or has expired")
    queries.mark_used(conn, hash_token(token), clock.now_utc())
    expires_at = clock.now_utc() + SESSION_LIFE
    session = _issue(conn, signer, account.account_id, "session", SESSION_LIFE, account.account_id)
    return Session(session, account, expires_at)


def end_session(conn: Connection, token: str) -> None:
    """End a session; nothing happens when there is none."""
    queries.mark_used(conn, hash_token(token), clock.now_utc())


def account_of(conn: Connection, signer: Signer, token: str, kind: TokenKind) -> Account | None:
    """Return the account a live token of this kind belongs to; None when its events do not say the same."""
    if not token or len(token) > MAX_TOKEN_LENGTH:
        return None
    found = queries.find_by_token(conn, hash_token(token), kind, clock.now_utc())
    return found.account if found is not None and is_backed(found, read_spans(conn, signer)) else None


def ensure_development_accounts(
    conn: Connection, signer: Signer, mode: Literal["development", "production", "test"]
) -> tuple[Account, ...]:
    """Create one account per role, named after it, and a second operator. Raises Forbidden in production."""
    if mode == "production":
        raise Forbidden("account.development", "Development accounts do not exist in production")
    for account in DEVELOPMENT_ACCOUNTS:
        grant_access(conn, signer, account, act=DEVELOPMENT)
    return DEVELOPMENT_ACCOUNTS


def _issue(
    conn: Connection, signer: Signer, account_id: str, kind: TokenKind, life: timedelta, act: str
) -> str:
    lock_subject(conn, subject_of(account_id))
    _live_account(conn, account_id)
    token = secrets.token_urlsafe(32)
    token_hash = hash_token(token)
    expires_ms = clock.now_ms() + round(life.total_seconds() * 1000)
    data = {
        "account_id": account_id,
        "kind": kind,
        "token_sha256": token_hash.hex(),
        "expires_ms": expires_ms,
    }
    event = _append(conn, signer, account_id, "access.token", act, data)
    queries.insert_token(conn, token_hash, account_id, kind, expires_ms, event.event_id)
    return token


def _live_account(conn: Connection, account_id: str) -> None:
    if queries.find_account(conn, account_id) is None:
        raise NotFound("account.unknown", "There is no such account")
    if queries.is_revoked(conn, account_id):
        raise Conflict("account.revoked", "The account is revoked")


def _append(
    conn: Connection, signer: Signer, account_id: str, typ: str, act: str, data: Mapping[str, object]
) -> Event:
    return append_event(conn, signer, typ=typ, subj=subject_of(account_id), act=act, data=data)
