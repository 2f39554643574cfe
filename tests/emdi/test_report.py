"""report.json: every number comes from the other members, and the same members give the same bytes."""

import io
import json
import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emdi.bundle import BundleReader
from emdi.errors import EmdiError
from emdi.report import BUCKETS, _Drawn, make_report
from emdi.units import format_at
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


def test_a_lapse_is_told_until_the_flag_is_told_again() -> None:
    log = honest_log()
    assert "lapsed" not in report_of(members_of(log))["flags"][0]
    claims = next(event.data for event in log.events if event.typ == "flag.raised")
    idx = log.event("flag.lapsed", {"flag_id": claims["flag_id"], "episode": "e", "to_ms": claims["to_ms"]})
    assert report_of(members_of(log))["flags"][0]["lapsed"]["idx"] == idx
    log.event("flag.lapsed", {"flag_id": "another-1"})
    log.event("flag.extended", {**claims, "e_value": 0.001})
    assert "lapsed" not in report_of(members_of(log))["flags"][0]


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


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=60), st.randoms())
def test_slices_cover_what_was_read_in_any_order(minutes: list[int], chance: random.Random) -> None:
    """At most 240 slices of 2^n minutes, the same whatever order the rows come in, the least such n."""

    def draw(order: list[int]) -> tuple[int, int, int, list[Any]]:
        drawn = _Drawn(0, 10**13)
        table = "".join(f"1,s,0,0,{format_at(60_000 * minute)},nox,mg/m3,{minute}.5,N\n" for minute in order)
        drawn.read(Table(b"header\n" + table.encode()))
        return drawn.slice_ms, drawn.from_ms, drawn.to_ms, drawn.to_json({})

    width, from_ms, to_ms, [channel] = draw(minutes)
    assert draw(chance.sample(minutes, len(minutes))) == (width, from_ms, to_ms, [channel])
    assert from_ms <= 60_000 * min(minutes) <= 60_000 * max(minutes) < to_ms
    assert to_ms - from_ms <= width * BUCKETS
    assert (
        width == 60_000
        or (60_000 * max(minutes) // (width // 2)) - (60_000 * min(minutes) // (width // 2)) >= BUCKETS
    )
    assert channel["readings"] == len(minutes)
    for place, least, greatest in channel["slices"]:
        inside = [n + 0.5 for n in minutes if (60_000 * n) // width == place + from_ms // width]
        assert (min(inside), max(inside)) == (least, greatest)


class Table:
    """A bundle of one table."""

    def __init__(self, data: bytes) -> None:
        self.sizes = {"readings.csv": len(data)}
        self._data = data

    def stream(self, name: str) -> io.BytesIO:
        return io.BytesIO(self._data)

    def read(self, name: str) -> bytes:
        return self._data

    def lines(self, name: str) -> Any:
        return iter(self._data.decode().splitlines())
