"""report.json: every number comes from the other members, and the same members give the same bytes."""

import json
import re
from typing import Any

import pytest

from emdi.bundle import BundleReader
from emdi.errors import EmdiError
from emdi.report import BUCKETS, make_report, slice_ms
from tests.emdi.making import honest_log, members_of, zip_of

MEMBERS = members_of(honest_log())


def report_of(members: dict[str, bytes]) -> dict[str, Any]:
    with BundleReader(zip_of(members)) as reader:
        made = make_report(reader)
        assert make_report(reader) == made
    report: dict[str, Any] = json.loads(made)
    return report


def test_channels_sum_up_the_table() -> None:
    report = report_of(MEMBERS)
    rows = [line.split(",") for line in MEMBERS["readings.csv"].decode().splitlines()[1:]]
    assert (
        sum(channel["readings"] for channel in report["channels"])
        == len(rows)
        == report["counts"]["readings"]
    )
    for channel in report["channels"]:
        values = [float(row[7]) for row in rows if row[5] == channel["name"] and row[8] == "N"]
        assert (channel["least"], channel["greatest"]) == (
            (min(values), max(values)) if values else (None, None)
        )
        assert all(least <= greatest for _, least, greatest in channel["slices"])
        assert all(0 <= place < BUCKETS for place, _, _ in channel["slices"])


def test_flags_carry_texts_decisions_and_disclosed_reasons() -> None:
    (flag,) = report_of(MEMBERS)["flags"]
    assert (flag["kind"], flag["text_zh"]) == ("hold", "氮氧化物不变。")
    assert [(item["decision"], item["reason"]) for item in flag["decisions"]] == [
        ("needs_visit", "Send someone.")
    ]
    withheld = report_of({**MEMBERS, "disclosures.jsonl": b""})["flags"][0]["decisions"]
    assert [item["reason"] for item in withheld] == [None]


@pytest.mark.parametrize(("name", "old", "new"), [
    ("readings.csv", rb",40\.25,", b",forty,"), ("readings.csv", rb",mg/m3,", b","), ("readings.csv", rb"Z,", b","),
    ("scope.json", rb'"v":[0-9]', b'"v":9'), ("checkpoint", rb"\n\n", b"\n"), ("reviews.csv", rb"^idx,", b"index,"),
    ("disclosures.jsonl", rb"salt", b"sugar"),
])  # fmt: skip
def test_members_that_give_no_report(name: str, old: bytes, new: bytes) -> None:
    spoilt = re.sub(old, new, MEMBERS[name], count=1)
    assert spoilt != MEMBERS[name]
    with BundleReader(zip_of({**MEMBERS, name: spoilt})) as reader, pytest.raises(EmdiError):
        make_report(reader)


@pytest.mark.parametrize(("minutes", "width"), [(1, 1), (240, 1), (241, 2), (525_600, 2190)])
def test_slices_are_whole_minutes_and_cover_the_period(minutes: int, width: int) -> None:
    assert slice_ms(0, minutes * 60_000) == width * 60_000
    assert slice_ms(0, minutes * 60_000) * BUCKETS >= minutes * 60_000
