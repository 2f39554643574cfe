"""Parquet tables of a bundle: the same bytes from the same rows, and no row that the CSV does not have."""

import io
import zipfile
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from emdi.bundle import BundleReader
from emdi.errors import BundleError
from emdi.layout import head_names, heads_in, is_member
from stackwitness_client import parquet
from stackwitness_client.verify import Report, verify_bundle
from stackwitness_client.verify import parquet as parquet_check
from tests.emdi.making import honest_log, members_of, zip_of

pytest.importorskip("pyarrow")
LOG = honest_log()
PLAIN = members_of(LOG)


def table(csv: bytes) -> bytes:
    sink = io.BytesIO()
    parquet.write_parquet(io.BytesIO(csv), sink)
    return sink.getvalue()


def sealed(readings: bytes) -> Report:
    log = honest_log()
    flags = table(PLAIN["flags.csv"])
    members = members_of(log, lambda _: {"readings.parquet": readings, "flags.parquet": flags})
    return verify_bundle(zip_of(members), log.policy)  # type: ignore[arg-type]


def state(report: Report) -> tuple[int, str]:
    return report.exit_code, report.step(11).state


HONEST = table(members_of(honest_log())["readings.csv"])


def test_the_same_rows_give_the_same_bytes() -> None:
    assert table(PLAIN["readings.csv"]) == HONEST
    report = sealed(HONEST)
    assert state(report) == (0, "ok"), report.text()
    assert "readings.parquet: the same bytes" in report.text()


def test_many_rows_in_even_groups() -> None:
    import pyarrow.parquet as pq

    header = PLAIN["readings.csv"].split(b"\n")[0] + b"\n"
    row = b"3,mill-1,0,0,2026-09-21T14:13:20.000Z,nox-0,mg/m3,40.25,N\n"
    made = pq.ParquetFile(io.BytesIO(table(header + row * (parquet.GROUP_ROWS + 5))))
    assert [made.metadata.row_group(n).num_rows for n in range(made.num_row_groups)] == [
        parquet.GROUP_ROWS,
        5,
    ]
    assert pq.ParquetFile(io.BytesIO(table(header))).metadata.num_rows == 0


FORGED: dict[str, Callable[[], bytes]] = {
    "a value": lambda: table(PLAIN["readings.csv"].replace(b",41.25,", b",1.25,", 1)),
    "a row less": lambda: table(b"".join(PLAIN["readings.csv"].splitlines(keepends=True)[:-1])),
    "no table": lambda: b"PAR1",
    "bytes behind it": lambda: HONEST + b"x",
    "another column": lambda: table(PLAIN["readings.csv"].replace(b",unit,", b",units,", 1)),
}


# Of another version only the values are compared, and a table ends where its footer says.
CASES = [(name, "same") for name in FORGED] + [
    (name, "other") for name in FORGED if name != "bytes behind it"
]


@pytest.mark.parametrize(("name", "version"), CASES)
def test_another_table_is_tampered(name: str, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if version == "other":
        monkeypatch.setattr(parquet, "library_version", lambda: "0.0.0")
    report = sealed(FORGED[name]())
    assert state(report) == (1, "failed"), report.text()
    assert {finding.file for finding in report.findings} == {"readings.parquet"}


def test_of_another_version_the_values_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "library_version", lambda: "0.0.0")
    report = sealed(HONEST)
    assert state(report) == (0, "ok"), report.text()
    assert "the same values" in report.text()


def test_without_the_library_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_check, "find_spec", lambda name: None)
    report = sealed(HONEST)
    assert state(report) == (0, "not checked")
    assert "not checked: pyarrow is not installed" in report.text()


STRANGE = [
    "heads/01", "heads/-1", "heads/", "heads/../checkpoint", "heads/1/2", "heads/1.proofs", "heads/1.PROOF",
    "heads/99999999999999999999", "heads/１", "anchors/1.tsr", "anchors/1.10.tsr", "anchors/01.note", "anchors/x.pem",
    "/checkpoint", "..", "../checkpoint", "./checkpoint", "checkpoint ", "Checkpoint", "readings.parquet.part", "plan.json",
]  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_strange_names_are_no_members(name: str) -> None:
    assert not is_member(name)
    target = zip_of(PLAIN)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(BundleError, match=r"bundle\.(member|zip)"):
        BundleReader(target)


def test_names_of_heads() -> None:
    assert heads_in(["heads/7", "heads/7.proof", "heads/3", "checkpoint", "heads/03"]) == [3, 7]
    assert all(map(is_member, head_names(15)))


@pytest.mark.parametrize("name", ["heads/15", "readings.parquet"])
def test_optional_members_twice_or_compressed_are_refused(name: str) -> None:
    for method, times in ((zipfile.ZIP_STORED, 2), (zipfile.ZIP_DEFLATED, 1)):
        target = zip_of({key: data for key, data in PLAIN.items() if key != name})
        with zipfile.ZipFile(target, "a", method) as archive, pytest.warns() if times == 2 else nullcontext():
            for _ in range(times):
                archive.writestr(name, bytes(1 << 20))
        with pytest.raises(BundleError, match=r"bundle\.(member|zip|size)"):
            BundleReader(target)
