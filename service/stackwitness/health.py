"""Liveness, readiness and metrics."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from emdi.checkpoint import parse_checkpoint
from emdi.errors import EmdiError
from emdi.note import parse_note
from stackwitness import telemetry
from stackwitness.accounts.domain import Account
from stackwitness.accounts.routes import require
from stackwitness.clock import now_ms
from stackwitness.db.catalog import hash_catalog, read_catalog
from stackwitness.db.health import Health, read_health
from stackwitness.db.migrate import current_revision, newest_revision
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import DatabaseUnavailable, StackwitnessError, Unavailable
from stackwitness.log.status import read_alarm, read_warnings
from stackwitness.wiring import Wiring, get_wiring

# A leaf that waits longer than this for its checkpoint means that the log or the signer stands still.
STALE_AFTER_MS = 30_000

router = APIRouter(tags=["operation"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """Tell that the process answers."""
    return {"state": "alive"}


@router.get("/readyz")
def readyz(wiring: Annotated[Wiring, Depends(get_wiring)]) -> dict[str, Any]:
    """Tell that the database answers, its schema is the newest, and the log keeps up. Raises Unavailable."""
    size = checkpoint_size(wiring)  # before the database, which is ahead of what it published
    health = _read(wiring)
    if health.revision != newest_revision():
        raise Unavailable(
            "database.schema", "The database is not migrated", detail=f"it stands at {health.revision}"
        )
    if size > health.log_size:
        raise Unavailable(
            "log.forked",
            "The database is older than the log it published",
            detail=f"checkpoint of {size}, database of {health.log_size} entries; see `stackwitness fsck`",
            alarm=read_alarm(wiring.settings.home),
        )
    since = (
        [health.oldest_pending_ms]
        if size >= health.log_size
        else [health.oldest_pending_ms, health.log_size_since_ms]
    )
    waiting_ms = max((now_ms() - moment for moment in since if moment is not None), default=0)
    if size == 0 or waiting_ms > STALE_AFTER_MS:
        raise Unavailable(
            "log.stale",
            "The log does not keep up",
            detail=f"checkpoint of {size}, oldest leaf waits {waiting_ms} ms",
            alarm=read_alarm(wiring.settings.home),
        )
    return {
        "state": "ready",
        "schema": health.revision,
        "pending": health.pending,
        "checkpoint_size": size,
        "warnings": [warning._asdict() for warning in read_warnings(wiring.settings.home)],
    }


class CatalogView(BaseModel):
    """The catalog's fingerprint: SHA-256 (hex) over the lines, each ended by a line feed."""

    revision: str | None
    sha256: str
    lines: list[str]


@router.get("/v1/catalog")
def read_fingerprint(
    account: Annotated[Account, Depends(require("auditor", "regulator"))],
    wiring: Annotated[Wiring, Depends(get_wiring)],
) -> CatalogView:
    """Return every guard, right and definition of the schema, to compare with event `catalog.baseline`."""
    with unit_of_work(wiring.engine, "sw_read") as conn:
        lines = read_catalog(conn)
        revision = current_revision(conn)
    return CatalogView(revision=revision, sha256=hash_catalog(lines).hex(), lines=lines)


@router.get("/metrics")
def metrics(wiring: Annotated[Wiring, Depends(get_wiring)]) -> Response:
    """Give the series in the Prometheus text format; without the database, those of the process alone."""
    try:
        health = _read(wiring)
        telemetry.PENDING.set(health.pending)
        telemetry.LOG_SIZE.set(health.log_size)
    except DatabaseUnavailable:
        telemetry.PENDING.set(float("nan"))
        telemetry.LOG_SIZE.set(float("nan"))
    telemetry.CHECKPOINT_SIZE.set(checkpoint_size(wiring))
    telemetry.LOG_ALARM.set(read_alarm(wiring.settings.home) is not None)
    warned = [warning.code for warning in read_warnings(wiring.settings.home)]
    telemetry.QUORUM_MISSING.set("log.quorum" in warned)
    telemetry.WITNESSES_MISSING.set(warned.count("log.witness"))
    telemetry.ANCHORS_MISSING.set(warned.count("log.anchor"))
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def checkpoint_size(wiring: Wiring) -> int:
    """Return the size of the published checkpoint; 0 while there is none."""
    try:
        return parse_checkpoint(parse_note(wiring.log_reader.checkpoint()).text).size
    except (FileNotFoundError, EmdiError, StackwitnessError):
        return 0


def _read(wiring: Wiring) -> Health:
    with unit_of_work(wiring.engine, "sw_read") as conn:
        return read_health(conn)
