"""Build the web application: slices' routes, problems, caps, telemetry."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from stackwitness import health
from stackwitness.body_cap import BodyCap
from stackwitness.ingest.gate import EnvelopeGate
from stackwitness.ingest.waiting import ReceiptWaiters
from stackwitness.problems import install_problems
from stackwitness.telemetry import RequestTelemetry
from stackwitness.wiring import Wiring

SLICES = (
    "accounts",
    "stations",
    "ingest",
    "log",
    "readings",
    "detection",
    "flags",
    "reviews",
    "evidence",
    "console",
)


def create_app(wiring: Wiring) -> FastAPI:
    """Return the application over this wiring; the caller disposes of the engine."""
    app = FastAPIOffline(
        title="Stackwitness",
        description="Signed emission readings, a transparency log over them, flags, reviews and evidence.",
        lifespan=run_committer,
    )
    app.state.wiring = wiring
    app.state.receipt_waiters = ReceiptWaiters(wiring.log_reader)
    for router in (health.router, *(import_module(f"stackwitness.{name}.routes").router for name in SLICES)):
        # The routes as their module made them: `include_router` analyses each again, at the first request.
        app.router.routes.extend(router.routes)
    install_problems(app)
    app.add_middleware(BodyCap, max_bytes=wiring.settings.max_body_bytes)
    app.add_middleware(RequestTelemetry)
    app.add_middleware(EnvelopeGate)
    return app


@asynccontextmanager
async def run_committer(app: FastAPI) -> AsyncIterator[None]:
    """Run the ingest committer while the application serves."""
    from stackwitness.ingest.flow import Committer

    with Committer(app.state.wiring) as committer:
        app.state.committer = committer
        yield
