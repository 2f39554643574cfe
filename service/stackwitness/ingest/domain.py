"""Envelopes on their way in, and what was decided about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from emdi.chain import StationHead
from emdi.envelope import Envelope
from emdi.keys import PublicKey
from stackwitness.errors import StackwitnessError


class PinnedKey(NamedTuple):
    """A key of a station, as ingest needs it."""

    public: PublicKey
    revoked: bool


class PinnedChannel(NamedTuple):
    """A channel of a station, as ingest needs it."""

    channel_no: int
    unit: str


@dataclass(frozen=True, slots=True)
class Roster:
    """The keys and channels of one station.

    `version` is the sseq of the station's last event: every change of keys or channels is an event, so an
    equal version means an equal roster.
    """

    stn: str
    version: int
    keys: Mapping[str, PinnedKey]
    channels: Mapping[str, PinnedChannel]


class Standing(NamedTuple):
    """Where a station stands inside the committing transaction, its row locked."""

    version: int
    head: StationHead | None
    last_ms: int | None


@dataclass(frozen=True, slots=True)
class Checked:
    """An envelope whose form, signature, clock and readings hold; `rows` are its COPY rows (see rows.py).

    `spans` are the stretches of time [first, last] ms that its readings cover, without the long gaps between.
    """

    envelope: Envelope
    rows: list[bytes]
    first_ms: int
    last_ms: int
    spans: tuple[tuple[int, int], ...]


class Kept(NamedTuple):
    """An envelope that the service holds."""

    env_id: bytes
    ep: int
    seq: int
    readings: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why line `line` (from 1) was refused; the lines before it stand, those after it were not looked at."""

    line: int
    error: StackwitnessError


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one submission: newly stored, known before, and the first refusal if any."""

    stored: tuple[Kept, ...] = ()
    known: tuple[Kept, ...] = ()
    failure: Failure | None = None
