"""The pure parts of ingest: spans, months, COPY rows."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stackwitness.ingest.committer import months_of
from stackwitness.ingest.flow import MONTH_MS, spans_of
from stackwitness.ingest.queries import to_instant, to_ms

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
