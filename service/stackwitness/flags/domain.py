"""What a flag is, for every slice that speaks of flags."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

FlagState = Literal["open", "decided"]


@dataclass(frozen=True)
class Provenance:
    """Say from what a finding was made, so that it can be made again: envelopes, state, configuration.

    state_hash is that of the detectors' state before the readings were judged; both hashes are lowercase hex.
    """

    stn: str
    ep: int
    seq_first: int
    seq_last: int
    state_hash: str
    config_hash: str


@dataclass(frozen=True)
class Lapse:
    """Say that readings which came late no longer bear a flag out: its event, and the run that found so (None: none)."""

    at: datetime
    event_id: bytes
    run_id: bytes | None


@dataclass(frozen=True)
class Claim:
    """State what a test says: of which channels, of which time (Unix ms), how strongly, in both languages."""

    detector: str
    kind: str
    verdict: str
    from_ms: int
    to_ms: int
    channels: tuple[str, ...]
    e_value: float
    text_en: str
    text_zh: str


@dataclass(frozen=True)
class Flag:
    """Hold a flag as it stands now: with its latest extension and its latest decision (None = open).

    `verdict` is what its evidence has come to; `verdict_signed` what was signed when it was raised. `lapse` is None
    unless the flag has lapsed and was not told again since.
    """

    flag_id: str
    stn: str
    detector: str
    detector_version: str
    kind: str
    verdict: str
    verdict_signed: str
    from_at: datetime
    to_at: datetime
    channels: tuple[str, ...]
    e_value: float
    episode: str
    text_en: str
    text_zh: str
    raised_at: datetime
    event_id: bytes
    decision: str | None
    decided_at: datetime | None
    lapse: Lapse | None = None


@dataclass(frozen=True)
class Extension:
    """Hold one extension of a flag: the same finding, seen longer."""

    event_id: bytes
    to_at: datetime
    e_value: float


@dataclass(frozen=True)
class Cursor:
    """Stand behind a flag in the list (newest first)."""

    raised_at: datetime
    flag_id: str


def sseq_of(flag_id: str) -> int:
    """Return the place of a flag's first event on its station's subject, which its id ends with."""
    return int(flag_id.rpartition("-")[2])
