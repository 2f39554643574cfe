"""Compare each row of `reading` with the signed envelope it was decoded from."""

import struct
from datetime import datetime

import sqlalchemy as sa

from emdi.envelope import Envelope
from emdi.units import format_at
from stackwitness.log.fsck.report import Report

PG_EPOCH_US = 946_684_800_000_000  # timestamptz_send counts from 2000-01-01
# channel, time in us since 2000, status, whether there is a value, value
ROW = struct.Struct(">iqcBd")
# As ROW. Named in full, for the one who owns the database may lay functions of the same name before ours. A row with a
# null where none may be counts as one that nobody signed; an aggregate would pass it over.
_PACKED = """pg_catalog.string_agg(coalesce(
    pg_catalog.int4send(channel_no) OPERATOR(pg_catalog.||) pg_catalog.timestamptz_send(at)
    OPERATOR(pg_catalog.||) pg_catalog.charsend(status) OPERATOR(pg_catalog.||) coalesce(
        '\\x01'::pg_catalog.bytea OPERATOR(pg_catalog.||) pg_catalog.float8send(value),
        '\\x000000000000000000'::pg_catalog.bytea),
    '\\xffffffffffffffffffffffffffffffffffffffffffff'::pg_catalog.bytea), ''::pg_catalog.bytea"""
PACKED_AS_THEY_LIE = f"{_PACKED})"
_BLOBS = f"""
SELECT envelope_no, {_PACKED} ORDER BY channel_no, at) AS packed
FROM reading WHERE envelope_no >= :first AND envelope_no < :end GROUP BY envelope_no
"""
_SURPLUS = """
SELECT r.channel_no, r.at, r.envelope_no FROM reading r WHERE NOT EXISTS (
    SELECT FROM envelope v WHERE v.envelope_no = r.envelope_no AND (
        EXISTS (SELECT FROM log_entry e WHERE e.kind = 1 AND e.entry_id = v.env_id)
        OR EXISTS (SELECT FROM log_pending p WHERE p.kind = 1 AND p.entry_id = v.env_id)))
ORDER BY r.envelope_no, r.channel_no, r.at
"""
WINDOW = (
    2048  # envelope numbers read at once; a few windows are kept, for numbers and log are in nearly one order
)
WINDOWS = 4
Reading = tuple[int, int]  # channel_no, at in us since 2000
Stored = tuple[bytes, float | None]


class Projection:
    """Compare envelopes' readings in the order of the log, reading the rows by ranges of envelope numbers."""

    def __init__(self, conn: sa.Connection, channels: dict[tuple[str, str], int], report: Report) -> None:
        self._conn = conn
        self._report = report
        self._numbers = channels
        self._names = {number: name for (_, name), number in channels.items()}
        self._windows: dict[int, dict[int, bytes]] = {}
        self._seen = 0

    def check(self, idx: int | None, envelope: Envelope, envelope_no: int) -> None:
        """Compare the rows of one envelope; names each that is edited, missing or surplus."""
        packed = self._take(envelope_no)
        self._report.readings += len(envelope.records)
        self._seen += len(packed) // ROW.size
        wanted = self._pack(envelope)
        if packed != wanted:
            self._name(idx, envelope, unpack(wanted), unpack(packed))

    def pass_over(self, rows: int) -> None:
        """Count rows that were compared elsewhere and fit."""
        self._seen += rows
        self._report.readings += rows

    def close(self) -> None:
        """Name the rows of envelopes that are not in the log; looked for when there are more than were seen."""
        if self._conn.execute(sa.text("SELECT count(*) FROM reading")).scalar_one() == self._seen:
            return
        for row in self._conn.execute(sa.text(_SURPLUS).execution_options(yield_per=1000)):
            place = f"channel {self._names.get(row.channel_no, row.channel_no)} at {format_at(ms_of(row.at))}"
            text = f"{place}: the row names envelope_no {row.envelope_no}, which is not in the log"
            self._report.tamper("reading.surplus", "reading", place, text)

    def _take(self, envelope_no: int) -> bytes:
        window = envelope_no // WINDOW
        if window not in self._windows:
            bounds = {"first": window * WINDOW, "end": (window + 1) * WINDOW}
            rows = self._conn.execute(sa.text(_BLOBS), bounds)
            self._windows[window] = {row.envelope_no: bytes(row.packed) for row in rows}
            if len(self._windows) > WINDOWS:
                del self._windows[next(iter(self._windows))]
        return self._windows[window].get(envelope_no, b"")

    def _pack(self, envelope: Envelope) -> bytes:
        rows = []
        for record in envelope.records:
            number = self._numbers.get((envelope.stn, record.name), -1)
            at_us = record.at_ms * 1000 - PG_EPOCH_US
            value = 0.0 if record.value is None else float(record.value)
            rows.append((number, at_us, record.status.encode(), record.value is not None, value))
        rows.sort(key=lambda row: row[:2])
        return b"".join(ROW.pack(*row) for row in rows)

    def _name(
        self,
        idx: int | None,
        envelope: Envelope,
        wanted: dict[Reading, Stored],
        stored: dict[Reading, Stored],
    ) -> None:
        name = f"{envelope.stn}/{envelope.ep}/{envelope.seq}"
        if wanted == stored:  # a row that stands twice: the primary key was got around
            text = f"a reading of envelope {name} has more than one row"
            self._report.tamper("reading.surplus", "reading", name, text, idx)
        for reading in sorted(wanted.keys() | stored.keys()):
            signed, kept = wanted.get(reading), stored.get(reading)
            if signed == kept:
                continue
            channel = self._names.get(reading[0], f"no. {reading[0]}")
            key = f"{name} {channel} {spell(reading[1])}"
            place = f"channel {channel} at {spell(reading[1])} of envelope {name}"
            if kept is None:
                self._report.miss("reading.missing", "reading", key, f"{place} has no row", idx)
            elif signed is None:
                self._report.tamper("reading.surplus", "reading", key, f"{place} was never signed", idx)
            else:
                text = f"{place}: signed {describe(signed)}, stored {describe(kept)}"
                self._report.tamper("reading.edited", "reading", key, text, idx)


def unpack(packed: bytes) -> dict[Reading, Stored]:
    """Return (channel_no, time) -> (status, value) of packed rows."""
    return {
        (channel_no, at_us): (status, value if present else None)
        for channel_no, at_us, status, present, value in ROW.iter_unpack(packed)
    }


def spell(at_us: int) -> str:
    """Return a time of the packed rows as UTC text."""
    return format_at((at_us + PG_EPOCH_US) // 1000)


def ms_of(at: datetime) -> int:
    """Return Unix ms of a stored time."""
    return round(at.timestamp() * 1000)


def describe(stored: Stored) -> str:
    """Return value and status for people."""
    status, value = stored
    return f"{'no value' if value is None else repr(value)} ({status.decode(errors='backslashreplace')})"
