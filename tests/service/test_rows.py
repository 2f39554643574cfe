"""The pure parts of ingest: spans, months, COPY rows; and the cache of tiles."""

import struct
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine

from emdi.columns import Columns
from stackwitness.ingest.committer import months_of
from stackwitness.ingest.domain import PinnedChannel
from stackwitness.ingest.flow import MONTH_MS, spans_of
from stackwitness.ingest.queries import to_instant, to_ms
from stackwitness.ingest.rows import joined, pack_readings
from stackwitness.log import reader

TIMES = st.integers(2**28 * 1000, 253_402_300_799_999)


@given(st.lists(TIMES, min_size=1, max_size=40))
def test_spans_cover_every_time_and_no_long_gap(times: list[int]) -> None:
    spans = spans_of(times, min(times), max(times))
    assert all(any(first <= at <= last for first, last in spans) for at in times)
    assert {first for first, _ in spans} | {last for _, last in spans} <= set(times)
    assert all(right[0] - left[1] > MONTH_MS for left, right in pairwise(spans))


@given(TIMES, st.integers(0, 400 * 86_400_000))
def test_months_are_those_of_every_day_between(first_ms: int, length_ms: int) -> None:
    last_ms = min(first_ms + length_ms, 253_402_300_799_999)
    first, last = to_instant(first_ms), to_instant(last_ms)
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    assert months_of(first_ms, last_ms) == {(at.year, at.month) for at in (*days, last)}


@given(TIMES)
def test_milliseconds_survive_the_calendar(at_ms: int) -> None:
    at = to_instant(at_ms)
    assert at - datetime(1970, 1, 1, tzinfo=UTC) == timedelta(milliseconds=at_ms)
    assert to_ms(at) == at_ms


@given(
    st.lists(
        st.tuples(st.integers(0, 1), TIMES, st.none() | st.floats(allow_nan=False, allow_infinity=False))
    )
)
def test_rows_are_what_the_copy_format_says(readings: list[tuple[int, int, float | None]]) -> None:
    """PostgreSQL's manual, COPY, binary format: a field count, then per field its length and its bytes."""
    channels = {"a": PinnedChannel(7, "%"), "b": PinnedChannel(2**31 - 1, "K")}
    which, times, values = (
        (list(column) for column in zip(*readings, strict=True)) if readings else ([], [], [])
    )
    columns = Columns((("b", "K"), ("a", "%")), which, times, values, ["M"] * len(readings))
    expected = [
        b"".join(
            (
                struct.pack(">h", 5),
                struct.pack(">iq", 8, (at_ms - 946_684_800_000) * 1000),
                struct.pack(">ii", 4, (2**31 - 1, 7)[place]),
                struct.pack(">i", -1) if value is None else struct.pack(">id", 8, value),
                struct.pack(">ic", 1, b"M"),
                struct.pack(">iq", 8, 99),
            )
        )
        for place, at_ms, value in readings
    ]
    rows = pack_readings(columns, channels)
    assert len(rows) == len(readings)
    if rows:
        assert joined(rows, 99) == b"".join(expected)


def test_cached_tiles_weigh_no_more_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CACHED_BYTES", 300)
    paths = [f"tile/{kind}/00{n}" for n in range(5) for kind in ("0", "entries")]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(path.encode() + bytes(100))
    log = reader.LogReader(tmp_path, create_engine("postgresql+psycopg://"))
    assert all(log.file(path).startswith(path.encode()) for path in (*paths, *paths))
    for path in paths:
        (tmp_path / path).unlink()
    assert log.file("tile/0/004").startswith(b"tile/0/004")
    for path in ("tile/0/000", "tile/entries/004"):
        with pytest.raises(FileNotFoundError):
            log.file(path)
