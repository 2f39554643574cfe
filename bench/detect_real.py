"""Lead the detectors over the real plant data and print findings per station-month, with the known episodes marked.

    python bench/detect_real.py [set ...]      sets: gt, ny, prsa, embassy, yueqing, sru

The data lie where STACKWITNESS_DATA says (default ../shared/data beside the checkout).
"""

from __future__ import annotations

import csv
import gzip
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stackwitness_detectors import ChannelInfo, Context, Finding, Frame, run

DATA = Path(os.environ.get("STACKWITNESS_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
HOUR_MS = 3_600_000
START_2011 = 1_293_840_000_000

# (station, channel, from, to) as ISO hours or row numbers: episodes really in the data
KNOWN: dict[str, list[tuple[str, int, int]]] = {}
Station = tuple[Context, Frame]


def _csv(path: Path) -> dict[str, list[str]]:
    with gzip.open(path, "rt", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    return {name: [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}


def _floats(texts: list[str]) -> np.ndarray:
    return np.array([float(t) if t.strip() else np.nan for t in texts])


def _ms(iso: str) -> int:
    return int(np.datetime64(iso, "ms").astype(np.int64))


def gas_turbine() -> Iterator[Station]:
    """Give the turbine as one station: the years one after another, a row an hour."""
    roles = {
        "TEY": "load",
        "CO": "pollutant",
        "NOX": "pollutant",
        "AT": "ambient",
        "AP": "ambient",
        "AH": "ambient",
    }
    years = [_csv(DATA / "uci_gas_turbine" / f"gt_{year}.csv.gz") for year in (2011, 2012, 2013, 2014)]
    names = [n for n in years[0] if n.upper() != "YEAR"]
    channels = tuple(ChannelInfo(n, n, "mg/m3", roles.get(n, "process")) for n in names)
    values = {n: np.concatenate([_floats(year[n]) for year in years]) for n in names}
    rows = len(values[names[0]])
    at_ms = START_2011 + np.arange(rows, dtype=np.int64) * HOUR_MS
    start_2014 = rows - len(years[3][names[0]])
    KNOWN["gt"] = [("NOX hold 102 h", int(at_ms[1336]), int(at_ms[1437]))] + [
        (f"record repeat {a}", int(at_ms[start_2014 + a]), int(at_ms[start_2014 + b]))
        for a, b in ((4207, 4211), (5197, 5200))
    ]
    yield Context("gt", channels), Frame(at_ms, values)


def ny_units() -> Iterator[Station]:
    """Give 16 thermal units: load and heat input."""
    table = pq.read_table(DATA / "ny_thermal_units" / "ny_thermal_2016_2020.parquet")
    holds = (
        ("Arthur Kill ST 2", "2019-04-20T00", 109),
        ("Arthur Kill ST 2", "2019-04-09T20", 69),
        ("Arthur Kill ST 2", "2019-04-05T18", 63),
        ("East River 1", "2018-08-28T02", 49),
        ("East River 1", "2018-07-01T06", 45),
        ("Brooklyn Navy Yard", "2019-04-12T13", 48),
        ("Caithness_CC_1", "2018-01-06T01", 45),
        ("Caithness_CC_1", "2017-12-27T22", 37),
    )
    for unit, start, hours in holds:
        KNOWN.setdefault(unit, []).append(
            (f"hold {start} {hours} h", _ms(start), _ms(start) + (hours - 1) * HOUR_MS)
        )
    channels = (
        ChannelInfo("load", "load", "MW", "load", None, 1.0),
        ChannelInfo("heat_input", "heat input", "mmBtu/h", "flow"),
    )
    for unit in sorted(set(table["unit"].to_pylist())):
        part = table.filter(pc.equal(table["unit"], unit))
        at_ms = np.array(part["time"].to_numpy()).astype("datetime64[ms]").astype(np.int64)
        order = np.argsort(at_ms, kind="stable")
        values = {
            "load": part["gross_load_mw"].to_numpy().astype(float)[order],
            "heat_input": part["heat_input_mmbtu"].to_numpy().astype(float)[order],
        }
        yield Context(unit, channels), Frame(at_ms[order], values)


def _calendar(table: object) -> np.ndarray:
    y, m, d, h = (np.array(table[c].to_numpy()).astype(int) for c in ("year", "month", "day", "hour"))
    months = (y - 1970) * 12 + (m - 1)
    days = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + d - 1
    return (days * 24 + h) * HOUR_MS


def _column(table: object, name: str) -> np.ndarray:
    return np.array([np.nan if v is None or v == "NA" else float(v) for v in table[name].to_pylist()])


def prsa() -> Iterator[Station]:
    """Give eight official air stations."""
    gases = ("PM2.5", "PM10", "SO2", "NO2", "CO", "O3")
    for path in sorted((DATA / "prsa_beijing").glob("PRSA_*.parquet")):
        table = pq.read_table(path)
        names = [*gases, "TEMP", "PRES", "DEWP", "WSPM"]
        channels = tuple(ChannelInfo(n, n, "ug/m3", "pollutant" if n in gases else "ambient") for n in names)
        yield Context(path.stem, channels), Frame(_calendar(table), {n: _column(table, n) for n in names})


def embassy() -> Iterator[Station]:
    """Give three cities: the US post's PM2.5 beside the official posts."""
    for path in sorted((DATA / "embassy_pm_cities").glob("*PM_2010_2015.parquet")):
        table = pq.read_table(path)
        posts = [n for n in table.column_names if n.startswith("PM_")]
        names = [*posts, "TEMP", "PRES", "DEWP"]
        channels = tuple(ChannelInfo(n, n, "ug/m3", "pollutant" if n in posts else "ambient") for n in names)
        yield Context(path.stem[:8], channels), Frame(_calendar(table), {n: _column(table, n) for n in names})


def yueqing() -> Iterator[Station]:
    """Give the coal unit with its full set of channels, 5 minutes."""
    roles = {
        "load_mw": "load",
        "raw_o2_pct": "diluent",
        "raw_so2_mgnm3": "pollutant",
        "raw_dust_mgnm3": "pollutant",
        "clean_so2_mgnm3": "pollutant",
        "raw_flow_nm3h": "flow",
        "dry_flow_nm3h": "flow",
        "stack_velocity_ms": "flow",
        "raw_temp_c": "temperature",
        "out_temp_c": "temperature",
        "raw_press": "pressure",
        "out_press_pa": "pressure",
    }
    columns = _csv(DATA / "yueqing_fgd_cems" / "yueqing_unit1.csv.gz")
    time_name = next(iter(columns))
    at_ms = np.array([_ms(t.replace(" ", "T").replace("/", "-")) for t in columns[time_name]])
    names = [n for n in columns if n != time_name]
    channels = tuple(ChannelInfo(n, n, "1", roles.get(n, "process")) for n in names)
    keep = np.concatenate([[True], np.diff(at_ms) > 0])
    yield Context("yueqing", channels), Frame(at_ms[keep], {n: _floats(columns[n])[keep] for n in names})


def sru() -> Iterator[Station]:
    """Give the refinery's tail-gas analysers, one minute, standardised."""
    columns = _csv(DATA / "sru_tail_gas" / "sru_part1.csv.gz")
    names = list(columns)
    channels = tuple(ChannelInfo(n, n, "1", "pollutant" if "out" in n.lower() else "process") for n in names)
    rows = len(columns[names[0]])
    at_ms = START_2011 + np.arange(rows, dtype=np.int64) * 60_000
    yield Context("sru", channels), Frame(at_ms, {n: _floats(columns[n]) for n in names})


SETS = {"gt": gas_turbine, "ny": ny_units, "prsa": prsa, "embassy": embassy, "yueqing": yueqing, "sru": sru}


def judge(station: Station, verbose: bool) -> tuple[list[Finding], float, set[str]]:
    """Run one station; give first findings of episodes, station-months and the known episodes that were found."""
    context, frame = station
    began = time.perf_counter()
    result = run(context, None, frame)
    spent = time.perf_counter() - began
    months = len(np.unique(frame.at_ms // HOUR_MS)) / 720
    first = [f for f in result.findings if not f.extends]
    last = {f.episode: f for f in result.findings}
    known = KNOWN.get(context.stn, [])
    found = {
        name
        for name, start, end in known
        for f in last.values()
        if f.family in ("freeze", "copy") and f.from_ms <= end and f.to_ms >= start
    }
    counts = Counter(f.detector for f in first)
    print(
        f"{context.stn:28} {months:6.1f} months  {spent:5.1f} s  {dict(counts)}  state {len(result.state) / 1024:.0f} KB"
    )
    for f in last.values() if verbose else []:
        when = np.datetime64(f.from_ms, "ms").astype("datetime64[h]")
        print(f"    {when} e={f.e_value:.3g} [{f.verdict}] {f.text_en} ({', '.join(f.innocent[:2])})")
    for name, _, _ in known:
        print(f"    known: {name}: {'found' if name in found else 'MISSED'}")
    for note in result.notes if verbose else []:
        print(f"    cannot judge {note.detector} {note.channel}: {note.reason}")
    return first, months, found


def main(arguments: list[str]) -> None:
    """Run the sets named, all by default; -v prints every finding."""
    verbose = "-v" in arguments
    for name in [a for a in arguments if a != "-v"] or list(SETS):
        total: Counter[str] = Counter()
        all_months = 0.0
        for station in SETS[name]():
            first, months, _ = judge(station, verbose)
            total.update(f.detector for f in first)
            all_months += months
        rates = {detector: round(count / all_months, 4) for detector, count in total.most_common()}
        print(f"== {name}: {sum(total.values()) / all_months:.3f} findings a station-month: {rates}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
