"""HTTP of the comparison of neighbours, and of whom to inspect first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Query

from emdi.encoding import b64u_encode
from stackwitness.accounts.domain import Account
from stackwitness.accounts.routes import current_account
from stackwitness.db.unit import unit_of_work
from stackwitness.detection.fleet import queries, visits
from stackwitness.detection.fleet.domain import FleetFinding
from stackwitness.detection.fleet.schemas import (
    ApartView,
    ComparisonView,
    InspectFirst,
    NeighboursPage,
    VisitView,
)
from stackwitness.errors import BadRequest
from stackwitness.stations.forms import STN_PATTERN
from stackwitness.wiring import Wiring, get_wiring
from stackwitness_detectors.ranking import FDR

router = APIRouter(tags=["detection"])
Reader = Annotated[Account, Depends(current_account)]
Wired = Annotated[Wiring, Depends(get_wiring)]
Limit = Annotated[int, Query(ge=1, le=1000)]
After = Annotated[str | None, Query(max_length=400)]
Row = TypeVar("Row")


@router.get("/v1/neighbours")
def list_neighbours(
    account: Reader,
    wiring: Wired,
    station: Annotated[str | None, Query(pattern=STN_PATTERN)] = None,
    limit: Limit = 100,
    after: After = None,
) -> NeighboursPage:
    """List what sets stations apart from their neighbours, by station and then strongest first, as of the last comparisons.

    With `station` what was found of that one, and the comparison it took part in.
    """
    with unit_of_work(wiring.engine, "sw_read", account.sees) as conn:
        runs = [run for run in queries.list_runs(conn) if station is None or station in run.heads]
    found = [one for run in runs for one in run.findings if station in (None, one.stn)]
    page, following = cut_page(found, _name_finding, after, limit)
    return NeighboursPage(
        comparisons=[ComparisonView.of(run) for run in runs],
        findings=[ApartView.of(one) for one in page],
        next=following,
    )


@router.get("/v1/inspect-first")
def list_visits(account: Reader, wiring: Wired, limit: Limit = 100, after: After = None) -> InspectFirst:
    """List the stations to inspect first, strongest evidence first: the same choice as the console's overview shows."""
    with unit_of_work(wiring.engine, "sw_read", account.sees) as conn:
        choice = visits.read_choice(conn)
    page, following = cut_page(choice.visits, lambda visit: visit.station.stn, after, limit)
    return InspectFirst(
        visits=[VisitView.of(one) for one in page],
        false_discovery_rate=FDR,
        stations_weighed=choice.stations,
        flags_weighed=choice.flags,
        stations_compared=choice.compared.stations,
        compared_upto=choice.compared.upto,
        next=following,
    )


def cut_page(
    rows: Sequence[Row], name: Callable[[Row], str], after: str | None, limit: int
) -> tuple[Sequence[Row], str | None]:
    """Return the rows behind the one that a cursor names, and the cursor of the next page (None at the end).

    Raises BadRequest for a cursor of no row: another list gave it, or this list was made anew since.
    """
    cursors = [b64u_encode(name(row).encode()) for row in rows]
    start = 0
    if after is not None:
        if after not in cursors:
            raise BadRequest(
                "detection.cursor",
                "after is not a cursor of this list as it stands now: begin with the first page",
            )
        start = cursors.index(after) + 1
    end = min(start + limit, len(rows))
    return rows[start:end], cursors[end - 1] if end < len(rows) else None


def _name_finding(one: FleetFinding) -> str:
    return f"{one.stn}:{one.episode}"
