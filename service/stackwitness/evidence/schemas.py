"""Exports as JSON."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from emdi.scope import MAX_STATIONS
from stackwitness.evidence.domain import EPOCH, FOR_EVER, Export, ExportState

StationId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class ExportWanted(BaseModel):
    """Ask for the evidence of a period (half-open): of one `station`, of several, or of all of an `agency`.

    `entries` bounds it to log indexes [first, end) instead of, or beside, the period. `redact` withholds texts: a
    member we do not know is refused, since a misspelt `redact` would disclose them.
    """

    model_config = ConfigDict(extra="forbid")

    station: StationId | None = None
    stations: list[StationId] | None = Field(None, min_length=1, max_length=MAX_STATIONS)
    agency: str | None = Field(None, min_length=1, max_length=200)
    from_at: AwareDatetime = Field(EPOCH, alias="from")
    to_at: AwareDatetime = Field(FOR_EVER, alias="to")
    entries: tuple[NonNegativeInt, NonNegativeInt] | None = None
    purpose: str = Field(min_length=1, max_length=500)
    redact: bool = False

    @model_validator(mode="after")
    def name_stations_once(self) -> Self:
        """Refuse a request that names its stations in two ways, or in none."""
        if sum(item is not None for item in (self.station, self.stations, self.agency)) != 1:
            raise ValueError("give exactly one of station, stations and agency")
        return self


class Progress(BaseModel):
    """How many entries are written, of how many (null until counted); each counts again with its readings."""

    done: int
    of: int | None


class ExportView(BaseModel):
    """One export and how far it got; `bundle` once it can be downloaded. `station` is the first of `stations`."""

    export_id: str
    station: str
    stations: list[str]
    from_at: datetime = Field(serialization_alias="from")
    to_at: datetime = Field(serialization_alias="to")
    entries: tuple[int, int] | None
    purpose: str
    requester: str
    redacted: bool
    state: ExportState
    progress: Progress
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
        stations=list(export.stns),
        from_at=export.from_at,
        to_at=export.to_at,
        entries=export.entries,
        purpose=export.purpose,
        requester=export.account_id,
        redacted=export.redacted,
        state=export.state,
        progress=Progress(done=export.entries_done, of=export.entries_of),
        error=export.error,
        requested_at=export.requested_at,
        manifest_sha256=None if export.manifest_sha256 is None else export.manifest_sha256.hex(),
        bundle=f"/v1/exports/{export.export_id}/bundle" if export.state == "done" else None,
    )
