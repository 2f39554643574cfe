"""Odd episodes that are really in plant data: each must be found, told with its own numbers, and not called forgery."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from stackwitness_detectors import ChannelInfo, Context, Finding, Frame, run

HOUR_MS = 3_600_000
START_2011 = 1_293_840_000_000
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data() -> Path:
    from stackwitness.settings import Settings

    folder = Settings().data
    folder = folder if folder.is_absolute() else ROOT / folder
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder} (STACKWITNESS_DATA)")
    return folder


def iso_ms(iso: str) -> int:
    return int(np.datetime64(iso, "ms").astype(np.int64))


def last_told(findings: tuple[Finding, ...], kind: str, channel: str, from_ms: int) -> Finding:
    """Give the latest word on the episode that covers `from_ms`."""
    fits = [
        f for f in findings if f.kind == kind and channel in f.channels and f.from_ms <= from_ms <= f.to_ms
    ]
    assert fits, [(f.kind, f.text_en) for f in findings]
    return fits[-1]


def turbine(data: Path, year: int, first: int, last: int) -> tuple[Context, Frame]:
    with gzip.open(data / "uci_gas_turbine" / f"gt_{year}.csv.gz", "rt", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))[first:last]
    roles = {
        "TEY": "load",
        "CO": "pollutant",
        "NOX": "pollutant",
        "AT": "ambient",
        "AP": "ambient",
        "AH": "ambient",
    }
    names = [name for name in rows[0] if name.upper() != "YEAR"]
    channels = tuple(
        ChannelInfo(n, n, "MWh" if n == "TEY" else "mg/m3", roles.get(n, "process")) for n in names
    )
    at_ms = START_2011 + (first + np.arange(len(rows), dtype=np.int64)) * HOUR_MS
    return Context("turbine", channels), Frame(
        at_ms, {n: np.array([float(r[n]) for r in rows]) for n in names}
    )


def unit(data: Path, name: str, first: str, last: str) -> tuple[Context, Frame]:
    import pyarrow.parquet as pq

    table = pq.read_table(
        data / "ny_thermal_units" / "ny_thermal_2016_2020.parquet", filters=[("unit", "=", name)]
    ).sort_by("time")
    at_ms = table["time"].to_numpy().astype("datetime64[ms]").astype(np.int64)
    keep = (at_ms >= iso_ms(first)) & (at_ms < iso_ms(last))
    channels = (
        ChannelInfo("load", "load", "MW", "load", None, 1.0),
        ChannelInfo("heat_input", "heat input", "mmBtu/h", "flow"),
    )
    columns = {"load": "gross_load_mw", "heat_input": "heat_input_mmbtu"}
    values = {n: table[column].to_numpy().astype(float)[keep] for n, column in columns.items()}
    return Context(name, channels), Frame(at_ms[keep], values)


def test_the_turbine_of_2011_held_its_nox_for_102_hours(data: Path) -> None:
    context, frame = turbine(data, 2011, 0, 1700)
    from_ms, to_ms = START_2011 + 1336 * HOUR_MS, START_2011 + 1437 * HOUR_MS
    hold = last_told(run(context, None, frame).findings, "hold", "NOX", from_ms)
    assert hold.from_ms <= from_ms <= to_ms <= hold.to_ms
    assert (hold.numbers["hold_from_ms"], hold.numbers["hold_to_ms"]) == (from_ms, to_ms)
    assert (hold.numbers["value"], hold.numbers["hours"], hold.numbers["samples"]) == (60.38, 102.0, 102)
    assert (hold.numbers["load_low"], hold.numbers["load_high"]) == (124.17, 169.72)
    assert "stayed at 60.38 mg/m3 for 102 h while load ran 124.17-169.72 MWh" in hold.text_en
    assert "连续 102 小时停在 60.38" in hold.text_zh
    assert hold.kinds[0] == "freeze"
    assert hold.innocent[0] == "analyser_hold"


HOLDS = (
    # unit, first hour, hours, value, load, from and to of what is read
    ("Arthur Kill ST 2", "2019-04-20T00", 109, 1101.1, (95, 110), "2019-01-01", "2019-06-01"),
    ("East River 1", "2018-08-28T02", 49, 1723.9, (154, 165), "2018-06-01", "2018-10-01"),
    ("East River 1", "2018-07-01T06", 45, 1723.9, (152, 177), "2018-04-01", "2018-08-01"),
    ("Brooklyn Navy Yard", "2019-04-12T13", 48, 1198.5, (98, 104), "2019-01-01", "2019-06-01"),
    ("Caithness_CC_1", "2018-01-06T01", 45, 2160.5, (330, 338), "2017-10-01", "2018-02-15"),
)


@pytest.mark.parametrize(("name", "start", "hours", "value", "load", "first", "last"), HOLDS)
def test_heat_input_was_held_as_substitute_data(
    data: Path, name: str, start: str, hours: int, value: float, load: tuple[int, int], first: str, last: str
) -> None:
    context, frame = unit(data, name, first, last)
    from_ms = iso_ms(start)
    hold = last_told(run(context, None, frame).findings, "hold", "heat_input", from_ms)
    assert hold.to_ms >= from_ms + (hours - 1) * HOUR_MS
    assert hold.numbers["hours"] == hours
    assert float(hold.numbers["value"]) == pytest.approx(value)
    assert hold.numbers["hold_from_ms"] == from_ms
    assert f"stayed at {value} mmBtu/h for {hours} h while load ran" in hold.text_en
    assert (hold.numbers["load_low"], hold.numbers["load_high"]) == load
    assert "substitute_data" in hold.innocent[:2]


@pytest.mark.parametrize(("row", "times"), [(4207, 5), (5197, 4)])
def test_the_turbine_of_2014_repeated_whole_records(data: Path, row: int, times: int) -> None:
    first = row - 400
    context, frame = turbine(data, 2014, first, row + 60)
    at_ms = START_2011 + row * HOUR_MS
    findings = [f for f in run(context, None, frame).findings if f.family in ("copy", "freeze")]
    told = [f for f in findings if f.from_ms <= at_ms + (times - 1) * HOUR_MS and f.to_ms >= at_ms]
    assert told, [f.text_en for f in findings]
    assert any("acquisition_hold" in f.innocent for f in told)
