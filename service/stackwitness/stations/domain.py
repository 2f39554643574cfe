"""Stations, channels and keys as the rest of the service sees them."""

from dataclasses import asdict, dataclass
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
    """A key pinned to a station; a revoked one signs nothing any more."""

    kid: str
    stn: str
    public: PublicKey
    revoked: bool


def subject_of(stn: str) -> str:
    """Return the subject of everything that is decided about a station."""
    return f"station:{stn}"
