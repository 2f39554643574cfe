"""SQL of accounts and tokens."""

from datetime import datetime
from typing import cast

from sqlalchemy import Connection, text

from stackwitness.accounts.domain import Account, Role, TokenKind


def insert_account(conn: Connection, account: Account) -> None:
    """Store an account; nothing happens when it exists."""
    conn.execute(
        text(
            "INSERT INTO account (account_id, display_name, role) VALUES (:account_id, :display_name, :role)"
            " ON CONFLICT (account_id) DO NOTHING"
        ),
        {"account_id": account.account_id, "display_name": account.display_name, "role": account.role},
    )


def find_account(conn: Connection, account_id: str) -> Account | None:
    """Return an account by its id."""
    row = conn.execute(
        text("SELECT account_id, display_name, role FROM account WHERE account_id = :account_id"),
        {"account_id": account_id},
    ).one_or_none()
    return None if row is None else Account(row.account_id, row.display_name, cast(Role, row.role))


def insert_token(
    conn: Connection, token_hash: bytes, account_id: str, kind: TokenKind, expires_at: datetime
) -> None:
    """Store the hash of a new token."""
    conn.execute(
        text(
            "INSERT INTO access_token (token_hash, account_id, kind, expires_at)"
            " VALUES (:token_hash, :account_id, :kind, :expires_at)"
        ),
        {"token_hash": token_hash, "account_id": account_id, "kind": kind, "expires_at": expires_at},
    )


def find_by_token(conn: Connection, token_hash: bytes, kind: TokenKind, now: datetime) -> Account | None:
    """Return the account of a live token; a session that was ended carries `used_at`."""
    row = conn.execute(
        text(
            "SELECT account_id, display_name, role FROM access_token JOIN account USING (account_id)"
            " WHERE token_hash = :token_hash AND kind = :kind AND expires_at > :now"
            " AND (kind <> 'session' OR used_at IS NULL)"
        ),
        {"token_hash": token_hash, "kind": kind, "now": now},
    ).one_or_none()
    return None if row is None else Account(row.account_id, row.display_name, cast(Role, row.role))


def mark_used(conn: Connection, token_hash: bytes, now: datetime) -> None:
    """Note when a link was first used, or a session ended."""
    conn.execute(
        text("UPDATE access_token SET used_at = :now WHERE token_hash = :token_hash AND used_at IS NULL"),
        {"token_hash": token_hash, "now": now},
    )
