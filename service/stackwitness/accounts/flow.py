"""Issue tokens and links, open and end sessions. Only the SHA-256 of a token is ever stored."""

import hashlib
import secrets
from datetime import timedelta
from typing import Literal

from sqlalchemy import Connection

from stackwitness import clock
from stackwitness.accounts import queries
from stackwitness.accounts.domain import ROLES, Account, Role, Session, TokenKind
from stackwitness.errors import Forbidden, NotFound, Unauthorized

BEARER_LIFE = timedelta(days=365)
LINK_LIFE = timedelta(hours=12)
SESSION_LIFE = timedelta(hours=12)
MAX_TOKEN_LENGTH = 200

DEVELOPMENT_NAMES: dict[Role, str] = {
    "operator": "Development operator",
    "inspector": "Development inspector",
    "regulator": "Development regulator",
    "auditor": "Development auditor",
}


def hash_token(token: str) -> bytes:
    """Return SHA-256 of a token. No salt: a token is 256 random bits, not a password."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def issue_token(conn: Connection, account_id: str) -> str:
    """Return a new bearer token of an account; it can be shown this once only. Raises NotFound."""
    return _issue(conn, account_id, "bearer", BEARER_LIFE)


def issue_link(conn: Connection, role: Role) -> str:
    """Return a sign-in link token of the development account of this role.

    It may be used again until it expires: it is printed for a developer's browsers, never in production.
    """
    return _issue(conn, role, "link", LINK_LIFE)


def redeem_link(conn: Connection, token: str) -> Session:
    """Exchange a sign-in link's token for a session. Raises Unauthorized when unknown or expired."""
    account = account_of(conn, token, "link")
    if account is None:
        raise Unauthorized("link.invalid", "This sign-in link is unknown or has expired")
    queries.mark_used(conn, hash_token(token), clock.now_utc())
    expires_at = clock.now_utc() + SESSION_LIFE
    session = _issue(conn, account.account_id, "session", SESSION_LIFE)
    return Session(session, account, expires_at)


def end_session(conn: Connection, token: str) -> None:
    """End a session; nothing happens when there is none."""
    queries.mark_used(conn, hash_token(token), clock.now_utc())


def account_of(conn: Connection, token: str, kind: TokenKind) -> Account | None:
    """Return the account a live token of this kind belongs to."""
    if not token or len(token) > MAX_TOKEN_LENGTH:
        return None
    return queries.find_by_token(conn, hash_token(token), kind, clock.now_utc())


def ensure_development_accounts(
    conn: Connection, mode: Literal["development", "production", "test"]
) -> tuple[Account, ...]:
    """Create one account per role, named after it. Raises Forbidden in production."""
    if mode == "production":
        raise Forbidden("account.development", "Development accounts do not exist in production")
    accounts = tuple(Account(role, DEVELOPMENT_NAMES[role], role) for role in ROLES)
    for account in accounts:
        queries.insert_account(conn, account)
    return accounts


def _issue(conn: Connection, account_id: str, kind: TokenKind, life: timedelta) -> str:
    if queries.find_account(conn, account_id) is None:
        raise NotFound("account.unknown", "There is no such account")
    token = secrets.token_urlsafe(32)
    queries.insert_token(conn, hash_token(token), account_id, kind, clock.now_utc() + life)
    return token
