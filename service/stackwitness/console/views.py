"""What the pages show, as plain facts; templates see nothing else. Times are Unix milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stackwitness.flags.domain import Claim

VERDICTS = ("cannot be", "very unlikely", "unusual")
TONES = {"cannot be": "impossible", "very unlikely": "unlikely", "unusual": "unusual"}
DECISIONS = ("confirmed_odd", "needs_visit", "explained", "dismissed")


@dataclass(frozen=True)
class ChannelView:
    """A measured channel; `limit` in its own unit."""

    name: str
    quantity: str
    unit: str
    role: str
    limit: float | None


@dataclass(frozen=True)
class StationView:
    """A station and where its chain stands."""

    stn: str
    name: str
    agency: str
    industry: str
    lat: float | None
    lon: float | None
    utc_offset_min: int
    channels: tuple[ChannelView, ...] = ()
    last_at_ms: int | None = None
    head: tuple[int, int, str] | None = None  # ep, seq, env_id hex


@dataclass(frozen=True)
class KeyView:
    """A key a station signed with, or signs with; a suspect one names the compromised key, itself or one before it."""

    kid: str
    alg: str
    fingerprint: str
    revoked: bool
    suspect_from_idx: int | None = None
    compromised_kid: str | None = None


@dataclass(frozen=True)
class KeyRequestView:
    """A key that waits for a second operator; `asked_by` is an account id, `name` what it is called."""

    stn: str
    kid: str
    alg: str
    fingerprint: str
    asked_by: str
    name: str


@dataclass(frozen=True)
class EpochView:
    """An epoch that nobody acknowledged yet."""

    stn: str
    ep: int
    prev_ep: int
    opened_ms: int


@dataclass(frozen=True)
class LimitView:
    """A channel's limit from a time on; `from_ms` None for the one it was registered with, `why` when not known."""

    channel: str
    value: float | None
    from_ms: int | None
    why: str | None


@dataclass(frozen=True)
class SuspectView:
    """Readings that a suspect key signed: how many envelopes, over which time, and which key was compromised."""

    kid: str
    from_idx: int
    compromised_kid: str
    envelopes: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True)
class TraceView:
    """Points of one channel: hourly, daily or as read."""

    channel: ChannelView
    at_ms: Sequence[int]
    values: Sequence[float | None]
    statuses: Sequence[str]


@dataclass(frozen=True)
class ReviewView:
    """One decision on a flag."""

    review_id: str
    decision: str
    reason: str
    by: str
    decided_ms: int
    event_id: str


@dataclass(frozen=True)
class LookView:
    """Somebody looked at evidence (or took it along); `by` is a name, `at_ms` Unix ms."""

    act: str
    by: str
    at_ms: int
    event_id: str


@dataclass(frozen=True)
class FlagView(Claim):
    """A flag as lists need it."""

    flag_id: str
    stn: str
    station_name: str
    utc_offset_min: int
    raised_ms: int
    decision: str | None
    lapsed_ms: int | None = None

    @property
    def tone(self) -> str:
        """Return the CSS name of the verdict."""
        return TONES.get(self.verdict, "unusual")


def severity(flag: FlagView) -> tuple[int, float, int, str]:
    """Order flags: worst verdict, then strongest evidence, then newest."""
    rank = VERDICTS.index(flag.verdict) if flag.verdict in VERDICTS else len(VERDICTS)
    return rank, -flag.e_value, -flag.raised_ms, flag.flag_id


@dataclass(frozen=True)
class FlagDetail:
    """A flag with everything its page shows beyond the list."""

    flag: FlagView
    plot: str
    event_id: str
    log_index: int | None
    detector_version: str = ""
    state_hash: str = ""
    config_hash: str = ""
    statistic: tuple[str, float] | None = None
    numbers: dict[str, object] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    innocent: tuple[str, ...] = ()
    look_at_en: str = ""
    look_at_zh: str = ""
    input_range: tuple[int, int, int] | None = None  # ep, first seq, last seq
    extensions: int = 0
    reviews: tuple[ReviewView, ...] = ()
    lapse_ids: tuple[str, str | None] | None = None  # hex of the events: of the lapse, of the run


@dataclass(frozen=True)
class LogView:
    """The published checkpoint: how much is proven, since when, and what still waits."""

    origin: str
    size: int
    root: str
    at_ms: int | None


@dataclass(frozen=True)
class ExportView:
    """An export request and how far it is; `stn` is the first of `stns`."""

    export_id: str
    stn: str
    from_ms: int
    to_ms: int
    purpose: str
    state: str
    error: str
    requested_ms: int
    manifest_sha256: str = ""
    entries_done: int = 0
    entries_of: int | None = None
    stns: tuple[str, ...] = ()
