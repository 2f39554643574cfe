"""Accounts and roles."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

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


@dataclass(frozen=True)
class Session:
    """A session just opened; `token` goes into the cookie and is kept nowhere else."""

    token: str
    account: Account
    expires_at: datetime
