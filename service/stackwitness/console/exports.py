"""Exports as pages show them: asked of the evidence slice."""

from __future__ import annotations

from sqlalchemy import Connection

from emdi.keys import Signer
from stackwitness.accounts.domain import Account
from stackwitness.console.charts.panels import Span
from stackwitness.console.facts import at_of, ms_of
from stackwitness.console.views import ExportView
from stackwitness.evidence import flow as evidence
from stackwitness.evidence.domain import Export


def request(conn: Connection, signer: Signer, account: Account, stn: str, span: Span, purpose: str) -> str:
    """Ask for a bundle and return the export's id."""
    from_at, to_at = at_of(span.from_ms), at_of(span.to_ms)
    asked = evidence.request_export(
        conn, signer, account, stn=stn, from_at=from_at, to_at=to_at, purpose=purpose
    )
    return asked.export_id


def find(conn: Connection, export_id: str) -> ExportView:
    """Return an export. Raises NotFound."""
    return _view(evidence.find_export(conn, export_id))


def list_exports(conn: Connection, stn: str | None) -> list[ExportView]:
    """Return the exports of a station, or of all, newest first."""
    return [_view(export) for export in evidence.list_exports(conn, stn)]


def _view(export: Export) -> ExportView:
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
        export.entries_done,
        export.entries_of,
        export.stns,
    )
