"""The container: what is not exactly a bundle is refused before anything in it is believed."""

import hashlib
import io
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from emdi import bundle
from emdi.errors import BundleError, EmdiError
from emdi.scope import parse_scope
from emdi.tables import take_sha256
from stackwitness_client.verify import verify_bundle
from tests.emdi.making import honest_log, members_of, zip_of

LOG = honest_log()
MEMBERS = members_of(LOG)
GOOD = zip_of(MEMBERS).getvalue()


def zipped(change: Callable[[zipfile.ZipFile], None], compression: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
        change(archive)
    return target.getvalue()


def nothing(archive: zipfile.ZipFile) -> None:
    del archive


def set_comment(archive: zipfile.ZipFile) -> None:
    archive.comment = b"hello"


CONTAINERS = [
    (b"", "bundle.zip"),
    (b"PK\x05\x06", "bundle.zip"),
    (GOOD[:-30], "bundle.zip"),
    (b"#!/bin/sh\n" + GOOD, "bundle.zip"),
    (zipped(nothing, zipfile.ZIP_DEFLATED), "bundle.zip"),
    (zipped(set_comment), "bundle.zip"),
    (zipped(lambda archive: archive.writestr("../evil", b"x")), "bundle.member"),
    (zipped(lambda archive: archive.writestr("/etc/passwd", b"x")), "bundle.member"),
    (zipped(lambda archive: archive.writestr("extra.txt", b"x")), "bundle.member"),
    (zipped(lambda archive: archive.writestr("heads/", b"")), "bundle.member"),
    (zipped(lambda archive: archive.writestr("MANIFEST", b"x")), "bundle.member"),
    (zipped(lambda archive: archive.writestr("MANIFEST\0.txt", b"x")), "bundle.member"),
]


@pytest.mark.parametrize(("data", "code"), CONTAINERS)
def test_what_is_no_bundle_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(BundleError) as caught:
        bundle.BundleReader(io.BytesIO(data))
    assert caught.value.code == code
    assert verify_bundle(io.BytesIO(data), LOG.policy).exit_code == 3  # type: ignore[arg-type]


def test_two_members_over_the_same_bytes_are_refused() -> None:
    """The central directory of an overlap bomb points twice at one local file."""
    directory = GOOD.index(b"PK\x01\x02")
    second = GOOD.index(b"PK\x01\x02", directory + 1)
    spoilt = bytearray(GOOD)
    spoilt[second + 42 : second + 46] = GOOD[directory + 42 : directory + 46]
    with pytest.raises(BundleError):
        bundle.BundleReader(io.BytesIO(bytes(spoilt)))


def test_a_zip_rewritten_by_other_tools_still_verifies() -> None:
    assert verify_bundle(io.BytesIO(zipped(nothing)), LOG.policy).exit_code == 0  # type: ignore[arg-type]


def test_a_damaged_member_is_found_while_reading() -> None:
    at = GOOD.index(MEMBERS["entries.bin"]) + 100
    spoilt = GOOD[:at] + bytes([GOOD[at] ^ 1]) + GOOD[at + 1 :]
    report = verify_bundle(io.BytesIO(spoilt), LOG.policy)  # type: ignore[arg-type]
    assert report.exit_code == 1
    assert any(finding.file == "entries.bin" for finding in report.step(2).findings)


def test_the_writer_is_byte_reproducible_from_bytes_and_from_files(tmp_path: Path) -> None:
    parts = []
    for name, data in MEMBERS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
        parts.append((name, tmp_path / name))
    bundle.write_bundle(tmp_path / "out.zip", parts)
    assert (tmp_path / "out.zip").read_bytes() == GOOD
    assert bundle.make_manifest(parts) == MEMBERS["MANIFEST"]
    with zipfile.ZipFile(io.BytesIO(GOOD)) as archive:
        infos = archive.infolist()
    assert [info.filename for info in infos] == sorted(MEMBERS)
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {(info.compress_type, info.extra, info.flag_bits) for info in infos} == {
        (zipfile.ZIP_STORED, b"", 0)
    }


@pytest.mark.parametrize("names", [["README.txt", "README.txt"], ["../x"], ["other.txt"]])
def test_the_writer_refuses_what_the_reader_would(names: list[str]) -> None:
    with pytest.raises(BundleError, match=r"bundle\.member"):
        bundle.write_bundle(io.BytesIO(), [(name, b"x") for name in names])


LINE = b"0" * 64 + b"  1  README.txt\n"
MANIFESTS = [
    LINE[:-1],
    LINE.replace(b"  1", b" 1"),
    LINE.replace(b"  1", b"  01"),
    LINE.replace(b"0", b"A", 1),
    LINE.replace(b"\n", b"\r\n"),
    LINE + LINE,
    LINE + LINE.replace(b"README", b"APPLES"),
    LINE.replace(b"README", b"../etc"),
    LINE + b"\n",
    LINE.replace(b"R", "\u0280".encode()),
]


@pytest.mark.parametrize("data", MANIFESTS)
def test_manifests(data: bytes) -> None:
    assert len(bundle.parse_manifest(LINE)) == 1
    with pytest.raises(BundleError, match=r"bundle\.manifest"):
        bundle.parse_manifest(data)


ENTRY = (7).to_bytes(8, "big") + b"\x00\x01x"
ENTRY_FILES = [
    ENTRY[:-1],
    ENTRY + ENTRY,
    ENTRY[:5],
    ENTRY[:8] + b"\x00\x00",
    ENTRY[:8] + b"\xff\xff" + b"x",
    b"\xff" + ENTRY[1:],
]


@pytest.mark.parametrize("data", ENTRY_FILES)
def test_entry_files(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"bundle\.entries"):
        list(bundle.iter_entries(io.BytesIO(data)))


@pytest.mark.parametrize("line", ["", "x", "01", "1 AAAA", "1  ", "1 " + "A" * 43, "-1", " 1", "1" * 30])
def test_proof_lines(line: str) -> None:
    with pytest.raises(EmdiError):
        bundle.parse_proof(line)


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 63 + "A", "A" * 42 + "B", None, 5, "A" * 44])
def test_digests(text: object) -> None:
    with pytest.raises(BundleError, match=r"bundle\.digest"):
        take_sha256(text)


