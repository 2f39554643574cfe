"""Compare the stations of an agency day by day; what is found stands for a month, in place of what was found before.

It is a view of readings that are all signed: no event, no flag, nothing to decide. Only the worker imports this module: it
loads numpy and the detectors.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from stackwitness.db.unit import unit_of_work
from stackwitness.detection.domain import Unjudged
from stackwitness.detection.fleet import queries
from stackwitness.detection.fleet.domain import DAY, WINDOW, FleetFinding, FleetRun, Member, closed_day
from stackwitness.detection.flow import load_context
from stackwitness.detection.frames import make_frame
from stackwitness.detection.queries import load_series
from stackwitness.flags.flow import plain
from stackwitness.stations.flow import to_ms as ms_of
from stackwitness.wiring import Wiring
from stackwitness_detectors import CODE_VERSION, Finding, config_hash
from stackwitness_detectors.fleet import run_fleet
from stackwitness_detectors.ranking import MONTH_MS

PIECE = timedelta(days=7)
log = structlog.get_logger("detection")


def list_due(wiring: Wiring) -> list[str]:
    """Return the agencies whose stations are a whole day further than they were compared."""
    with unit_of_work(wiring.engine, "sw_detect") as conn:
        runs = {run.agency: run for run in queries.list_runs(conn)}
        ends = {agency: closed_day(members) for agency, members in queries.list_members(conn).items()}
    return [
        agency
        for agency, end in ends.items()
        if end is not None and (agency not in runs or runs[agency].upto + DAY <= end)
    ]


def compare_fleet(wiring: Wiring, agency: str) -> FleetRun | None:
    """Compare an agency's stations up to their last whole day, and keep what is found after each piece.

    Goes on from the run before, or begins WINDOW before that day: at first, and where other detectors made the run before.
    None with fewer than two stations.
    """
    run: FleetRun | None = None
    while True:
        with unit_of_work(
            wiring.engine.execution_options(isolation_level="REPEATABLE READ"), "sw_detect"
        ) as conn:
            members = queries.list_members(conn).get(agency, [])
            end = closed_day(members)
            if end is None:
                return None
            run, state = queries.find_run(conn, agency) or (None, None)
            if run is None or (run.config_hash, run.version) != (config_hash(), CODE_VERSION):
                run, state = _begin(agency, end - WINDOW), None
            if run.upto >= end:
                return run
            run, state = _go_on(conn, members, run, state, min(run.upto + PIECE, end))
        with unit_of_work(wiring.engine, "sw_detect") as conn:
            queries.save_run(conn, run, state)
        log.info("fleet.compared", agency=agency, stations=len(run.heads), findings=len(run.findings))


def judge_fleet(wiring: Wiring, kept: FleetRun) -> FleetRun:
    """Make a kept run again from the readings alone: equal, unless readings came late or were changed."""
    run, state = _begin(kept.agency, kept.from_at), None
    with unit_of_work(
        wiring.engine.execution_options(isolation_level="REPEATABLE READ"), "sw_detect"
    ) as conn:
        members = [one for one in queries.list_members(conn)[kept.agency] if one.stn in kept.heads]
        while run.upto < kept.upto:
            run, state = _go_on(conn, members, run, state, min(run.upto + PIECE, kept.upto))
    return run


def _begin(agency: str, start: datetime) -> FleetRun:
    return FleetRun(agency, start, start, {}, config_hash(), CODE_VERSION, (), ())


def _go_on(
    conn: Connection, members: list[Member], run: FleetRun, state: bytes | None, end: datetime
) -> tuple[FleetRun, bytes]:
    contexts = [load_context(conn, one.stn, run.upto) for one in members]
    frames = {one.stn: make_frame(load_series(conn, one.stn, run.upto, end)) for one in members}
    result = run_fleet(contexts, state, frames, ms_of(end))
    latest = {(one.stn, one.episode): one for one in run.findings}
    for stn, found in result.findings.items():
        latest |= {(stn, one.episode): _keep(stn, one) for one in found}
    recent = [one for one in latest.values() if one.to_ms > ms_of(end) - MONTH_MS]
    done = FleetRun(
        run.agency,
        run.from_at,
        end,
        {one.stn: one.head for one in members},
        run.config_hash,
        run.version,
        tuple(
            sorted(recent, key=lambda one: (one.stn, -one.e_value, one.detector, one.from_ms, one.episode))
        ),
        tuple(map(Unjudged.of, result.notes)),
    )
    return done, result.state


def _keep(stn: str, finding: Finding) -> FleetFinding:
    return FleetFinding(
        finding.detector,
        finding.kind,
        finding.verdict,
        int(finding.from_ms),
        int(finding.to_ms),
        finding.channels,
        float(finding.e_value),
        finding.text_en,
        finding.text_zh,
        stn,
        finding.episode,
        finding.innocent,
        plain(finding.numbers),
    )
