"""The worker: one procrastinate app over the service's database, with the tasks of detection and evidence.

`detection.scan(stn)` is queued by ingest in the transaction that stored the readings. Every minute a sweep
queues what was lost all the same: scans whose job failed or died, and jobs of workers that were killed.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import structlog
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import DeleteJobCondition, Status
from sqlalchemy.engine import make_url

from stackwitness import clock
from stackwitness.db.session import OPTIONS, lift_newer
from stackwitness.db.timescale import maintain
from stackwitness.db.unit import unit_of_work
from stackwitness.detection import flow, queries
from stackwitness.detection.fleet import flow as fleet
from stackwitness.errors import LogFrozen
from stackwitness.log.queries import find_successor
from stackwitness.wiring import Wiring

QUEUE = "detection"
WORKER_ROLE = "sw_detect"
SCAN = "detection.scan"
FLEET = "detection.fleet"
CONCURRENCY = 2
# A worker that was killed is noticed after this long without a sign of life.
HEARTBEAT_S, STALLED_S = 5.0, 20.0
GRACE_S = 8.0
log = structlog.get_logger("detection")


def make_app(database_url: str) -> App:
    """Make the app with every task the service has; its pool opens with `async with app.open_async()`."""
    address = (
        make_url(database_url).set(drivername="postgresql").difference_update_query(["prepare_threshold"])
    )
    connector = PsycopgConnector(
        conninfo=address.render_as_string(hide_password=False),
        kwargs={"options": f"{OPTIONS} -c role={WORKER_ROLE}"},
        configure=lift_newer,
        min_size=1,
        max_size=CONCURRENCY + 3,
    )
    app = App(connector=connector)
    add_tasks(app)
    if find_spec("stackwitness.evidence") and find_spec("stackwitness.evidence.tasks"):
        import_module("stackwitness.evidence.tasks").add_tasks(app)
    return app


def add_tasks(app: App) -> None:
    """Register the tasks of detection."""

    @app.task(name=SCAN, queue=QUEUE, pass_context=True)
    def scan(context: JobContext, stn: str) -> int:
        """Judge what a station has stored. A failure is logged here and tried again by the next sweep."""
        try:
            return flow.scan(context.additional_context["wiring"], stn)
        except LogFrozen:
            return 0  # what is judged cannot be signed any more: the successor judges what comes
        except Exception as error:
            # procrastinate logs the traceback; this line is the alarm.
            log.error("detection.failed", stn=stn, error=repr(error), alarm=True)
            raise

    @app.task(name=FLEET, queue=QUEUE, pass_context=True)
    def compare(context: JobContext, agency: str) -> None:
        """Compare the stations of an agency. A failure is logged here and tried again by the next sweep."""
        try:
            fleet.compare_fleet(context.additional_context["wiring"], agency)
        except Exception as error:
            log.error("fleet.failed", agency=agency, error=repr(error), alarm=True)
            raise

    @app.periodic(cron="* * * * *")
    @app.task(name="detection.sweep", queue=QUEUE, queueing_lock="detection.sweep", pass_context=True)
    async def sweep_minutely(context: JobContext, timestamp: int) -> None:
        """Queue what was lost."""
        await sweep(context.app, context.additional_context["wiring"])


async def sweep(app: App, wiring: Wiring) -> list[str]:
    """Take back the jobs of dead workers, queue a scan for every station that lags; return those stations."""
    # 1 Jobs whose worker died. A scan need not be retried, only forgotten: step 2 sees whether it is needed.
    for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_S):
        log.warning("worker.job_stalled", task=job.task_name, job=job.id, alarm=True)
        if job.task_name in (SCAN, FLEET) or job.queueing_lock:
            await app.job_manager.finish_job(job, status=Status.FAILED, delete_job=True)
        else:
            await app.job_manager.retry_job(job)
    # 2 Stations that lag behind their own clock.
    lagging = await asyncio.to_thread(list_lagging, wiring)
    for stn in lagging:
        await _queue(app, SCAN, f"scan:{stn}", stn=stn)
    # 3 Agencies whose stations are all a day further than they were compared.
    for agency in await asyncio.to_thread(fleet.list_due, wiring):
        await _queue(app, FLEET, f"fleet:{agency}", agency=agency)
    return lagging


async def _queue(app: App, task: str, lock: str, **given: str) -> None:
    try:
        await app.configure_task(task, queue=QUEUE, lock=lock, queueing_lock=lock).defer_async(**given)
    except AlreadyEnqueued:
        return


def list_lagging(wiring: Wiring) -> list[str]:
    """List stations with full hours not yet judged or late readings not yet logged; keep next month's partition.

    A frozen log has none."""
    with unit_of_work(wiring.engine, "sw_detect") as conn:
        if find_successor(conn) is not None:
            return []
        maintain(conn, clock.now_utc())
        lagging = [p.stn for p in queries.list_progress(conn) if p.upto is None or p.upto < p.closed]
        return [*lagging, *(stn for stn in queries.list_stations_with_late(conn) if stn not in lagging)]


async def serve(wiring: Wiring, *, wait: bool = True, **options: Any) -> None:
    """Work off jobs; with `wait` until SIGTERM, without it until there is none left."""
    url = wiring.settings.database_url
    if url is None:
        raise ValueError("the worker needs a database_url; open_database(settings) gives one")
    app = make_app(url)
    async with app.open_async():
        await _sweep_after(0, app, wiring)
        # Whoever takes the place of a killed worker finds its jobs not yet stalled, and the next minute may be far.
        again = asyncio.create_task(_sweep_after(STALLED_S + 1, app, wiring))
        try:
            await app.run_worker_async(
                wait=wait,
                concurrency=CONCURRENCY,
                delete_jobs=DeleteJobCondition.ALWAYS,
                fetch_job_polling_interval=2.0,
                update_heartbeat_interval=HEARTBEAT_S,
                stalled_worker_timeout=STALLED_S,
                shutdown_graceful_timeout=GRACE_S,
                additional_context={"wiring": wiring},
                **options,
            )
        finally:
            again.cancel()


async def _sweep_after(pause_s: float, app: App, wiring: Wiring) -> None:
    await asyncio.sleep(pause_s)
    try:
        await sweep(app, wiring)
    except ConnectorException:
        log.error("worker.sweep_failed", alarm=True)


def run_worker(wiring: Wiring) -> None:
    """Be the worker process until SIGTERM."""
    asyncio.run(serve(wiring))
