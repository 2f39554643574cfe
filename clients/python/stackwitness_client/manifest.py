"""Read `stations.toml`: which columns of which files are which channels of which station.

The format is described in docs/manifest.md.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

from emdi.units import UNITS
from stackwitness_client.errors import ManifestError

FILE_NAME = "stations.toml"
ROLES = frozenset(
    {"pollutant", "load", "diluent", "flow", "temperature", "pressure", "moisture", "ambient", "process"}
)
STATUSES = frozenset("NFMSDCTBHR")
STN = re.compile(r"[A-Za-z0-9._-]{1,64}")
CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,63}")
VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")

DATASET_KEYS = {"title", "folder", "agency"}
STATION_KEYS = {
    "stn", "name", "agency", "industry", "lat", "lon", "utc_offset_min", "files", "rows", "time", "channels",
    "status", "missing", "when_missing", "repeated_time", "missing_time", "for",
}  # fmt: skip
CHANNEL_KEYS = {
    "column", "name", "quantity", "unit", "role", "limit", "resolution", "scale", "missing", "when_missing",
    "status",
}  # fmt: skip
TIME_KEYS = {"column", "columns", "start", "starts", "step_s"}


@dataclass(frozen=True)
class StatusRule:
    """Map the codes of a column to status letters; a code that is not listed is an error."""

    column: str
    codes: Mapping[str, str]


@dataclass(frozen=True)
class ChannelSource:
    """Describe one channel: its column, and what the registry of the server is told."""

    column: str
    name: str
    quantity: str
    unit: str
    role: str
    limit: float | None
    resolution: float | None
    scale: Decimal | None
    missing: frozenset[str]
    when_missing: str | None
    status: StatusRule | None

    def registration(self) -> dict[str, Any]:
        """Return the channel as POST /v1/stations takes it."""
        return {
            "name": self.name,
            "quantity": self.quantity,
            "unit": self.unit,
            "role": self.role,
            "limit": self.limit,
            "resolution": self.resolution,
        }


@dataclass(frozen=True)
class TimeRule:
    """Say where a row's time comes from: one column, year/month/day/hour columns, or a start and a step.

    With a step, `starts` maps file name patterns to the time of the first row of that file; a single `start`
    counts on through all files.
    """

    columns: tuple[str, ...] = ()
    start_ms: int | None = None
    starts: tuple[tuple[str, int], ...] = ()
    step_ms: int = 0


@dataclass(frozen=True)
class StationSource:
    """Describe one station and the rows that are its own."""

    manifest: Path
    folder: str
    stn: str
    name: str
    agency: str
    industry: str
    lat: float | None
    lon: float | None
    utc_offset_min: int
    files: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    time: TimeRule
    channels: tuple[ChannelSource, ...]
    skip_repeated_time: bool
    skip_missing_time: bool

    def registration(self) -> dict[str, Any]:
        """Return the station as POST /v1/stations takes it."""
        return {
            "stn": self.stn,
            "name": self.name,
            "agency": self.agency,
            "industry": self.industry,
            "lat": self.lat,
            "lon": self.lon,
            "utc_offset_min": self.utc_offset_min,
            "channels": [channel.registration() for channel in self.channels],
        }

    def local_ms(self, at: datetime) -> int:
        """Return Unix ms of a time; one without a zone is local time of the station."""
        return local_ms(at, self.utc_offset_min)


@dataclass(frozen=True)
class Manifest:
    """Hold a data set's title and its stations."""

    path: Path
    title: str
    stations: tuple[StationSource, ...]


