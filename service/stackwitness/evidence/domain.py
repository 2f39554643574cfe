"""Exports as the rest of the service sees them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

ExportState = Literal["queued", "building", "done", "failed"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FOR_EVER = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True)
class Export:
    """An export asked for: whose, what period (half-open), how far it got; the digest once it is sealed.

    `stns` are sorted; `first_idx` and `end_idx` bound it to a part of the log (half-open) when set. A redacted
    one discloses no text. A `frozen` one is of a frozen log: no event names it.
    """

    export_id: str
    stns: tuple[str, ...]
    from_at: datetime
    to_at: datetime
    first_idx: int | None
    end_idx: int | None
    purpose: str
    account_id: str
    redacted: bool
    requested_at: datetime
    state: ExportState = "queued"
    error: str | None = None
    entries_done: int = 0
    entries_of: int | None = None
    manifest_sha256: bytes | None = None
    frozen: bool = False

    @property
    def stn(self) -> str:
        """Return the first station: on its chain the export is sealed."""
        return self.stns[0]

    @property
    def entries(self) -> tuple[int, int] | None:
        """Return the part of the log asked for, None for all of it."""
        if self.first_idx is None or self.end_idx is None:
            return None
        return self.first_idx, self.end_idx


def at_of(at_ms: int) -> datetime:
    """Return the aware UTC time of Unix milliseconds."""
    return EPOCH + timedelta(milliseconds=at_ms)


def ms_of(at: datetime) -> int:
    """Return Unix milliseconds of an aware time."""
    return (at - EPOCH) // timedelta(milliseconds=1)
