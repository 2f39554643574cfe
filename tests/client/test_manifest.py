"""Manifests say what they mean or fail naming file and place; what is read is what the files say."""

from __future__ import annotations

import gzip
import struct
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emdi.pack import Record
from stackwitness_client.dataset import Row, Tally, find_files, read_rows
from stackwitness_client.errors import ManifestError
from stackwitness_client.manifest import Manifest, load_manifest

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
[dataset]
title = "Test"
[defaults]
industry = "power"
"""
CHANNELS = (
    'channels = [{ column = "v", name = "NOX", quantity = "NOx", unit = "mg/m3", role = "pollutant" }]\n'
)
STATION = f'[[stations]]\nstn = "s1"\nfiles = ["a.csv"]\ntime = {{ column = "t" }}\n{CHANNELS}'


def manifest_of(folder: Path, text: str, head: str = HEAD) -> Manifest:
    (folder / "stations.toml").write_text(head + text, "utf-8")
    return load_manifest(folder)


def rows_of(folder: Path, text: str, csv: str, head: str = HEAD) -> list[Row]:
    (folder / "a.csv").write_text(csv, "utf-8")
    manifest = manifest_of(folder, text, head)
    return list(read_rows(manifest.stations[0], folder))


def timed(rule: str) -> str:
    return STATION.replace('column = "t"', rule)


def with_channel(more: str) -> str:
    return STATION.replace('role = "pollutant"', f'role = "pollutant", {more}')


LOAD = '{ column = "w", name = "NOX", quantity = "q", unit = "1", role = "load" }'
CODES = '[stations.status]\ncolumn = "s"\ncodes = '
FAULTS = {
    "no toml": ("[[stations", "manifest.toml", ""),
    "no stations": ("", "manifest.empty", "stations"),
    "unknown key": (STATION + "colour = 1\n", "manifest.key", "colour"),
    "unknown channel key": (STATION.replace("role =", "rôle = 'x', role ="), "manifest.toml", ""),
    "misspelt channel key": (STATION.replace("quantity", "quantty"), "manifest.key", "quantty"),
    "no stn": (STATION.replace('stn = "s1"\n', ""), "manifest.missing", "stn"),
    "bad stn": (STATION.replace('"s1"', '"s 1"'), "manifest.stn", "stn"),
    "stn twice": (STATION + STATION, "manifest.duplicate", "s1"),
    "no files": (STATION.replace('["a.csv"]', "[]"), "manifest.type", "files"),
    "file outside": (STATION.replace("a.csv", "../a.csv"), "manifest.file", "files"),
    "absolute file": (STATION.replace("a.csv", "/a.csv"), "manifest.file", "files"),
    "empty file name": (STATION.replace("a.csv", ""), "manifest.file", "files"),
    "no file name": (STATION.replace("a.csv", "."), "manifest.file", "files"),
    "no time": (STATION.replace("time =", "rows ="), "manifest.missing", "time"),
    "two times": (timed('column = "t", start = "2020-01-01"'), "manifest.time", "time"),
    "start without step": (timed('start = "2020-01-01"'), "manifest.time", "step_s"),
    "no time text": (timed('start = "soon", step_s = 1'), "manifest.time", "start"),
    "two columns of time": (timed('columns = ["y", "m"]'), "manifest.time", "columns"),
    "no channel": (STATION.replace(CHANNELS, "channels = []\n"), "manifest.channels", "channels"),
    "channel twice": (STATION.replace("[{", f"[{LOAD}, {{", 1), "manifest.channels", "channels"),
    "bad channel name": (STATION.replace('"NOX"', '"N O"'), "manifest.channel", "name"),
    "unknown unit": (STATION.replace("mg/m3", "mg/m³"), "manifest.unit", "channels.NOX.unit"),
    "unknown role": (STATION.replace('"pollutant"', '"poison"'), "manifest.choice", "role"),
    "limit without end": (with_channel("limit = inf"), "manifest.type", "limit"),
    "limit beyond floats": (with_channel(f"limit = 1{'0' * 400}"), "manifest.type", "limit"),
    "scale that is no number": (with_channel("scale = nan"), "manifest.type", "scale"),
    "step without end": (timed('start = "2020-01-01", step_s = inf'), "manifest.type", "step_s"),
    "step that is no number": (timed('start = "2020-01-01", step_s = nan'), "manifest.type", "step_s"),
    "limit as text": (with_channel('limit = "35"'), "manifest.type", "limit"),
    "bool as number": (with_channel("limit = true"), "manifest.type", "limit"),
    "offset in hours and more": (STATION + "utc_offset_min = 900\n", "manifest.utc_offset", "utc_offset_min"),
    "status code map": (STATION + CODES + '{ 1 = "X" }\n', "manifest.status", "codes.1"),
    "missing is normal": (STATION + 'when_missing = "N"\n', "manifest.status", "when_missing"),
    "unknown variable": (STATION.replace('"s1"', '"s{n}"') + "for = [{ m = 1 }]\n", "manifest.variable", "n"),
    "odd choice": (STATION + 'repeated_time = "maybe"\n', "manifest.choice", "repeated_time"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_manifest_names_the_place(tmp_path: Path, name: str) -> None:
    text, code, place = FAULTS[name]
    with pytest.raises(ManifestError) as fault:
        manifest_of(tmp_path, text)
    assert fault.value.code == code
    assert place in str(fault.value)
    assert "stations.toml" in str(fault.value)


@pytest.mark.parametrize("folder", ["../x", "/x", "a/../../x"])
def test_a_folder_outside_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ManifestError) as fault:
        manifest_of(tmp_path, STATION, HEAD.replace("[dataset]", f'[dataset]\nfolder = "{folder}"'))
    assert (fault.value.code, fault.value.where) == ("manifest.file", "dataset.folder")


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as fault:
        load_manifest(tmp_path)
    assert fault.value.code == "manifest.read"


def test_templates_make_one_station_a_row_and_defaults_are_shared(tmp_path: Path) -> None:
    text = STATION.replace('"s1"', '"unit-{n}"') + 'name = "Unit {n}"\nrows = { u = "{name}" }\nfor = ['
    manifest = manifest_of(tmp_path, text + '{ n = 1, name = "A" }, { n = 2, name = "B" }]\n')
    assert [(s.stn, s.name, s.rows, s.industry) for s in manifest.stations] == [
        ("unit-1", "Unit 1", (("u", "A"),), "power"),
        ("unit-2", "Unit 2", (("u", "B"),), "power"),
    ]


DATA_FAULTS = {
    "no file": (STATION.replace("a.csv", "b.csv"), "t,v\n", "data.missing", "b.csv"),
    "no column": (STATION, "t,w\n2020-01-01,1\n", "data.column", "column v"),
    "column twice": (STATION, "t,v,v\n2020-01-01,1,2\n", "data.column", "more than once"),
    "empty file": (STATION, "", "data.column", "column t"),
    "no pattern": (STATION.replace("a.csv", "a**b"), "t,v\n", "manifest.file", "a**b"),
    "name too long": (STATION.replace("a.csv", "a" * 300), "t,v\n", "manifest.file", "stations.s1.files"),
    "before all monitors": (STATION, "t,v\n1969-07-20,1\n", "data.time", "line 2"),
    "a step into nowhere": (
        timed('start = "2020-01-01", step_s = 1e15'),
        "t,v\n2020-01-01,1\n2020-01-02,1\n",
        "data.time",
        "line 3",
    ),
    "too large when scaled": (
        with_channel("scale = 1e300"),
        "t,v\n2020-01-01,1e999999\n",
        "data.number",
        "line 2, column v",
    ),
    "no number": (STATION, "t,v\n2020-01-01,1\n2020-01-02,1;5\n", "data.number", "line 3, column v"),
    "infinite": (STATION, "t,v\n2020-01-01,inf\n", "data.number", "line 2, column v"),
    "no time": (STATION, "t,v\nyesterday,1\n", "data.time", "line 2"),
    "no such day": (STATION, "t,v\n2021-02-29,1\n", "data.time", "line 2"),
    "empty time": (STATION, "t,v\n,1\n", "data.time", "line 2"),
    "time goes back": (STATION, "t,v\n2020-01-02,1\n2020-01-01,1\n", "data.time", "line 3"),
    "time stands": (STATION, "t,v\n2020-01-02,1\n2020-01-02,1\n", "data.time", "line 3"),
    "short row": (STATION, "t,v\n2020-01-02\n", "data.cells", "line 2"),
    "unlisted status": (
        STATION + CODES + '{ 0 = "N" }\n',
        "t,v,s\n2020-01-01,1,0\n2020-01-02,1,7\n",
        "data.status",
        "line 3, column s",
    ),
}


@pytest.mark.parametrize("name", DATA_FAULTS)
def test_faulty_data_name_file_and_line(tmp_path: Path, name: str) -> None:
    text, csv, code, place = DATA_FAULTS[name]
    with pytest.raises(ManifestError) as fault:
        rows_of(tmp_path, text, csv)
    assert fault.value.code == code
    assert place in str(fault.value)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"t,v\n" + b"2020-01-01,1\n" * 500))
    packed[20:40] = bytes(20)
    (tmp_path / "a.csv.gz").write_bytes(packed)
    source = manifest_of(tmp_path, STATION.replace("a.csv", "a.csv.gz")).stations[0]
    with pytest.raises(ManifestError) as fault:
        list(read_rows(source, tmp_path))
    assert fault.value.code == "data.read"


def test_a_missing_code_that_is_no_number_covers_its_text(tmp_path: Path) -> None:
    text = with_channel('missing = ["sNaN", "inf"]')
    assert rows_of(tmp_path, text, "t,v\n2020-01-01,sNaN\n2020-01-02,inf\n") == []


def test_values_are_the_digits_of_the_file(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, STATION, "t,v\n2020-01-01 00:00:00,1018.70\n2020-01-01T01:00:00Z,-6\n")
    assert rows == [
        Row(1577836800000, (Record("NOX", 1577836800000, "mg/m3", Decimal("1018.70"), "N"),)),
        Row(1577840400000, (Record("NOX", 1577840400000, "mg/m3", Decimal("-6"), "N"),)),
    ]
    assert str(rows[0].records[0].value) == "1018.70"


def test_missing_codes_scale_offset_and_status(tmp_path: Path) -> None:
    text = with_channel('scale = 0.1, missing = ["-9999"]') + 'utc_offset_min = 480\nwhen_missing = "D"\n'
    text += CODES + '{ 0 = "N", C = "C" }\n'
    rows = rows_of(
        tmp_path, text, "t,v,s\n2020-01-01,125,0\n2020-01-02,-9999.0,0\n2020-01-03,7,C\n2020-01-04,,C\n"
    )
    assert [record[3:] for row in rows for record in row.records] == [
        (Decimal("12.5"), "N"),
        (None, "D"),
        (Decimal("0.7"), "C"),
        (None, "C"),
    ]
    assert rows[0].at_ms == 1577836800000 - 8 * 3_600_000


def test_starts_of_files_and_composed_times(tmp_path: Path) -> None:
    for name in ("g_1.csv.gz", "g_2.csv.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"v\n1\n2\n"))
    text = STATION.replace("a.csv", "g_*.csv.gz").replace('time = { column = "t" }\n', "")
    starts = "[stations.time]\nstep_s = 60\n[stations.time.starts]\n"
    starts += '"*_1*" = "2020-01-01"\n"*_2*" = "2021-01-01T00:00:00Z"\n'
    source = manifest_of(tmp_path, text + starts).stations[0]
    assert [row.at_ms for row in read_rows(source, tmp_path)] == [
        1577836800000, 1577836860000, 1609459200000, 1609459260000,
    ]  # fmt: skip
    one = manifest_of(tmp_path, text + '[stations.time]\nstep_s = 60\nstart = "2020-01-01"\n').stations[0]
    assert [row.at_ms - 1577836800000 for row in read_rows(one, tmp_path)] == [0, 60_000, 120_000, 180_000]
    assert [row.at_ms for row in read_rows(source, tmp_path, only=["g_2*"])] == [1609459200000, 1609459260000]
    composed = STATION.replace('column = "t"', 'columns = ["y", "m", "d", "h"]')
    assert rows_of(tmp_path, composed, "y,m,d,h,v\n2020,1,1,5,3\n")[0].at_ms == 1577836800000 + 5 * 3_600_000


def test_rows_of_others_repeats_and_times_outside_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "t,v,u\n2020-01-01,1,A\n2020-01-01,1,B\n2020-01-01,2,A\n,3,A\n2020-01-05,4,A\n"
    )
    text = STATION + 'rows = { u = "A" }\nrepeated_time = "skip"\nmissing_time = "skip"\n'
    tally = Tally()
    source = manifest_of(tmp_path, text).stations[0]
    assert len(list(read_rows(source, tmp_path, to_ms=1577923200000, tally=tally))) == 1
    assert (tally.rows, tally.rows_repeated_time, tally.rows_without_time, tally.rows_outside) == (4, 1, 1, 1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=20),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=20, max_size=20),
)
def test_parquet_floats_come_as_their_shortest_decimal(
    tmp_path_factory: pytest.TempPathFactory, narrow: list[float], wide: list[float]
) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path_factory.mktemp("parquet")
    wide = wide[: len(narrow)]
    table = arrow.table({"v": arrow.array(narrow, arrow.float32()), "w": arrow.array(wide, arrow.float64())})
    parquet.write_table(table, folder / "a.parquet")
    text = STATION.replace("a.csv", "a.parquet").replace('column = "t"', 'start = "2020-01-01", step_s = 1')
    other = '{ column = "w", name = "W", quantity = "q", unit = "1", role = "load" }, {'
    source = manifest_of(folder, text.replace("[{", "[" + other, 1)).stations[0]
    read = [record.value for row in read_rows(source, folder) for record in row.records]
    assert [float(value) for value in read[0::2] if value is not None] == wide
    assert read[0::2] == [Decimal(repr(value)) for value in wide]
    for value, stored in zip(read[1::2], narrow, strict=True):
        assert value is not None
        assert struct.pack("f", float(value)) == struct.pack("f", stored)
        assert len(value.as_tuple().digits) <= 9 or value == value.to_integral_value()


# The manifests of the checkout against the data themselves ------------------------------------------------

EXPECTED = {  # stations, rows read, rows without time, rows repeated, readings
    "embassy_pm_cities": (3, 3 * 52584, 0, 0, 1385094),
    "nab": (2, 22695 + 7267, 0, 12, 29950),
    "ny_thermal_units": (16, 673106, 2, 0, 1346208),
    "prsa_beijing": (8, 8 * 35064, 0, 0, 3042496),
    "skab": (35, 46806, 0, 0, 374448),
    "sru_tail_gas": (1, 9600, 0, 0, 67200),
    "uci_gas_turbine": (1, 7411 + 7628 + 7152 + 7158, 0, 0, 322839),
    "yueqing_fgd_cems": (1, 1061, 0, 3, 22218),
}
FIRST_STATION_ONLY = {"embassy_pm_cities": 52584, "ny_thermal_units": 43848, "prsa_beijing": 35064}


@pytest.fixture(scope="session")
def data() -> Path:
    from stackwitness.settings import Settings

    folder = Settings().data
    folder = folder if folder.is_absolute() else ROOT / folder
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder} (STACKWITNESS_DATA)")
    return folder


def test_every_data_set_has_its_manifest(data: Path) -> None:
    described = {folder.name for folder in (ROOT / "manifests").iterdir()}
    assert described == set(EXPECTED)
    with_stations = {
        path.parent.name for path in data.glob("*/*") if path.name.endswith((".csv.gz", ".parquet"))
    }
    # The published result tables are no station's readings.
    assert with_stations - {"tsb_ad_results"} == described


@pytest.mark.parametrize("name", EXPECTED)
def test_the_rows_of_a_data_set_are_those_its_source_counts(data: Path, name: str) -> None:
    manifest = load_manifest(ROOT / "manifests" / name)
    stations, rows, without_time, repeated, readings = EXPECTED[name]
    assert len(manifest.stations) == stations
    if name in FIRST_STATION_ONLY:
        # The big sets are read whole by the bench; here one station stands for its equals.
        tally = Tally()
        assert sum(1 for _ in read_rows(manifest.stations[0], data, tally=tally)) == tally.rows
        assert tally.rows == FIRST_STATION_ONLY[name]
        return
    total = Tally()
    for source in manifest.stations:
        for row in read_rows(source, data, tally=total):
            assert row.records
    assert (total.rows, total.rows_without_time, total.rows_repeated_time, total.readings) == (
        rows, without_time, repeated, readings,
    )  # fmt: skip


def test_the_stations_of_the_big_sets_cover_every_row(data: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    compute = pytest.importorskip("pyarrow.compute")
    manifest = load_manifest(ROOT / "manifests" / "ny_thermal_units")
    units = parquet.read_table(find_files(manifest.stations[0], data)[0], columns=["unit"])["unit"]
    counts = {str(item["values"]): item["counts"] for item in compute.value_counts(units).to_pylist()}
    assert {dict(source.rows)["unit"] for source in manifest.stations} == set(counts)
    assert sum(counts.values()) == EXPECTED["ny_thermal_units"][1]
    for name in ("prsa_beijing", "embassy_pm_cities"):
        sources = load_manifest(ROOT / "manifests" / name).stations
        files = [path for source in sources for path in find_files(source, data)]
        assert len(set(files)) == len(sources)
        assert sum(parquet.read_metadata(path).num_rows for path in files) == EXPECTED[name][1]


def test_row_n_of_a_gas_turbine_year_is_hour_n(data: Path) -> None:
    source = load_manifest(ROOT / "manifests" / "uci_gas_turbine").stations[0]
    rows = list(read_rows(source, data, only=["gt_2011*"]))
    held = rows[1336:1438]
    nox = [next(r.value for r in row.records if r.name == "NOX") for row in held]
    assert set(nox) == {Decimal("60.380")}
    assert held[0].at_ms == rows[0].at_ms + 1336 * 3_600_000
