"""Exports as JSON."""

from datetime import datetime

from pydantic import AwareDatetime, BaseModel, Field

from stackwitness.evidence.domain import Export, ExportState


class ExportWanted(BaseModel):
    """Ask for one station's evidence of a period (half-open)."""

    station: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    from_at: AwareDatetime = Field(alias="from")
    to_at: AwareDatetime = Field(alias="to")
    purpose: str = Field(min_length=1, max_length=500)


class ExportView(BaseModel):
    """One export and how far it got; `bundle` once it can be downloaded."""

    export_id: str
    station: str
    from_at: datetime = Field(serialization_alias="from")
    to_at: datetime = Field(serialization_alias="to")
    purpose: str
    requester: str
    state: ExportState
    error: str | None
    requested_at: datetime
    manifest_sha256: str | None
    bundle: str | None


class ExportList(BaseModel):
    """Exports, newest first."""

    exports: list[ExportView]


def view(export: Export) -> ExportView:
    """Return the JSON form of an export."""
    return ExportView(
        export_id=export.export_id,
        station=export.stn,
        from_at=export.from_at,
        to_at=export.to_at,
        purpose=export.purpose,
        requester=export.account_id,
        state=export.state,
        error=export.error,
        requested_at=export.requested_at,
        manifest_sha256=None if export.manifest_sha256 is None else export.manifest_sha256.hex(),
        bundle=f"/v1/exports/{export.export_id}/bundle" if export.state == "done" else None,
    )
