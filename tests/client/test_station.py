"""What the station SDK takes as readings, and that every pack it makes fits an envelope."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emdi.envelope import seal_envelope
from emdi.keys import LocalKey
from emdi.pack import STATUSES, Record
from emdi.units import UNITS
from stackwitness_client.errors import RecordError
from stackwitness_client.station import PACK_BYTES, Reading, Station, exact, instant_ms, packs, row_bytes
from tests.support.small_server import policy

AT_MS = 1_700_000_000_000
KEY = LocalKey.generate("Ed25519", "s" * 64)

values = st.none() | st.decimals(-(10**12), 10**12, allow_nan=False, allow_infinity=False, places=9)
channels = st.lists(
    st.tuples(st.text("aZ9._/:-", min_size=0, max_size=63).map("c".__add__), st.sampled_from(sorted(UNITS))),
    min_size=1, max_size=200, unique_by=lambda channel: channel[0],
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(channels, values, st.sampled_from(sorted(STATUSES)), st.integers(1, 60), st.integers(1, 99_999))
def test_every_pack_fits_its_envelope_and_nothing_is_lost(
    named: list[tuple[str, str]], value: Decimal | None, status: str, count: int, step_ms: int
) -> None:
    status = "D" if value is None and status == "N" else status
    rows = [
        [Record(name, AT_MS + place * step_ms, unit, value, status) for name, unit in named]
        for place in range(count)
    ]
    made = list(packs(rows))
    assert [record for pack in made for record in pack] == [record for row in rows for record in row]
    for pack in made[:3] + made[-1:]:
        cp = (2**53 - 1, bytes(32))
        seal_envelope(
            KEY, stn="s" * 64, ep=10**9, seq=10**12, prev=b"\x01" * 32, iat_ms=AT_MS, cp=cp, records=pack
        )


def test_rows_stay_together_where_they_fit() -> None:
    row = [Record(f"c{number}", AT_MS, "mg/m3", Decimal("1.25"), "N") for number in range(11)]
    made = list(packs([row] * 200))
    assert all(len(pack) % 11 == 0 for pack in made)
    assert max(len(pack) for pack in made) == 715
    assert 65 * row_bytes(row) < PACK_BYTES


@pytest.mark.parametrize(
    ("given_value", "number"),
    [
        ("41.20", "41.20"),
        (0.1, "0.1"),
        (7, "7"),
        (Decimal("1E+3"), "1E+3"),
        ("", None),
        (None, None),
        (1e-7, "1E-7"),
    ],
)
def test_values_are_taken_as_written(given_value: object, number: str | None) -> None:
    value = exact(given_value)  # type: ignore[arg-type]
    assert (None if value is None else str(value)) == number


@pytest.mark.parametrize("bad", ["x", "1,5", float("nan"), float("inf"), "NaN", Decimal("Infinity")])
def test_what_is_no_number_is_refused(bad: object) -> None:
    with pytest.raises(RecordError):
        exact(bad)  # type: ignore[arg-type]


def test_times_are_instants() -> None:
    china = timezone(timedelta(hours=8))
    assert instant_ms(datetime(2026, 1, 1, 8, tzinfo=china)) == instant_ms(datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(RecordError):
        instant_ms(datetime(2026, 1, 1))


def test_record_signs_and_keeps_or_keeps_nothing(tmp_path: Path) -> None:
    station = Station(tmp_path, "s1", KEY, "http://127.0.0.1:9", policy(), units={"NOX": "mg/m3"})
    sealed = station.record(
        {"NOX": "41.20", "T": Reading(300, "Cel"), "SO2": Reading(None, "mg/m3", "C")}, AT_MS
    )
    assert [(r.name, r.unit, r.status) for r in sealed.records] == [
        ("NOX", "mg/m3", "N"), ("T", "Cel", "N"), ("SO2", "mg/m3", "C"),
    ]  # fmt: skip
    for bad in ({"CO": 1}, {"NOX": None}, {"NOX": Reading(1, "furlong")}, {"N O": Reading(1, "V")}, {}):
        with pytest.raises(RecordError):
            station.record(bad, AT_MS)  # type: ignore[arg-type]
    assert station.spool.head().sealed == 1
    station.close()
