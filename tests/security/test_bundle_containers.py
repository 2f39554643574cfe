"""A zip is read in more than one way: what another program would show must be what was verified."""

import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable

import pytest

from stackwitness_client.verify import Report, verify_bundle
from tests.emdi.making import honest_log, members_of, remanifest, zip_of

LOG = honest_log()
HONEST = members_of(LOG)
GOOD = zip_of(HONEST).getvalue()
FORGED = HONEST["readings.csv"].replace(b",41.25,", b",1.25,", 1)
DIRECTORY = GOOD.index(b"PK\x01\x02")
END = GOOD.index(b"PK\x05\x06")


def check(data: bytes) -> Report:
    return verify_bundle(io.BytesIO(data), LOG.policy)  # type: ignore[arg-type]


def end_record(count: int, size: int, at: int) -> bytes:
    return struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, size, at, 0)


def hide_in_a_gap() -> bytes:
    """A whole forged bundle between the last member and the directory that names the honest ones."""
    forged = zip_of({**HONEST, "readings.csv": FORGED}).getvalue()
    size = END - DIRECTORY
    return (
        GOOD[:DIRECTORY]
        + forged
        + GOOD[DIRECTORY:END]
        + end_record(len(HONEST), size, DIRECTORY + len(forged))
    )


def two_directories() -> bytes:
    """The 64-bit locator leads to the honest directory, the plain end record to one with a forged table."""
    name, checksum, size = b"readings.csv", zlib.crc32(FORGED), len(FORGED)
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 0, 0, 33, checksum, size, size, len(name), 0)
    local += name + FORGED
    forged = bytearray(GOOD[DIRECTORY:END])
    at = forged.index(name) - 46
    forged[at + 16 : at + 28] = struct.pack("<3I", checksum, size, size)
    forged[at + 42 : at + 46] = struct.pack("<I", DIRECTORY)
    body = GOOD[:DIRECTORY] + local + bytes(forged)
    honest_at, count = len(body), len(HONEST)
    body += GOOD[DIRECTORY:END]
    wide = struct.pack(
        "<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, END - DIRECTORY, honest_at
    )
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, len(body), 1)
    return body + wide + locator + end_record(count, len(forged), honest_at - len(forged))


def rename_by_extra_field() -> bytes:
    """The Unicode path field gives README.txt the name of the table, for programs that heed it."""
    target, other = io.BytesIO(), b"readings.csv"
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in HONEST.items():
            info = zipfile.ZipInfo(name)
            if name == "README.txt":
                info.extra = (
                    struct.pack("<HHBL", 0x7075, 5 + len(other), 1, zlib.crc32(name.encode())) + other
                )
            archive.writestr(info, data)
    return target.getvalue()


def add_a_second_table() -> bytes:
    target = io.BytesIO(GOOD)
    with zipfile.ZipFile(target, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("readings.csv", FORGED)
    return target.getvalue()


ATTACKS: list[Callable[[], bytes]] = [
    hide_in_a_gap,
    two_directories,
    rename_by_extra_field,
    add_a_second_table,
    lambda: GOOD + b"anything",
    lambda: GOOD + zip_of({"readings.csv": FORGED}).getvalue(),
    lambda: zip_of({"readings.csv": FORGED}).getvalue() + GOOD,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_no_byte_of_the_file_is_left_unread(attack: Callable[[], bytes]) -> None:
    report = check(attack())
    assert report.exit_code == 3, report.text()
    assert report.findings[0].code in ("bundle.zip", "bundle.member")


def test_an_empty_first_member_is_no_foreign_byte() -> None:
    report = check(zip_of({**HONEST, "MANIFEST": b""}).getvalue())
    assert report.exit_code == 1
    assert {finding.code for finding in report.findings} >= {"manifest.undeclared", "seal.manifest"}


def test_a_table_cannot_steer_the_terminal() -> None:
    members = dict(HONEST)
    members["flags.csv"] += b"9,\x1b[2J\x1b[HOK: all is well\xe2\x80\xae,x\n"
    remanifest(members)
    report = check(zip_of(members).getvalue())
    assert report.exit_code != 0
    assert "\\x1b[2J" in report.text()
    assert not {char for char in report.text() if not char.isprintable()} - {"\n"}
