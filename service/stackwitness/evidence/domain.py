"""Exports as the rest of the service sees them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from emdi.chain import StationHead

ExportState = Literal["queued", "building", "done", "failed"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Export:
    """An export asked for: whose, what period (half-open), how far it got; the digest once it is sealed."""

    export_id: str
    stn: str
    from_at: datetime
    to_at: datetime
    purpose: str
    account_id: str
    state: ExportState
    error: str | None
    requested_at: datetime
    manifest_sha256: bytes | None


@dataclass(frozen=True)
class Range:
    """The contiguous envelopes of an export, first and last (ep, seq), and the time their readings span."""

    first: tuple[int, int]
    last: tuple[int, int]
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True)
class Selection:
    """What goes into one bundle: the log up to `size`, the envelopes, the subject's last event, the head."""

    size: int
    envelopes: Range | None
    subject_sseq: int
    subject_event_id: bytes
    head: StationHead | None


def ms_of(at: datetime) -> int:
    """Return Unix milliseconds of an aware time."""
    return (at - EPOCH) // timedelta(milliseconds=1)
