"""SQL of accounts and tokens."""

from datetime import datetime
from typing import cast

from sqlalchemy import Connection, Row, text

from stackwitness.accounts.domain import Account, FoundToken, Role, TokenKind, subject_of
from stackwitness.log.service_keys import PLACE


def insert_account(conn: Connection, account: Account, salt: bytes, event_id: bytes, at_ms: int) -> None:
    """Store an account with the event that grants it, and that event's time."""
    conn.execute(
        text(
            "INSERT INTO account (account_id, display_name, role, agency, salt, event_id, created_at)"
            " VALUES (:account_id, :display_name, :role, :agency, :salt, :event_id,"
            " to_timestamp(:at_s) + :rest_ms * interval '1 millisecond')"
        ),
        {
            "account_id": account.account_id,
            "display_name": account.display_name,
            "role": account.role,
            "agency": account.agency,
            "salt": salt,
            "event_id": event_id,
            "at_s": at_ms // 1000,
            "rest_ms": at_ms % 1000,
        },
    )


def is_revoked(conn: Connection, account_id: str) -> bool:
    """Tell whether an event ended the account."""
    query = text("SELECT EXISTS (SELECT FROM event WHERE subj = :subj AND typ = 'access.revoke')")
    return bool(conn.scalar(query, {"subj": subject_of(account_id)}))


def find_account(conn: Connection, account_id: str) -> Account | None:
    """Return an account by its id."""
    row = conn.execute(
        text("SELECT account_id, display_name, role, agency FROM account WHERE account_id = :account_id"),
        {"account_id": account_id},
    ).one_or_none()
    return None if row is None else _account(row)


def insert_token(
    conn: Connection, token_hash: bytes, account_id: str, kind: TokenKind, expires_ms: int, event_id: bytes
) -> None:
    """Store the hash of a new token with the event that issues it."""
    conn.execute(
        text(
            "INSERT INTO access_token (token_hash, account_id, kind, expires_at, event_id)"
            " VALUES (:token_hash, :account_id, :kind,"
            " to_timestamp(:expires_s) + :rest_ms * interval '1 millisecond', :event_id)"
        ),
        {
            "token_hash": token_hash,
            "account_id": account_id,
            "kind": kind,
            "expires_s": expires_ms // 1000,
            "rest_ms": expires_ms % 1000,
            "event_id": event_id,
        },
    )


def find_by_token(conn: Connection, token_hash: bytes, kind: TokenKind, now: datetime) -> FoundToken | None:
    """Return a live token of an account that no event ended; a session that was ended carries `used_at`."""
    row = conn.execute(
        text(
            "SELECT account_id, display_name, role, agency, g.jws AS grant_jws, t.jws AS token_jws,"
            " CAST(extract(epoch FROM x.expires_at) * 1000 AS bigint) AS expires_ms,"
            f" {PLACE.format(id='x.event_id')} AS token_idx, {PLACE.format(id='a.event_id')} AS grant_idx"
            " FROM access_token x JOIN account a USING (account_id)"
            " JOIN event t ON t.event_id = x.event_id JOIN event g ON g.event_id = a.event_id"
            " WHERE token_hash = :token_hash AND kind = :kind AND expires_at > :now"
            " AND (kind <> 'session' OR used_at IS NULL)"
            " AND NOT EXISTS (SELECT FROM event r WHERE r.subj = 'account:' || account_id"
            "  AND r.typ = 'access.revoke')"
        ),
        {"token_hash": token_hash, "kind": kind, "now": now},
    ).one_or_none()
    if row is None:
        return None
    return FoundToken(
        token_hash,
        kind,
        row.expires_ms,
        _account(row),
        bytes(row.token_jws),
        bytes(row.grant_jws),
        row.token_idx,
        row.grant_idx,
    )


def mark_used(conn: Connection, token_hash: bytes, now: datetime) -> None:
    """Note when a link was first used, or a session ended."""
    conn.execute(
        text("UPDATE access_token SET used_at = :now WHERE token_hash = :token_hash AND used_at IS NULL"),
        {"token_hash": token_hash, "now": now},
    )


def _account(row: Row[tuple[object, ...]]) -> Account:
    return Account(row.account_id, row.display_name, cast(Role, row.role), row.agency)
