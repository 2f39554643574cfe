"""Read the rows a manifest describes from CSV and Parquet files, exactly as written, a batch at a time.

Parquet columns are turned into text by Arrow, which writes the shortest decimal that gives back the stored
float (float32 as float32); from there on both kinds of file take the same road.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, DecimalException, InvalidOperation
from fnmatch import fnmatch
from pathlib import Path

from emdi.pack import MAX_AT_MS, MIN_AT_MS, Record
from stackwitness_client.errors import ManifestError
from stackwitness_client.manifest import ChannelSource, StationSource

NO_VALUE = frozenset({"", "nan", "NaN", "NAN", "NA", "null"})
PARQUET_BATCH_ROWS = 8192

Cells = Sequence[str]


@dataclass
class Tally:
    """Count what was read and what was left out, and why."""

    rows: int = 0
    rows_without_time: int = 0
    rows_repeated_time: int = 0
    rows_outside: int = 0
    readings: int = 0
    values_missing: int = 0


@dataclass(frozen=True)
class Row:
    """Hold the readings of one instant."""

    at_ms: int
    records: tuple[Record, ...]


def find_files(source: StationSource, data: Path, only: Sequence[str] = ()) -> list[Path]:
    """Return the station's files in reading order; `data` is the folder of all data sets or this one's own.

    Every pattern of the manifest must match; `only` (file name patterns) then narrows the choice.
    """
    folder = data / source.folder if (data / source.folder).is_dir() else data
    found: list[Path] = []
    for pattern in source.files:
        where = f"stations.{source.stn}.files"
        try:
            matches = sorted(folder.glob(pattern))
        except (ValueError, IndexError, NotImplementedError, OSError) as error:
            message = f"{pattern!r} is no pattern of file names: {error}"
            raise ManifestError("manifest.file", source.manifest, where, message) from error
        if not matches:
            raise ManifestError("data.missing", source.manifest, where, f"no {folder / pattern}")
        found += [path for path in matches if path not in found]
    chosen = [path for path in found if not only or any(fnmatch(path.name, pattern) for pattern in only)]
    if not chosen:
        raise ManifestError(
            "data.none_chosen", source.manifest, f"stations.{source.stn}.files", f"none matches {only}"
        )
    return chosen


def read_rows(
    source: StationSource,
    data: Path,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    only: Sequence[str] = (),
    tally: Tally | None = None,
) -> Iterator[Row]:
    """Yield the station's rows with from_ms <= at < to_ms, times strictly increasing; memory holds one batch.

    Raises ManifestError naming file and line for a cell that is not what the manifest says.
    """
    tally = tally if tally is not None else Tally()
    read = _RowReader(source)
    latest: int | None = None
    for path in find_files(source, data, only):
        read.open(path)
        for line, cells in _texts(path, read.columns, source.rows):
            tally.rows += 1
            at_ms = read.at_ms(cells, line)
            if at_ms is None:
                tally.rows_without_time += 1
                continue
            if not MIN_AT_MS <= at_ms <= MAX_AT_MS:
                raise ManifestError(
                    "data.time", path, f"line {line}", "the time lies before 1978 or after 9999"
                )
            if latest is not None and at_ms <= latest:
                if not source.skip_repeated_time:
                    raise ManifestError("data.time", path, f"line {line}", "time does not increase")
                tally.rows_repeated_time += 1
                continue
            latest = at_ms
            if (from_ms is not None and at_ms < from_ms) or (to_ms is not None and at_ms >= to_ms):
                tally.rows_outside += 1
                continue
            records = read.records(cells, at_ms, line)
            tally.readings += len(records)
            tally.values_missing += len(source.channels) - len(records)
            if records:
                yield Row(at_ms, records)


class _RowReader:
    """Turn one row's cells into time and records."""

    def __init__(self, source: StationSource) -> None:
        self._source = source
        columns = [*source.time.columns, *(channel.column for channel in source.channels)]
        columns += [channel.status.column for channel in source.channels if channel.status]
        self.columns = tuple(dict.fromkeys(columns))
        place = {column: number for number, column in enumerate(self.columns)}
        self._time_at = tuple(place[column] for column in source.time.columns)
        self._channels = [
            (channel, place[channel.column], place[channel.status.column] if channel.status else -1,
             _missing_numbers(channel))
            for channel in source.channels
        ]  # fmt: skip
        self._path = Path()
        self._start_ms = source.time.start_ms or 0
        self._steps = 0

    def open(self, path: Path) -> None:
        self._path = path
        if not self._source.time.starts:
            return
        for pattern, start_ms in self._source.time.starts:
            if fnmatch(path.name, pattern):
                self._start_ms, self._steps = start_ms, 0
                return
        raise ManifestError(
            "manifest.time",
            self._source.manifest,
            f"stations.{self._source.stn}.time.starts",
            f"none for {path.name}",
        )

    def at_ms(self, cells: Cells, line: int) -> int | None:
        rule = self._source.time
        if rule.step_ms:
            self._steps += 1
            return self._start_ms + (self._steps - 1) * rule.step_ms
        texts = [cells[place].strip() for place in self._time_at]
        if any(text in NO_VALUE for text in texts):
            if self._source.skip_missing_time:
                return None
            raise ManifestError("data.time", self._path, f"line {line}", "has no time")
        try:
            if len(texts) == 1:
                return self._source.local_ms(datetime.fromisoformat(texts[0]))
            year, month, day, hour, minute, second = [*(int(Decimal(text)) for text in texts), 0, 0, 0][:6]
            at = datetime(year, month, day, hour, minute, second)
            return self._source.local_ms(at)
        except (ValueError, InvalidOperation, OverflowError) as error:
            raise ManifestError("data.time", self._path, f"line {line}", f"{texts} is no time") from error

    def records(self, cells: Cells, at_ms: int, line: int) -> tuple[Record, ...]:
        records: list[Record] = []
        for channel, place, status_place, missing in self._channels:
            status = self._status(channel, cells[status_place], line) if channel.status else "N"
            value = self._value(channel, cells[place], missing, line)
            if value is None and status == "N":
                if channel.when_missing is None:
                    continue
                status = channel.when_missing
            records.append(Record(channel.name, at_ms, channel.unit, value, status))
        return tuple(records)

    def _status(self, channel: ChannelSource, cell: str, line: int) -> str:
        assert channel.status is not None
        try:
            return channel.status.codes[cell.strip()]
        except KeyError:
            where = f"line {line}, column {channel.status.column}"
            raise ManifestError(
                "data.status", self._path, where, f"status code {cell!r} is not listed"
            ) from None

    def _value(
        self, channel: ChannelSource, cell: str, missing: frozenset[Decimal], line: int
    ) -> Decimal | None:
        text = cell.strip()
        if text in NO_VALUE or text in channel.missing:
            return None
        try:
            value = Decimal(text)
        except InvalidOperation:
            value = Decimal("NaN")
        if not value.is_finite():
            where = f"line {line}, column {channel.column}"
            raise ManifestError("data.number", self._path, where, f"{cell!r} is no number")
        if value in missing:
            return None
        try:
            return value if channel.scale is None else value * channel.scale
        except DecimalException as error:
            where = f"line {line}, column {channel.column}"
            message = f"{cell!r} times {channel.scale} is too large or too small"
            raise ManifestError("data.number", self._path, where, message) from error


