"""`stackwitness account`: let a person or programme in; the only way to do so in production."""

from typing import get_args

from sqlalchemy import Engine

from stackwitness.accounts import flow, queries
from stackwitness.accounts.domain import Account, Role
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Unprocessable


def issue_account(engine: Engine, account_id: str, name: str, role: str, agency: str | None = None) -> str:
    """Make the account when it is new; return a new bearer token of it. Raises Unprocessable account.role."""
    known: dict[str, Role] = {one: one for one in get_args(Role)}
    if role not in known:
        raise Unprocessable("account.role", f"The role is one of {', '.join(known)}")
    with unit_of_work(engine, "sw_review") as conn:
        if queries.find_account(conn, account_id) is None:
            queries.insert_account(conn, Account(account_id, name, known[role], agency))
        return flow.issue_token(conn, account_id)
