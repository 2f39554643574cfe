"""Forge a station's rows before they are signed: a forger owns the logger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

import numpy as np

from emdi.pack import Record
from stackwitness.replay.options import Forgery, ReplayError
from stackwitness_client.dataset import Row
from stackwitness_client.manifest import StationSource
from stackwitness_detectors.contract import ChannelInfo, Context, DetectorError, Frame
from stackwitness_detectors.forge import forge

NORMAL = ord("N")


def forge_rows(
    source: StationSource, rows: Iterable[Row], forgeries: Sequence[Forgery], *, seed: int
) -> list[Row]:
    """Return the rows with every forgery applied in turn; what no forgery touches stays digit for digit.

    The station's whole series is held in memory. The same rows, forgeries and seed give the same result, so
    that an interrupted replay can go on. Raises ReplayError with the detectors' own code (forge.*).
    """
    honest = list(rows)
    frame = frame_of(source, honest)
    forged = frame
    for number, forgery in enumerate(forgeries):
        try:
            forged = forge(
                forgery.kind,
                forged,
                context_of(source),
                forgery.channel,
                forgery.from_ms,
                forgery.to_ms,
                strength=forgery.strength,
                seed=seed + number,
            )
        except DetectorError as error:
            raise ReplayError(error.code, f"cannot forge {source.stn}: {error}") from error
    return [_merge(source, row, place, frame, forged) for place, row in enumerate(honest)]


def context_of(source: StationSource) -> Context:
    """Return the station as detectors and forger see it."""
    return Context(
        source.stn,
        tuple(
            ChannelInfo(c.name, c.quantity, c.unit, c.role, c.limit, c.resolution) for c in source.channels
        ),
    )


def frame_of(source: StationSource, rows: Sequence[Row]) -> Frame:
    """Return the rows as arrays; absent readings are NaN with letter N."""
    at_ms = np.array([row.at_ms for row in rows], dtype=np.int64)
    values = {channel.name: np.full(len(rows), np.nan) for channel in source.channels}
    status = {channel.name: np.full(len(rows), NORMAL, dtype=np.uint8) for channel in source.channels}
    for place, row in enumerate(rows):
        for record in row.records:
            if record.value is not None:
                values[record.name][place] = float(record.value)
            status[record.name][place] = ord(record.status)
    return Frame(at_ms, values, status)


def _merge(source: StationSource, row: Row, place: int, honest: Frame, forged: Frame) -> Row:
    given = {record.name: record for record in row.records}
    records: list[Record] = []
    for channel in source.channels:
        name = channel.name
        value, letter = float(forged.values[name][place]), int(forged.status[name][place])
        before, letter_before = float(honest.values[name][place]), int(honest.status[name][place])
        unchanged = letter == letter_before and (value == before or (value != value and before != before))
        if unchanged:
            if name in given:
                records.append(given[name])
        elif value == value:
            records.append(Record(name, row.at_ms, channel.unit, Decimal(repr(value)), chr(letter)))
        elif letter != NORMAL:
            records.append(Record(name, row.at_ms, channel.unit, None, chr(letter)))
    return Row(row.at_ms, tuple(records))
