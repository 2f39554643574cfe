"""The list of matters with their flags, one flag with its evidence, and the decision."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from fastapi import APIRouter, Form, Query, Response

from stackwitness.console import facts, figures, matters
from stackwitness.console.charts.scale import DAY_MS
from stackwitness.console.doors import Signed, SignedForm
from stackwitness.console.matters import MatterView
from stackwitness.console.visit import Visit, redirect
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Unprocessable
from stackwitness.reviews import flow as reviews
from stackwitness.reviews.domain import MIN_REASON, Decision

router = APIRouter()
MOST_SHOWN = 300
# What the filter of verdicts calls matters of which all flags lapsed: no verdict speaks for them any more.
LAPSED = "lapsed"
AROUND_DAYS = 2


@router.get("/flags")
def list_flags(
    visit: Signed,
    state: Literal["open", "decided", "all"] = "open",
    verdict: Annotated[str, Query(max_length=40)] = "",
    station: Annotated[str, Query(max_length=64)] = "",
    kind: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """List matters, gravest first, each with its flags inside; a filter keeps a matter when one of its flags fits."""
    with unit_of_work(visit.wiring.engine, "sw_read", visit.sees) as conn:
        of_state = matters.list_matters(conn, state=None if state == "all" else state)
        names = [(s.stn, s.name) for s in facts.list_stations(conn)]
    chosen = [
        matter
        for matter in of_state
        if verdict in ("", matter.verdict if matter.stands else LAPSED)
        and station in ("", matter.stn)
        and (not kind or any(flag.kind == kind for flag in matter.flags))
    ]
    return visit.render(
        "flags.html",
        matters=chosen[:MOST_SHOWN],
        total=len(chosen),
        flag_count=sum(len(matter.flags) for matter in chosen),
        truncated=len(chosen) > MOST_SHOWN,
        open_count=sum(matter.decision is None for matter in chosen),
        state=state,
        verdict=verdict,
        station=station,
        kind=kind,
        filtered=bool(verdict or station or kind or state != "open"),
        station_names=names,
        kinds=sorted({flag.kind for matter in of_state for flag in matter.flags}),
    )


@router.get("/flags/next")
def show_next(visit: Signed) -> Response:
    """Go to the gravest open matter."""
    with unit_of_work(visit.wiring.engine, "sw_read", visit.sees) as conn:
        waiting = matters.list_matters(conn, state="open")
    return redirect(f"/flags/{waiting[0].opens.flag_id}" if waiting else "/flags")


@router.get("/flags/{flag_id}")
def show_flag(flag_id: str, visit: Signed, decided: bool = False) -> Response:
    """Show one flag: the sentence, the picture, innocent causes, provenance, decisions."""
    return _show(visit, flag_id, just_decided=decided)


@router.post("/flags/{flag_id}")
def decide(
    flag_id: str,
    visit: SignedForm,
    decision: Annotated[str, Form()],
    reason: Annotated[str, Form()] = "",
    whole: Annotated[bool, Form()] = False,
    also: Annotated[list[str] | None, Form(max_length=1000)] = None,
) -> Response:
    """Store the decision, with `whole` on the flags named in `also` too, then show it with the way to the next matter."""
    assert visit.account is not None
    try:
        with unit_of_work(visit.wiring.engine, "sw_review", visit.sees) as conn:
            key = visit.wiring.service_key
            others = also or [] if whole else []
            reviews.decide_together(
                conn, key, visit.account, flag_id, others, cast(Decision, decision), reason
            )
    except Unprocessable as error:
        if error.code != "review.reason":
            raise
        problem = visit.tongue.say("Give the reason in at least %(count)s characters.") % {
            "count": MIN_REASON
        }
        return _show(visit, flag_id, problem=problem, reason=reason)
    return redirect(f"/flags/{flag_id}", {"decided": "1"})


def _show(
    visit: Visit, flag_id: str, *, just_decided: bool = False, problem: str = "", reason: str = ""
) -> Response:
    t = visit.tongue
    with unit_of_work(visit.wiring.engine, "sw_review", visit.sees) as conn:
        detail = facts.find_flag(conn, flag_id)
        matter = matters.find_matter(conn, detail.flag)
        waiting = matters.list_matters(conn, state="open")
    flag = detail.flag
    visit.note_view([flag.stn], "flag", flag_id)
    with unit_of_work(visit.wiring.engine, "sw_read", visit.sees) as conn:
        looks = facts.list_looks(conn, "flag", flag_id)
    before, after = neighbours(matter, waiting)
    around_ms = AROUND_DAYS * DAY_MS
    around = (flag.from_ms - around_ms, flag.to_ms + around_ms)
    return visit.render(
        "flag.html",
        422 if problem else 200,
        flag=flag,
        detail=detail,
        matter=matter,
        also=[other.flag_id for other in matter.open_flags if other.flag_id != flag_id],
        hidden=figures.word_hidden(t, matter),
        looks=looks,
        open_count=len(waiting),
        position=next((i for i, other in enumerate(waiting, 1) if other.matter_id == matter.matter_id), 0),
        previous_id=before,
        next_id=after,
        just_decided=just_decided and flag.decision is not None,
        problem=problem,
        reason=reason,
        least_reason=MIN_REASON,
        around=[t.moment(at_ms, flag.utc_offset_min)[:10] for at_ms in around],
        **figures.make_evidence(t, detail),
    )


def neighbours(matter: MatterView, waiting: list[MatterView]) -> tuple[str | None, str | None]:
    """Return the flags to open for the open matters before and behind this one in gravity.

    Behind the last one, once it is decided, comes the first that still waits.
    """
    others = [other for other in waiting if other.matter_id != matter.matter_id]
    before = [other.opens.flag_id for other in others if other.order < matter.order]
    behind = [other.opens.flag_id for other in others if other.order > matter.order]
    following = behind[0] if behind else (before[0] if before and matter.decision is not None else None)
    return (before[-1] if before else None), following
