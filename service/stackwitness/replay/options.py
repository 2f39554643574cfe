"""What a replay is asked to do, and how its forgeries are written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from stackwitness_client.errors import ClientError

TIME = r"\d{4}-\d{2}-\d{2}(?:T\d{2}(?::?\d{2}(?::?\d{2})?)?)?Z?"
FORGERY = re.compile(
    rf"(?P<kind>[a-z_]+):(?P<stn>[A-Za-z0-9._-]+):(?P<channel>[^:].*?):(?P<from>{TIME}):(?P<to>{TIME})"
    r"(?::(?P<strength>-?\d+(?:\.\d+)?))?"
)
DEFAULT_READINGS = 720


class ReplayError(ClientError):
    """Say that a replay cannot be done as asked."""


@dataclass(frozen=True)
class Forgery:
    """Forge a channel of a station in [from_ms, to_ms) before it is signed; strength None = the usual."""

    kind: str
    stn: str
    channel: str
    from_ms: int
    to_ms: int
    strength: float | None = None


@dataclass(frozen=True)
class ReplayOptions:
    """Hold what `stackwitness replay` was given; `speed` None = as fast as it goes."""

    manifest: Path
    data: Path
    home: Path
    server: str | None = None
    token: str | None = None
    approver_token: str | None = None
    speed: float | None = None
    forgeries: tuple[Forgery, ...] = ()
    stations: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    from_ms: int | None = None
    to_ms: int | None = None
    readings_per_envelope: int = DEFAULT_READINGS
    report: Path | None = None
    wait_detection: bool = True
    detection_within_s: float = 600.0
    patience_s: float = 300.0
    seed: int = 0


def parse_time(text: str) -> int:
    """Return Unix ms of a date or time in UTC (`2013-01-01`, `2013-01-01T06:30`, optional Z)."""
    try:
        if re.fullmatch(TIME, text) is None:
            raise ValueError(text)
        at = datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError as error:
        raise ReplayError("replay.time", f"{text!r} is no UTC time such as 2013-01-01T06:00") from error
    return round(at.replace(tzinfo=UTC).timestamp() * 1000)


def parse_speed(text: str) -> float | None:
    """Return the pace: "max" = None, else how many seconds of data one second of wall clock brings."""
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.0 < speed < 1e9:
        raise ReplayError("replay.speed", f"{text!r} is neither max nor a positive factor")
    return speed


def parse_forgery(text: str) -> Forgery:
    """Read KIND:STATION:CHANNEL:FROM:TO[:STRENGTH], times in UTC."""
    match = FORGERY.fullmatch(text)
    if match is None:
        raise ReplayError(
            "replay.forge", f"{text!r} is not KIND:STATION:CHANNEL:FROM:TO[:STRENGTH] with UTC times"
        )
    from_ms, to_ms = parse_time(match["from"]), parse_time(match["to"])
    if from_ms >= to_ms:
        raise ReplayError("replay.forge", f"{text!r} ends before it begins")
    strength = None if match["strength"] is None else float(match["strength"])
    return Forgery(match["kind"], match["stn"], match["channel"], from_ms, to_ms, strength)
