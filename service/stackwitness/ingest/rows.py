"""Rows of PostgreSQL's binary COPY, packed by hand: one struct a row, one join an envelope.

The envelope's number is known only inside the committing transaction. It is the last column, hence the same
bytes at the end of every row: `joined` puts it in when the time comes.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

from emdi.columns import Columns
from emdi.pack import STATUSES
from stackwitness.errors import Unprocessable
from stackwitness.ingest.domain import Checked, PinnedChannel

READING_COLUMNS = "at, channel_no, value, status, envelope_no"
ENVELOPE_COLUMNS = (
    "envelope_no, env_id, stn, ep, seq, kid, iat_ms, recv_ms, first_at, last_at, reading_count, jws"
)
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"
PG_EPOCH_MS = 946_684_800_000  # 2000-01-01T00:00:00Z, where PostgreSQL counts from

# Field count, then per column its length and its bytes; a null has length -1 and no bytes. What repeats from row to
# row is packed once: the time up to the next one, the channel with the length of the value, the status.
_AT = struct.Struct(">hiq")
_CHANNEL = struct.Struct(">iii")
_ROW = struct.Struct(">14s12sd5s")
_NUMBER = struct.Struct(">iq")
_STATUSES = {letter: struct.pack(">ic", 1, letter.encode("ascii")) for letter in STATUSES}


def pack_readings(columns: Columns, channels: Mapping[str, PinnedChannel]) -> list[bytes]:
    """Return one row per reading, in READING_COLUMNS order without the last column.

    Raises Unprocessable reading.channel, reading.unit, reading.finite.
    """
    numbers = [_channel_no(name, unit, channels) for name, unit in columns.series]
    pack, statuses = _ROW.pack, _STATUSES
    times = {at_ms: _AT.pack(5, 8, (at_ms - PG_EPOCH_MS) * 1000) for at_ms in set(columns.at_ms)}
    valued = [_CHANNEL.pack(4, number, 8) for number in numbers]
    null = [_CHANNEL.pack(4, number, -1) for number in numbers]
    rows = [
        times[at_ms] + null[which] + statuses[status]
        if value is None
        else pack(times[at_ms], valued[which], value, statuses[status])
        for which, at_ms, value, status in zip(
            columns.which, columns.at_ms, columns.values, columns.statuses, strict=True
        )
    ]
    if not all(map(isfinite, filter(None, columns.values))):
        raise Unprocessable("reading.finite", "A value is too large")
    return rows


def _channel_no(name: str, unit: str, channels: Mapping[str, PinnedChannel]) -> int:
    channel = channels.get(name)
    if channel is None:
        raise Unprocessable("reading.channel", "The station has no such channel", channel=name)
    if channel.unit != unit:
        raise Unprocessable(
            "reading.unit",
            "The unit is not the channel's",
            detail=f"Channel {name} is in {channel.unit}, the reading in {unit}",
            channel=name,
        )
    return channel.channel_no


def joined(rows: Sequence[bytes], envelope_no: int) -> bytes:
    """Return the rows of one envelope with its number in each."""
    number = _NUMBER.pack(8, envelope_no)
    return number.join(rows) + number


def pack_envelope(checked: Checked, envelope_no: int, recv_ms: int) -> bytes:
    """Return the row of one envelope, in ENVELOPE_COLUMNS order."""
    envelope = checked.envelope
    fields = (
        _bigint(envelope_no),
        envelope.env_id,
        envelope.stn.encode("ascii"),
        _bigint(envelope.ep),
        _bigint(envelope.seq),
        envelope.kid.encode("ascii"),
        _bigint(envelope.iat_ms),
        _bigint(recv_ms),
        _instant(checked.first_ms),
        _instant(checked.last_ms),
        len(checked.rows).to_bytes(4, "big"),
        envelope.jws,
    )
    return len(fields).to_bytes(2, "big") + b"".join(
        part for field in fields for part in (len(field).to_bytes(4, "big"), field)
    )


def copy_file(rows: Iterable[bytes]) -> bytes:
    """Return a whole binary COPY stream."""
    return b"".join((COPY_HEADER, *rows, COPY_TRAILER))


def _bigint(number: int) -> bytes:
    return number.to_bytes(8, "big", signed=True)


def _instant(at_ms: int) -> bytes:
    return _bigint((at_ms - PG_EPOCH_MS) * 1000)
