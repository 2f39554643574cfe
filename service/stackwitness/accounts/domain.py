"""Accounts and roles."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from stackwitness.db.roles import EVERY_AGENCY

Role = Literal["operator", "inspector", "regulator", "auditor"]
# Beyond reading: operator stations and keys, inspector reviews, regulator exports, auditor nothing.
ROLES: tuple[Role, ...] = ("operator", "inspector", "regulator", "auditor")
TokenKind = Literal["bearer", "link", "session"]


@dataclass(frozen=True)
class Account:
    """A person or programme that signed in."""

    account_id: str
    display_name: str
    role: Role
    agency: str | None = None  # None: every agency

    @property
    def sees(self) -> str:
        """Return whose stations this account sees, for unit_of_work."""
        return EVERY_AGENCY if self.agency is None else self.agency


@dataclass(frozen=True)
class Session:
    """A session just opened; `token` goes into the cookie and is kept nowhere else."""

    token: str
    account: Account
    expires_at: datetime


@dataclass(frozen=True)
class FoundToken:
    """A token's row and its account's, with the events (JWS) that are to back them, and where they stand in the log."""

    token_hash: bytes
    kind: TokenKind
    expires_ms: int
    account: Account
    token_jws: bytes
    grant_jws: bytes
    token_idx: int | None
    grant_idx: int | None


def subject_of(account_id: str) -> str:
    """Return the subject of everything that is decided about an account."""
    return f"account:{account_id}"
