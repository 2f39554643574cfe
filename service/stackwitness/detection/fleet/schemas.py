"""What the API says about the comparison of neighbours and whom to inspect first."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from stackwitness.detection.fleet.domain import FleetFinding, FleetRun
from stackwitness.detection.fleet.visits import Visit
from stackwitness.flags.flow import at_of


class ComparisonView(BaseModel):
    """The last comparison of an agency's stations: over [from_at, upto), by which detectors, of which stations."""

    agency: str
    from_at: datetime
    upto: datetime
    config_hash: str
    version: str
    stations: list[str]

    @classmethod
    def of(cls, run: FleetRun) -> ComparisonView:
        """Show a comparison."""
        return cls(
            agency=run.agency,
            from_at=run.from_at,
            upto=run.upto,
            config_hash=run.config_hash,
            version=run.version,
            stations=sorted(run.heads),
        )


class ApartView(BaseModel):
    """What sets a station apart from its neighbours: a view made anew each day, no flag, nothing to decide.

    `numbers` name the neighbour (`station`, `station_channel`) where the finding is about one; `innocent` are codes of causes
    that are no forgery.
    """

    stn: str
    detector: str
    kind: str
    verdict: str
    from_at: datetime
    to_at: datetime
    channels: list[str]
    e_value: float
    text_en: str
    text_zh: str
    innocent: list[str]
    numbers: dict[str, Any]

    @classmethod
    def of(cls, finding: FleetFinding) -> ApartView:
        """Show a finding."""
        return cls(
            stn=finding.stn,
            detector=finding.detector,
            kind=finding.kind,
            verdict=finding.verdict,
            from_at=at_of(finding.from_ms),
            to_at=at_of(finding.to_ms),
            channels=list(finding.channels),
            e_value=finding.e_value,
            text_en=finding.text_en,
            text_zh=finding.text_zh,
            innocent=list(finding.innocent),
            numbers=dict(finding.numbers),
        )


class NeighboursPage(BaseModel):
    """The last comparisons, and a page of what they found, by station; `next` goes into `after` for the following page."""

    comparisons: list[ComparisonView]
    findings: list[ApartView]
    next: str | None


class VisitView(BaseModel):
    """A station to inspect: its e-value over all tests and channels, its open flags of the last 30 days, what sets it apart."""

    stn: str
    name: str
    agency: str
    e_value: float
    open_flags: int
    apart: list[ApartView]

    @classmethod
    def of(cls, visit: Visit) -> VisitView:
        """Show a visit."""
        return cls(
            stn=visit.station.stn,
            name=visit.station.name,
            agency=visit.station.agency,
            e_value=visit.e_value,
            open_flags=visit.flags,
            apart=[ApartView.of(one) for one in visit.apart],
        )


class InspectFirst(BaseModel):
    """A page of the stations to inspect first, strongest evidence first, and what they were chosen from.

    Of all stations named at most the share `false_discovery_rate` is expected to be innocent (e-BH). `compared_upto` is how
    far neighbours were compared at the agency that is furthest behind, null = never.
    """

    visits: list[VisitView]
    false_discovery_rate: float
    stations_weighed: int
    flags_weighed: int
    stations_compared: int
    compared_upto: datetime | None
    next: str | None
