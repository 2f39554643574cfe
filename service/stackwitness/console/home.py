"""The overview, the sign-in, the language switch, the files of the console."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from stackwitness.accounts import flow as accounts
from stackwitness.console import facts, figures, matters, series
from stackwitness.console.assets import answer_asset
from stackwitness.console.doors import AnyVisit, Signed, SignedForm
from stackwitness.console.visit import SESSION_COOKIE, Visit, redirect, safe_path, set_language
from stackwitness.db.unit import unit_of_work
from stackwitness.detection.fleet import visits
from stackwitness.errors import Unauthorized
from stackwitness_detectors.ranking import FDR

router = APIRouter()
WEEK_DAYS = 7
GRAVEST = 5


@router.get("/")
def show_overview(visit: Signed) -> Response:
    """Show every station with a week of its main pollutant, which matters wait, and whom to visit first."""
    with unit_of_work(visit.wiring.engine, "sw_read", visit.sees) as conn:
        stations = facts.list_stations(conn)
        waiting = matters.list_matters(conn, state="open")
        choice = visits.read_choice(conn)
        requests, epochs = facts.list_key_requests(conn), facts.list_pending_epochs(conn)
        matters_of = {s.stn: [m for m in waiting if m.stn == s.stn] for s in stations}
        traces = {
            s.stn: series.load_recent(conn, s, figures.main_channel(s, matters_of[s.stn]), WEEK_DAYS)
            for s in stations
        }
    cards = [figures.make_card(visit.tongue, s, traces[s.stn], matters_of[s.stn]) for s in stations]
    return visit.render(
        "overview.html",
        stations=stations,
        cards=cards,
        map=figures.make_map(visit.tongue, cards),
        requests=requests,
        epochs=epochs,
        gravest=waiting[:GRAVEST],
        choice=choice,
        fdr_percent=round(100 * FDR),
        open_count=len(waiting),
        open_by_verdict=figures.count_verdicts(waiting),
        lapsed_count=sum(not matter.stands for matter in waiting),
        log=facts.read_log(visit.wiring),
    )


@router.get("/sign-in")
def sign_in(
    visit: AnyVisit,
    token: Annotated[str, Query(max_length=200)] = "",
    goal: Annotated[str, Query(alias="next", max_length=2000)] = "/",
) -> Response:
    """Exchange a development link's token for a session; without one, say how to get in."""
    settings = visit.wiring.settings
    if not token or not settings.prints_dev_links:
        return _show_sign_in(visit, goal, "")
    try:
        with unit_of_work(visit.wiring.engine, "sw_review") as conn:
            session = accounts.redeem_link(conn, visit.wiring.service_key, token)
    except Unauthorized:
        return _show_sign_in(
            visit, goal, visit.tongue.say("This sign-in link is unknown or has expired."), 401
        )
    response = redirect(safe_path(goal))
    response.set_cookie(
        SESSION_COOKIE,
        session.token,
        max_age=round(accounts.SESSION_LIFE.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=settings.mode == "production",
    )
    return response


def _show_sign_in(visit: Visit, goal: str, problem: str, status: int = 200) -> Response:
    dev_links = visit.wiring.settings.prints_dev_links
    return visit.render("sign_in.html", status, problem=problem, dev_links=dev_links, next=safe_path(goal))


@router.post("/sign-out")
def sign_out(visit: SignedForm) -> Response:
    """End the session, here and on the server."""
    with unit_of_work(visit.wiring.engine, "sw_review", visit.sees) as conn:
        accounts.end_session(conn, visit.request.cookies.get(SESSION_COOKIE, ""))
    response = redirect("/sign-in")
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
    return response


@router.get("/language/{code}")
def choose_language(
    request: Request,
    code: Annotated[str, Path(pattern="^(en|zh)$")],
    goal: Annotated[str, Query(alias="next", max_length=2000)] = "/",
) -> Response:
    """Remember the language and return to the page."""
    response = redirect(safe_path(goal))
    set_language(response, code, secure=request.app.state.wiring.settings.mode == "production")
    return response


@router.get("/assets/{digest}/{name}")
def read_asset(digest: str, name: str) -> Response:
    """Return a script or style sheet."""
    return answer_asset(digest, name)
