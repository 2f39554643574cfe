"""Acts of officers on a station's page: approve a key that another one asked for, acknowledge an epoch."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Response

from stackwitness.console.doors import SignedForm
from stackwitness.console.visit import Visit, redirect
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Forbidden
from stackwitness.stations import flow, keys

router = APIRouter()


@router.post("/stations/{stn}/keys/{kid}/approve")
def approve_key(stn: str, kid: str, visit: SignedForm) -> Response:
    """Register a key that another operator asked for."""
    act = _act_as(visit, "operator")
    with unit_of_work(visit.wiring.engine, "sw_review", visit.sees) as conn:
        keys.approve_key(conn, visit.wiring.service_key, stn, kid, act=act)
    return redirect(f"/stations/{stn}")


@router.post("/stations/{stn}/epochs/{ep}/ack")
def acknowledge_epoch(
    stn: str, ep: int, visit: SignedForm, why: Annotated[str, Form(min_length=1, max_length=200)]
) -> Response:
    """Note that an inspector looked at why a station began a new epoch."""
    act = _act_as(visit, "inspector")
    with unit_of_work(visit.wiring.engine, "sw_review", visit.sees) as conn:
        flow.acknowledge_epoch(conn, visit.wiring.service_key, stn, ep, why.strip(), act=act)
    return redirect(f"/stations/{stn}")


def _act_as(visit: Visit, role: str) -> str:
    if visit.account is None or visit.account.role != role:
        raise Forbidden()
    return visit.account.account_id
