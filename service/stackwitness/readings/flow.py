"""Look up one page of a station's readings."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from stackwitness.errors import BadRequest, NotFound, Unprocessable
from stackwitness.readings import queries
from stackwitness.readings.queries import Aggregate, Key
from stackwitness.stations.queries import find_station, list_channels

MAX_ROWS = 10_000
_CURSOR = re.compile(r"([0-9]{1,16})\.([0-9]{1,9})")


@dataclass(frozen=True)
class Page:
    """Rows as answered, the cursor of the next page (None at the end), what of the period is suspect."""

    rows: list[dict[str, Any]]
    next: str | None
    suspect: list[dict[str, Any]]


def read_page(
    conn: Connection,
    stn: str,
    from_at: datetime,
    to_at: datetime,
    *,
    channels: Sequence[str] = (),
    aggregate: Aggregate = "none",
    limit: int = 1000,
    after: str | None = None,
) -> Page:
    """Return readings of [from_at, to_at), both aware; all channels when none is named.

    Raises NotFound station.unknown, Unprocessable reading.channel | query.range, BadRequest query.after.
    """
    if from_at >= to_at:
        raise Unprocessable("query.range", "from must be before to")
    names = _channel_names(conn, stn, channels)
    key = None if after is None else parse_cursor(after)
    numbers = sorted(names)
    found: Sequence[queries.Value | queries.Bucket]
    if aggregate == "none":
        found = queries.select_values(conn, numbers, from_at, to_at, limit, key)
    else:
        found = queries.select_buckets(conn, numbers, from_at, to_at, limit, aggregate, key)
    rows = [_row(item, names[item.channel_no]) for item in found]
    full = len(found) == limit
    suspects = [_suspect(one) for one in queries.select_suspects(conn, stn, from_at, to_at)]
    return Page(rows, format_cursor(found[-1].at, found[-1].channel_no) if full else None, suspects)


def parse_cursor(text: str) -> Key:
    """Return (at, channel_no) of a cursor `<unix µs>.<channel_no>`. Raises BadRequest query.after."""
    match = _CURSOR.fullmatch(text)
    at_us, channel_no = (0, 2**31) if match is None else (int(match[1]), int(match[2]))
    if match is None or channel_no >= 2**31 or at_us > 253_402_300_799_000_000:
        raise BadRequest("query.after", "after is the cursor of an earlier page")
    at = datetime.fromtimestamp(at_us // 1_000_000, UTC).replace(microsecond=at_us % 1_000_000)
    return at, channel_no


def format_cursor(at: datetime, channel_no: int) -> str:
    """Return the cursor of a row."""
    seconds = int(at.replace(microsecond=0).timestamp())
    return f"{seconds * 1_000_000 + at.microsecond}.{channel_no}"


def _channel_names(conn: Connection, stn: str, wanted: Sequence[str]) -> dict[int, str]:
    if find_station(conn, stn) is None:
        raise NotFound("station.unknown", "There is no such station")
    present = {channel.name: channel.channel_no for channel in list_channels(conn, stn)}
    unknown = [name for name in wanted if name not in present]
    if unknown:
        raise Unprocessable("reading.channel", "The station has no such channel", channel=unknown[0])
    return {present[name]: name for name in (wanted or present)}


def _row(item: queries.Value | queries.Bucket, channel: str) -> dict[str, Any]:
    row = {"channel": channel, "at": _text(item.at)}
    for name in item.__slots__:
        if name not in ("channel_no", "at"):
            row[name] = getattr(item, name)
    return row


def _suspect(one: queries.Suspect) -> dict[str, Any]:
    times = {"from": _text(one.first_at), "to": _text(one.last_at)}
    named = {"kid": one.kid, "suspect_from_idx": one.from_idx, "compromised_kid": one.compromised_kid}
    return {**named, "envelopes": one.envelopes, **times}


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
