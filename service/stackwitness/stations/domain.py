"""Stations, channels and keys as the rest of the service sees them."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from emdi.keys import Alg, PublicKey

ChannelRole = Literal[
    "pollutant", "load", "diluent", "flow", "temperature", "pressure", "moisture", "ambient", "process"
]


@dataclass(frozen=True)
class Channel:
    """One measured quantity; `limit` and `resolution` are in the channel's own unit, None when unknown."""

    name: str
    quantity: str
    unit: str
    role: ChannelRole
    limit: float | None = None
    resolution: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the members as they stand in events and answers."""
        return asdict(self)


@dataclass(frozen=True)
class StoredChannel(Channel):
    """A channel with the number its readings are stored under."""

    channel_no: int = 0


@dataclass(frozen=True)
class Station:
    """A monitored stack; `lat`, `lon` in degrees, `utc_offset_min` for rendering local time only."""

    stn: str
    name: str
    agency: str
    industry: str
    lat: float | None = None
    lon: float | None = None
    utc_offset_min: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the members as they stand in events and answers."""
        return asdict(self)


@dataclass(frozen=True)
class NewKey:
    """A public key offered for a station; `proof` is a JWS made with its secret half."""

    kid: str
    alg: Alg
    raw: bytes
    proof: str


@dataclass(frozen=True)
class StationKey:
    """A key pinned to a station; a revoked one signs nothing any more.

    One declared compromised has `suspect_from_idx`; those that follow it are suspect too, see Suspicion.
    """

    kid: str
    stn: str
    public: PublicKey
    revoked: bool
    suspect_from_idx: int | None = None


@dataclass(frozen=True)
class Suspicion:
    """What a key signed at log index `from_idx` and later is suspect: `compromised_kid` is it, or a key it follows."""

    kid: str
    from_idx: int
    compromised_kid: str


@dataclass(frozen=True)
class KeyRequest:
    """A key one officer asked for; `event_id` is that act, `account_id` who asked."""

    kid: str
    stn: str
    public: PublicKey
    proof: str
    account_id: str
    event_id: bytes


@dataclass(frozen=True)
class Limit:
    """A channel's limit from a time on (None: none); `from_at` None for the one it was registered with.

    `why` is None where this database does not hold the words (made again from the log, which has their hash alone).
    """

    value: float | None
    from_at: datetime | None
    why: str | None = ""


@dataclass(frozen=True)
class Epoch:
    """An epoch that followed another; `acknowledged_by` names the inspector who looked at it, None so far."""

    stn: str
    ep: int
    prev_ep: int
    env_id: bytes
    opened_ms: int
    acknowledged_by: str | None


def subject_of(stn: str) -> str:
    """Return the subject of everything that is decided about a station."""
    return f"station:{stn}"
