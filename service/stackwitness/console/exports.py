"""Exports as pages show them: asked of the evidence slice."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sqlalchemy import Connection

from stackwitness.accounts.domain import Account

from .charts.panels import Span
from .facts import at_of, ms_of
from .views import ExportView

evidence: Any = (
    import_module("stackwitness.evidence.flow") if find_spec("stackwitness.evidence.flow") else None
)


def request(conn: Connection, account: Account, stn: str, span: Span, purpose: str) -> str:
    """Ask for a bundle and return the export's id."""
    asked = evidence.request_export(
        conn, account, stn=stn, from_at=at_of(span.from_ms), to_at=at_of(span.to_ms), purpose=purpose
    )
    return asked.export_id


def find(conn: Connection, export_id: str) -> ExportView:
    """Return an export. Raises NotFound."""
    return _view(evidence.find_export(conn, export_id))


def list_exports(conn: Connection, stn: str | None) -> list[ExportView]:
    """Return the exports of a station, or all, newest first."""
    if evidence is None:
        return []
    return [_view(export) for export in evidence.list_exports(conn, stn)]


def _view(export: Any) -> ExportView:
    return ExportView(
        export.export_id,
        export.stn,
        ms_of(export.from_at),
        ms_of(export.to_at),
        export.purpose,
        export.state,
        export.error or "",
        ms_of(export.requested_at),
        export.manifest_sha256.hex() if export.manifest_sha256 else "",
    )
