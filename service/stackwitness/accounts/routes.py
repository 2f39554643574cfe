"""Who is calling, as dependencies for every other slice's routes."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from stackwitness.accounts import flow
from stackwitness.accounts.domain import Account, Role, TokenKind
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Forbidden, Unauthorized

SESSION_COOKIE = "sw_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

router = APIRouter(tags=["accounts"])


def optional_account(request: Request) -> Account | None:
    """Return the caller's account by bearer token or session cookie; None when there is neither.

    A header that is present and wrong is an error rather than "nobody": a script with a bad token must hear
    of it.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme:
        account = _look_up(request, token.strip(), "bearer") if scheme.lower() == "bearer" else None
        if account is None:
            raise Unauthorized("account.token", "The bearer token is unknown or has expired")
        return account
    cookie = request.cookies.get(SESSION_COOKIE)
    if not cookie:
        return None
    if request.method not in SAFE_METHODS and request.headers.get("sec-fetch-site") == "cross-site":
        raise Forbidden("account.cross_site", "A page of another site may not act with your session")
    return _look_up(request, cookie, "session")


def current_account(account: Annotated[Account | None, Depends(optional_account)]) -> Account:
    """Return the caller's account. Raises Unauthorized."""
    if account is None:
        raise Unauthorized()
    return account


def require(*roles: Role) -> Callable[[Account], Account]:
    """Return a dependency that lets only these roles through. Raises Forbidden."""

    def check_role(account: Annotated[Account, Depends(current_account)]) -> Account:
        if account.role not in roles:
            raise Forbidden(detail=f"This needs the role {' or '.join(roles)}; you are {account.role}")
        return account

    return check_role


@router.get("/v1/account")
def read_account(account: Annotated[Account, Depends(current_account)]) -> Account:
    """Tell the caller who they are to us."""
    return account


def _look_up(request: Request, token: str, kind: TokenKind) -> Account | None:
    wiring = request.app.state.wiring
    with unit_of_work(wiring.engine, "sw_read") as conn:
        return flow.account_of(conn, wiring.service_key, token, kind)
