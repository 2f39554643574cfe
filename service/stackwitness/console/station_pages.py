"""The list of stations, and one station: its readings, flags, keys, chain and exports."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Query, Response

from stackwitness import clock
from stackwitness.console import exports, facts, figures, matters, series, unjudged
from stackwitness.console.charts.panels import Span
from stackwitness.console.charts.scale import DAY_MS
from stackwitness.console.doors import Signed, SignedForm
from stackwitness.console.views import StationView
from stackwitness.console.visit import redirect
from stackwitness.db.unit import unit_of_work
from stackwitness.detection.fleet.visits import read_compared
from stackwitness.errors import Forbidden, Unprocessable

router = APIRouter()
DEFAULT_DAYS = 14
RANGES = (1, 7, 14, 30, 90, 365)
RECENT_MATTERS = 12
MAX_SPAN_DAYS = 3700


@router.get("/stations")
def list_stations(visit: Signed) -> Response:
    """List every station."""
    with unit_of_work(visit.wiring.engine, "sw_read", visit.sees) as conn:
        stations = facts.list_stations(conn)
    return visit.render("stations.html", stations=stations)


@router.get("/stations/{stn}")
def show_station(
    stn: str,
    visit: Signed,
    days: Annotated[int | None, Query(ge=1, le=MAX_SPAN_DAYS)] = None,
    from_day: Annotated[date | None, Query(alias="from")] = None,
    to_day: Annotated[date | None, Query(alias="to")] = None,
) -> Response:
    """Show a station's channels over a range of days, its flags, and where its chain stands."""
    t = visit.tongue
    with unit_of_work(visit.wiring.engine, "sw_read", visit.sees) as conn:
        station = facts.find_station(conn, stn)
        span = _choose_span(station, days, from_day, to_day)
        aggregate = series.choose_aggregate(span)
        traces = series.load(conn, station, span, aggregate)
        found = matters.list_matters(conn, stn=stn)
        keys = facts.list_keys(conn, stn)
        requests, epochs = facts.list_key_requests(conn, stn), facts.list_pending_epochs(conn, stn)
        suspects, limits = facts.list_suspects(conn, stn), facts.list_limit_changes(conn, stn)
        made = exports.list_exports(conn, stn)
        apart = read_compared(conn).findings.get(stn, ())
        sight = unjudged.read_sight(conn, t, stn, station.channels)
    step_ms = figures.step_of(traces, aggregate)
    flags = [flag for matter in found for flag in matter.flags]
    within = [f for f in flags if f.from_ms < span.to_ms and f.to_ms > span.from_ms]
    recent = sorted(found, key=lambda matter: matter.to_ms, reverse=True)[:RECENT_MATTERS]
    chosen = days or (None if from_day else DEFAULT_DAYS)
    return visit.render(
        "station.html",
        station=station,
        traces=figures.make_traces(t, traces, span, step_ms, within),
        trace_data=figures.pack_traces(t, traces, station.utc_offset_min, step_ms, within),
        letters=figures.letters_of(traces),
        aggregate=aggregate,
        ranges=[(count, t.say("%(count)s d") % {"count": count}) for count in RANGES],
        chosen_days=chosen,
        from_day=t.moment(span.from_ms, station.utc_offset_min)[:10],
        to_day=t.moment(span.to_ms - 1, station.utc_offset_min)[:10],
        matters=recent,
        more_matters=len(found) > len(recent),
        keys=keys,
        requests=requests,
        epochs=epochs,
        suspects=suspects,
        limits=limits,
        in_force={one.channel: one.value for one in limits if (one.from_ms or 0) <= clock.now_ms()},
        exports=made,
        sight=sight,
        apart=apart,
    )


@router.post("/stations/{stn}/exports")
def request_export(
    stn: str,
    visit: SignedForm,
    from_day: Annotated[date, Form(alias="from")],
    to_day: Annotated[date, Form(alias="to")],
    purpose: Annotated[str, Form(min_length=1, max_length=500)],
) -> Response:
    """Ask for an evidence bundle over whole days of the station's clock."""
    assert visit.account is not None
    if visit.account.role != "regulator":
        raise Forbidden()
    with unit_of_work(visit.wiring.engine, "sw_export", visit.sees) as conn:
        station = facts.find_station(conn, stn)
        span = _choose_span(station, None, from_day, to_day)
        export_id = exports.request(conn, visit.wiring.service_key, visit.account, stn, span, purpose.strip())
    return redirect(f"/exports/{export_id}")


@router.get("/exports")
def list_exports(visit: Signed) -> Response:
    """List the exports asked for."""
    with unit_of_work(visit.wiring.engine, "sw_read", visit.sees) as conn:
        made = exports.list_exports(conn, None)
        stations = {station.stn: station for station in facts.list_stations(conn)}
    return visit.render("exports.html", exports=made, stations=stations)


@router.get("/exports/{export_id}")
def show_export(export_id: str, visit: Signed) -> Response:
    """Show how far an export is, and where to download it."""
    with unit_of_work(visit.wiring.engine, "sw_read", visit.sees) as conn:
        export = exports.find(conn, export_id)
        station = facts.find_station(conn, export.stn)
    visit.note_view(export.stns, "export", export_id)
    with unit_of_work(visit.wiring.engine, "sw_read", visit.sees) as conn:
        looks = facts.list_looks(conn, "export", export_id)
    step = ("queued", "building", "done").index(export.state) if export.state != "failed" else 2
    return visit.render("export.html", export=export, station=station, step=step, looks=looks)


def _choose_span(station: StationView, days: int | None, from_day: date | None, to_day: date | None) -> Span:
    """Return the chosen days on the station's clock; by default the last ones that have readings."""
    offset = timedelta(minutes=station.utc_offset_min)
    if from_day is None or to_day is None:
        last_ms = station.last_at_ms or clock.now_ms()
        return Span(last_ms + 1 - (days or DEFAULT_DAYS) * DAY_MS, last_ms + 1, station.utc_offset_min)
    if to_day < from_day or (to_day - from_day).days > MAX_SPAN_DAYS or from_day.year < 1970:
        raise Unprocessable("page.range", "The range of days is empty or too long")
    start = datetime.combine(from_day, time(), UTC) - offset
    end = datetime.combine(to_day, time(), UTC) + timedelta(days=1) - offset
    return Span(facts.ms_of(start), facts.ms_of(end), station.utc_offset_min)
