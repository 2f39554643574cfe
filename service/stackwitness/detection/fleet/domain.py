"""What a comparison of neighbours is made of, and what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from stackwitness.detection.domain import Unjudged
from stackwitness.flags.domain import Claim

# How long before its first day a comparison begins: long enough to know who is related (days 14 to 56 before) and what is
# usual between them (28 days) for all of the last month.
WINDOW = timedelta(days=126)
# A station that lags further behind the newest than this is not waited for.
PATIENCE = timedelta(days=2)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Member:
    """A station that is compared: where its last full hour ends, and its last envelope (ep, seq)."""

    stn: str
    agency: str
    closed: datetime
    head: tuple[int, int]


@dataclass(frozen=True)
class Candidate:
    """A station that may be visited: its last reading (None: silent), and how many channels are judged for forgery."""

    stn: str
    name: str
    agency: str
    last_at: datetime | None
    judged: int


@dataclass(frozen=True)
class FleetFinding(Claim):
    """State what sets a station apart from the others, as of the end of the comparison."""

    stn: str
    episode: str
    innocent: tuple[str, ...]
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class FleetRun:
    """Hold the comparison of an agency's stations over [from_at, upto), made from what stood up to `heads`."""

    agency: str
    from_at: datetime
    upto: datetime
    heads: Mapping[str, tuple[int, int]]
    config_hash: str
    version: str
    findings: tuple[FleetFinding, ...]
    notes: tuple[Unjudged, ...]


def closed_day(members: list[Member]) -> datetime | None:
    """Return the end of the last whole day (UTC) that every station but the laggards has reached; None under two."""
    if len(members) < 2:
        return None
    newest = max(one.closed for one in members)
    waited = min(one.closed for one in members if one.closed >= newest - PATIENCE)
    return waited.replace(hour=0, minute=0, second=0, microsecond=0)