def local_ms(at: datetime, utc_offset_min: int) -> int:
    """Return Unix ms of a time; without a zone it is local at the given offset."""
    if at.tzinfo is None:
        at = at.replace(tzinfo=timezone(timedelta(minutes=utc_offset_min)))
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def load_manifest(path: Path) -> Manifest:
    """Read and check a manifest (a file, or a folder holding `stations.toml`); raises ManifestError."""
    path = path / FILE_NAME if path.is_dir() else path
    try:
        with path.open("rb") as stream:
            document = tomllib.load(stream)
    except OSError as error:
        raise ManifestError("manifest.read", path, "", error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError("manifest.toml", path, "", str(error)) from error
    root = _Table(path, "", document)
    root.only({"dataset", "defaults", "stations"})
    dataset = root.table("dataset", required=True)
    dataset.only(DATASET_KEYS)
    folder = _inside(dataset, "folder", dataset.text("folder", ""))
    common = {"agency": dataset.text("agency", "unknown"), **root.table("defaults").entries}
    stations: list[StationSource] = []
    for table in root.tables("stations"):
        for entries in _each(table):
            stations.append(_station(_Table(path, table.where, {**common, **entries}), folder))
    if not stations:
        raise ManifestError("manifest.empty", path, "stations", "no station is described")
    seen: set[str] = set()
    for station in stations:
        if station.stn in seen:
            raise ManifestError("manifest.duplicate", path, f"stations.{station.stn}", "described twice")
        seen.add(station.stn)
    return Manifest(path, dataset.text("title"), tuple(stations))


def _each(table: _Table) -> Iterator[dict[str, Any]]:
    """Yield the station's entries once per row of its `for` list, with {variables} replaced."""
    entries = {key: value for key, value in table.entries.items() if key != "for"}
    if "for" not in table.entries:
        yield entries
        return
    for variables in table.tables("for"):

        def insert(match: re.Match[str], variables: _Table = variables) -> str:
            if match[1] not in variables.entries:
                raise variables.fault("manifest.variable", match[1], "the row of `for` does not give it")
            return str(variables.entries[match[1]])

        yield {key: _fill(value, insert) for key, value in entries.items()}


def _fill(value: Any, insert: Any) -> Any:
    if isinstance(value, str):
        return VARIABLE.sub(insert, value)
    if isinstance(value, list):
        return [_fill(item, insert) for item in value]
    if isinstance(value, dict):
        return {key: _fill(item, insert) for key, item in value.items()}
    return value


def _station(table: _Table, folder: str) -> StationSource:
    table.only(STATION_KEYS)
    stn = table.text("stn")
    if not STN.fullmatch(stn):
        raise table.fault("manifest.stn", "stn", f"{stn!r} is no station name ({STN.pattern})")
    table = _Table(table.path, f"stations.{stn}", table.entries)
    offset = table.integer("utc_offset_min", 0)
    if not -840 <= offset <= 840:
        raise table.fault("manifest.utc_offset", "utc_offset_min", f"{offset} is no offset in minutes")
    files = tuple(table.texts("files"))
    for name in files:
        _inside(table, "files", name)
        if not PurePosixPath(name).parts:
            raise table.fault("manifest.file", "files", f"{name!r} names no file")
    channels = tuple(_channel(table, channel) for channel in table.tables("channels"))
    names = [channel.name for channel in channels]
    if not channels or len(set(names)) != len(names):
        raise table.fault("manifest.channels", "channels", "at least one channel, and each name once")
    rows = table.table("rows").entries
    return StationSource(
        table.path, folder, stn, table.text("name", stn), table.text("agency"), table.text("industry"),
        table.number("lat"), table.number("lon"), offset, files,
        tuple((column, str(value)) for column, value in rows.items()),
        _time(table.table("time", required=True), offset),
        channels,
        table.choice("repeated_time", ("refuse", "skip")) == "skip",
        table.choice("missing_time", ("refuse", "skip")) == "skip",
    )  # fmt: skip


def _inside(table: _Table, key: str, name: str) -> str:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise table.fault("manifest.file", key, f"{name!r} leaves the data folder")
    return name


def _time(table: _Table, utc_offset_min: int) -> TimeRule:
    table.only(TIME_KEYS)
    given = [key for key in ("column", "columns", "start", "starts") if key in table.entries]
    if len(given) != 1:
        raise table.fault("manifest.time", "", "give exactly one of column, columns, start, starts")
    if given[0] == "column":
        return TimeRule(columns=(table.text("column"),))
    if given[0] == "columns":
        columns = tuple(table.texts("columns"))
        if not 3 <= len(columns) <= 6:
            raise table.fault("manifest.time", "columns", "year, month, day and then hour, minute, second")
        return TimeRule(columns=columns)
    step_s = table.number("step_s")
    if step_s is None or step_s < 0.001:
        raise table.fault("manifest.time", "step_s", "a start needs its step in seconds")
    if given[0] == "start":
        return TimeRule(start_ms=table.instant("start", utc_offset_min), step_ms=round(step_s * 1000))
    starts = table.table("starts")
    each = tuple((pattern, starts.instant(pattern, utc_offset_min)) for pattern in starts.entries)
    return TimeRule(starts=each, step_ms=round(step_s * 1000))


def _channel(station: _Table, table: _Table) -> ChannelSource:
    table.only(CHANNEL_KEYS)
    column = table.text("column")
    name = table.text("name", column)
    table = _Table(table.path, f"{station.where}.channels.{name}", table.entries)
    if not CHANNEL.fullmatch(name):
        raise table.fault("manifest.channel", "name", f"{name!r} is no channel name ({CHANNEL.pattern})")
    if (unit := table.text("unit")) not in UNITS:
        raise table.fault("manifest.unit", "unit", f"{unit!r} is no unit of emdi.units")
    scale = table.entries.get("scale")
    status = table if "status" in table.entries else station
    when_missing = table.text("when_missing", station.text("when_missing", "")) or None
    if when_missing is not None and (when_missing not in STATUSES or when_missing == "N"):
        raise table.fault(
            "manifest.status", "when_missing", f"{when_missing!r} is no status of a missing value"
        )
    return ChannelSource(
        column, name, table.text("quantity"), unit, table.choice("role", tuple(sorted(ROLES)), required=True),
        table.number("limit"), table.number("resolution"),
        None if scale is None else Decimal(repr(table.number("scale"))),
        frozenset(str(code) for code in [*station.items("missing"), *table.items("missing")]),
        when_missing, _status(status.table("status")) if "status" in status.entries else None,
    )  # fmt: skip


def _status(table: _Table) -> StatusRule:
    table.only({"column", "codes"})
    codes = {str(code): str(letter) for code, letter in table.table("codes", required=True).entries.items()}
    for code, letter in codes.items():
        if letter not in STATUSES:
            raise table.fault("manifest.status", f"codes.{code}", f"{letter!r} is no status letter")
    return StatusRule(table.text("column"), codes)


class _Table:
    """Read one TOML table; every fault names the file and the key."""

    def __init__(self, path: Path, where: str, entries: Mapping[str, Any]) -> None:
        self.path, self.where, self.entries = path, where, entries

    def fault(self, code: str, key: str, message: str) -> ManifestError:
        return ManifestError(code, self.path, ".".join(part for part in (self.where, key) if part), message)

    def only(self, known: set[str]) -> None:
        for key in self.entries:
            if key not in known:
                raise self.fault("manifest.key", key, "no such key")

    def _typed(self, key: str, kinds: tuple[type, ...], what: str) -> Any:
        value = self.entries[key]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.fault("manifest.type", key, f"must be {what}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        if key not in self.entries:
            if default is None:
                raise self.fault("manifest.missing", key, "is required")
            return default
        return str(self._typed(key, (str,), "text"))

    def choice(self, key: str, choices: tuple[str, ...], *, required: bool = False) -> str:
        value = self.text(key, None if required else choices[0])
        if value not in choices:
            raise self.fault("manifest.choice", key, f"must be one of {', '.join(choices)}")
        return value

    def integer(self, key: str, default: int) -> int:
        return int(self._typed(key, (int,), "a whole number")) if key in self.entries else default

    def number(self, key: str) -> float | None:
        if key not in self.entries:
            return None
        try:
            value = float(self._typed(key, (int, float), "a number"))
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise self.fault("manifest.type", key, "must be a finite number")
        return value

    def items(self, key: str) -> list[Any]:
        return list(self._typed(key, (list,), "a list")) if key in self.entries else []

    def texts(self, key: str) -> list[str]:
        values = self.items(key)
        if not values or not all(isinstance(value, str) for value in values):
            raise self.fault("manifest.type", key, "must be a list of texts, at least one")
        return values

    def table(self, key: str, *, required: bool = False) -> _Table:
        if key not in self.entries and not required:
            return _Table(self.path, key, {})
        where = ".".join(part for part in (self.where, key) if part)
        if key not in self.entries:
            raise self.fault("manifest.missing", key, "is required")
        return _Table(self.path, where, self._typed(key, (dict,), "a table"))

    def tables(self, key: str) -> list[_Table]:
        values = self.items(key)
        if not all(isinstance(value, dict) for value in values):
            raise self.fault("manifest.type", key, "must be a list of tables")
        where = ".".join(part for part in (self.where, key) if part)
        return [_Table(self.path, f"{where}[{number}]", value) for number, value in enumerate(values)]

    def instant(self, key: str, utc_offset_min: int) -> int:
        value = self.entries.get(key)
        try:
            at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        except ValueError as error:
            raise self.fault("manifest.time", key, f"{value!r} is no time") from error
        return local_ms(at, utc_offset_min)