SCOPE = MEMBERS["scope.json"]
SCOPES = [
    b"[]", b"{}", SCOPE.replace(b'"v":2', b'"v":1'), SCOPE.replace(b'"size":19', b'"size":"20"'), SCOPE.replace(b'"stn":"mill-1"', b'"stn":1'),
    SCOPE.replace(b".000Z", b"Z", 1), SCOPE.replace(b"2026-", b"2026-13", 1), SCOPE.replace(b'"head":{', b'"head":[{').replace(b"}}", b"}]}"),
    SCOPE.replace(b'"runs":[[0,0,1,1]]', b'"runs":[[0,-1,1,1]]'), SCOPE.replace(b'"requester":', b'"purpose":'),
    SCOPE.replace(b'"runs":[[0,0,1,1]]', b'"runs":[[1,1,0,0]]'), SCOPE.replace(b'"runs":[[0,0,1,1]]', b'"runs":[[0,0,1,1],[1,1,1,2]]'),
    SCOPE.replace(b'"runs":[[0,0,1,1]]', b'"runs":[[0,0,1]]'), SCOPE.replace(b'"heads":[18]', b'"heads":[]'),
    SCOPE.replace(b'"heads":[18]', b'"heads":[18,18]'), SCOPE.replace(b'"heads":[18]', b'"heads":[19]'),
    SCOPE.replace(b'"redacted":false', b'"redacted":0'), SCOPE.replace(b'"entries":null', b'"entries":[1]'),
    SCOPE.replace(b'"entries":null,', b''), SCOPE.replace(b'"stations":[{', b'"stations":[{"more":1,'),
    re.sub(rb'"stations":.*\]', b'"stations":[]', SCOPE), re.sub(rb'"stations":\[(.*)\]', rb'"stations":[\1,\1]', SCOPE),
]  # fmt: skip


@pytest.mark.parametrize("data", SCOPES)
def test_scopes(data: bytes) -> None:
    parse_scope(SCOPE)
    with pytest.raises(BundleError):
        parse_scope(data)


@pytest.mark.parametrize("field", ["a,b", 'a"b', "a\nb", "a\rb"])
def test_no_field_breaks_a_table(field: str) -> None:
    with pytest.raises(BundleError, match=r"bundle\.csv"):
        bundle.reviews_csv_row(1, field, "f", "explained", "a")


def test_tables_are_spelled_as_documented() -> None:
    row = bundle.readings_csv_row(3, "s", 0, 1, 1_767_323_045_678, "NOX", "mg/m3", 40.0, "N")
    assert row == "3,s,0,1,2026-01-02T03:04:05.678Z,NOX,mg/m3,40.0,N\n"
    row = bundle.readings_csv_row(3, "s", 0, 1, 1_767_323_045_678, "NOX", "mg/m3", None, "D")
    assert row.endswith(",mg/m3,,D\n")
    digest = hashlib.sha256("held\n不变".encode()).hexdigest()
    assert bundle.flag_text_sha256("held", "不变") == digest
    row = bundle.flags_csv_row(3, "s-1", "hold", "hold", "cannot be", 0, 1, ["a", "b"], digest)
    assert (
        row == f"3,s-1,hold,hold,cannot be,1970-01-01T00:00:00.000Z,1970-01-01T00:00:00.001Z,a b,{digest}\n"
    )