def _missing_numbers(channel: ChannelSource) -> frozenset[Decimal]:
    """Return the missing codes that are numbers, so that -9999 also covers a file's -9999.0."""
    numbers: set[Decimal] = set()
    for code in channel.missing:
        try:
            number = Decimal(code)
        except InvalidOperation:
            continue
        if number.is_finite():
            numbers.add(number)
    return frozenset(numbers)


def _texts(
    path: Path, columns: Sequence[str], filters: Sequence[tuple[str, str]]
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells of `columns` as text) of the rows whose filter columns have the given texts."""
    read: Callable[[Path, Sequence[str], Sequence[tuple[str, str]]], Iterator[tuple[int, list[str]]]]
    read = _parquet_texts if path.suffix == ".parquet" else _csv_texts
    try:
        yield from read(path, columns, filters)
    except (OSError, EOFError, csv.Error, UnicodeDecodeError, zlib.error) as error:
        raise ManifestError("data.read", path, "", str(error)) from error


def _places(path: Path, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    for column in columns:
        if column not in header:
            raise ManifestError("data.column", path, f"column {column}", f"the file has {', '.join(header)}")
        if header.count(column) > 1:
            raise ManifestError("data.column", path, f"column {column}", "the file has it more than once")
    return [header.index(column) for column in columns]


def _csv_texts(
    path: Path, columns: Sequence[str], filters: Sequence[tuple[str, str]]
) -> Iterator[tuple[int, list[str]]]:
    with (
        gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as opened,
        io.TextIOWrapper(opened, encoding="utf-8-sig", newline="") as stream,
    ):
        lines = csv.reader(stream, strict=True)
        header = next(lines, [])
        places = _places(path, header, columns)
        wanted = list(zip(_places(path, header, [column for column, _ in filters]), filters, strict=True))
        for cells in lines:
            if not cells:
                continue
            if len(cells) != len(header):
                message = f"{len(cells)} cells where the header has {len(header)}"
                raise ManifestError("data.cells", path, f"line {lines.line_num}", message)
            if all(cells[place] == text for place, (_, text) in wanted):
                yield lines.line_num, [cells[place] for place in places]


def _parquet_texts(
    path: Path, columns: Sequence[str], filters: Sequence[tuple[str, str]]
) -> Iterator[tuple[int, list[str]]]:
    try:
        # Only stations that read Parquet need pyarrow; a bare install does not have it.
        import pyarrow as arrow
        import pyarrow.compute as compute
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ManifestError("data.pyarrow", path, "", "Parquet needs pyarrow: pip install pyarrow") from error
    try:
        with parquet.ParquetFile(path) as file:
            names = [*columns, *(column for column, _ in filters)]
            _places(path, file.schema_arrow.names, names)
            first = 1
            for batch in file.iter_batches(PARQUET_BATCH_ROWS, columns=list(dict.fromkeys(names))):
                table = arrow.Table.from_batches([batch])
                texts = {name: compute.cast(table[name], arrow.large_string()) for name in table.column_names}
                lines = arrow.array(range(first, first + batch.num_rows))
                first += batch.num_rows
                keep = None
                for column, text in filters:
                    equal = compute.fill_null(compute.equal(texts[column], text), False)
                    keep = equal if keep is None else compute.and_(keep, equal)
                picked = [lines, *(texts[column] for column in columns)]
                if keep is not None:
                    picked = [column.filter(keep) for column in picked]
                lists = [column.to_pylist() for column in picked]
                for line, *cells in zip(*lists, strict=True):
                    yield line, [cell or "" for cell in cells]
    except arrow.ArrowException as error:
        raise ManifestError("data.parquet", path, "", str(error)) from error
