"""`stackwitness account`: let a person or programme in, or out; the only way to do so in production."""

from typing import get_args

from stackwitness.accounts import flow
from stackwitness.accounts.domain import Account, Role
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Unprocessable
from stackwitness.wiring import Wiring


def issue_account(wiring: Wiring, account_id: str, name: str, role: str, agency: str | None = None) -> str:
    """Make the account when it is new; return a new bearer token of it.

    Raises Unprocessable account.role, Conflict account.fixed | account.revoked.
    """
    known: dict[str, Role] = {one: one for one in get_args(Role)}
    if role not in known:
        raise Unprocessable("account.role", f"The role is one of {', '.join(known)}")
    signer, act = wiring.service_key, flow.COMMAND_LINE
    with unit_of_work(wiring.engine, "sw_review") as conn:
        flow.grant_access(conn, signer, Account(account_id, name, known[role], agency), act=act)
        return flow.issue_token(conn, signer, account_id, act=act)


def revoke_account(wiring: Wiring, account_id: str, why: str) -> None:
    """End an account and all its tokens. Raises NotFound account.unknown, Conflict account.revoked."""
    with unit_of_work(wiring.engine, "sw_review") as conn:
        flow.revoke_access(conn, wiring.service_key, account_id, why, act=flow.COMMAND_LINE)
