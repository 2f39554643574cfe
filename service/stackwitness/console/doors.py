"""Who may see a page: dependencies that turn a request into a visit."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Form, Request

from stackwitness.accounts.domain import Account
from stackwitness.accounts.routes import optional_account
from stackwitness.console.visit import Visit, visit_of
from stackwitness.errors import Forbidden, Unauthorized


def open_visit(request: Request, account: Annotated[Account | None, Depends(optional_account)]) -> Visit:
    """Let anybody in."""
    return visit_of(request, account)


def signed_in(visit: Annotated[Visit, Depends(open_visit)]) -> Visit:
    """Let in whoever has an account. Raises Unauthorized, which leads a browser to the sign-in."""
    if visit.account is None:
        raise Unauthorized()
    return visit


def signed_form(visit: Annotated[Visit, Depends(signed_in)], csrf: Annotated[str, Form()] = "") -> Visit:
    """Let in a form that our own page made for this session. Raises Forbidden."""
    if not visit.accepts(csrf):
        raise Forbidden(
            "form.token", "The form does not belong to this session; reload the page and send it again"
        )
    return visit


AnyVisit = Annotated[Visit, Depends(open_visit)]
Signed = Annotated[Visit, Depends(signed_in)]
SignedForm = Annotated[Visit, Depends(signed_form)]
