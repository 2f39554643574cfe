"""Readings looked up over HTTP: ranges, channels, aggregates, pages, first value wins."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from emdi.pack import Record
from tests.service.rig import MINUTE_MS, START_MS, Rig, minute
from tests.support.service import Service

FROM, TO = "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"


def ask(rig: Rig, **query: Any) -> Any:
    """Query readings of the rig's station as an auditor."""
    query = {"station": rig.stn, "from": FROM, "to": TO, **query}
    return rig.client.get("/v1/readings", params=query, headers=rig.service.headers("auditor"))


@pytest.fixture
def rig(service: Service) -> Rig:
    """Give a station with 90 minutes of readings."""
    rig = Rig(service)
    records = [record for n in range(90) for record in minute(START_MS + n * MINUTE_MS, str(Decimal(n) / 2))]
    assert rig.post(rig.next(records=records)).status_code == 202
    return rig


def test_pages_join_to_the_whole(rig: Rig) -> None:
    whole = ask(rig, limit=10_000).json()
    assert whole["next"] is None
    assert len(whole["rows"]) == 270
    assert whole["rows"][:3] == [
        {"channel": "nox", "at": "2026-01-01T00:00:00.000Z", "value": 0.0, "status": "N", "revisions": 0},
        {"channel": "so2", "at": "2026-01-01T00:00:00.000Z", "value": 3.25, "status": "N", "revisions": 0},
        {"channel": "load", "at": "2026-01-01T00:00:00.000Z", "value": None, "status": "D", "revisions": 0},
    ]
    for size in (1, 7, 90, 270):
        rows, after = [], None
        for _ in range(300):
            page = ask(rig, limit=size, **({} if after is None else {"after": after})).json()
            rows += page["rows"]
            after = page["next"]
            if after is None or (size == 1 and len(rows) == 5):
                break
        assert rows == whole["rows"][: len(rows)]
        assert size == 1 or len(rows) == 270


def test_range_is_half_open_and_channels_are_chosen(rig: Rig) -> None:
    page = ask(rig, channel="nox", **{"from": "2026-01-01T00:10:00Z", "to": "2026-01-01T00:12:00Z"}).json()
    assert [(row["at"][11:16], row["value"]) for row in page["rows"]] == [("00:10", 5.0), ("00:11", 5.5)]
    two = ask(rig, channel=["so2", "nox"], limit=4).json()["rows"]
    assert [row["channel"] for row in two] == ["nox", "so2", "nox", "so2"]


def test_aggregates(rig: Rig) -> None:
    hours = ask(rig, channel=["nox", "load"], aggregate="hour").json()["rows"]
    assert [(row["channel"], row["at"][11:16], row["mean"], row["count"]) for row in hours] == [
        ("nox", "00:00", 14.75, 60),
        ("load", "00:00", None, 0),
        ("nox", "01:00", 37.25, 30),
        ("load", "01:00", None, 0),
    ]
    assert (hours[0]["min"], hours[0]["max"], hours[0]["normal"], hours[1]["missing"]) == (0.0, 29.5, 60, 60)
    first = ask(rig, channel=["nox", "load"], aggregate="hour", limit=1).json()
    rest = ask(rig, channel=["nox", "load"], aggregate="hour", after=first["next"]).json()
    assert first["rows"] + rest["rows"] == hours
    (day,) = ask(rig, channel="nox", aggregate="day").json()["rows"]
    assert (day["mean"], day["count"]) == (22.25, 90)


def test_first_value_wins_and_revisions_are_counted(rig: Rig) -> None:
    late = [Record("nox", START_MS, "mg/m3", Decimal("99"), "R")]
    for _ in range(2):
        assert rig.post(rig.next(records=late)).status_code == 202
    (row,) = ask(rig, channel="nox", limit=1).json()["rows"]
    assert (row["value"], row["status"], row["revisions"]) == (0.0, "N", 2)
    (day,) = ask(rig, channel="nox", aggregate="day").json()["rows"]
    assert (day["max"], day["count"], day["revisions"]) == (44.5, 90, 2)


def test_bad_queries_are_refused_by_name(rig: Rig) -> None:
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"station": "nobody"}, 404, "station.unknown"),
        ({"station": "a\x00"}, 422, "request.invalid"),
        ({"channel": "o3"}, 422, "reading.channel"),
        ({"from": TO, "to": FROM}, 422, "query.range"),
        ({"from": "2026-01-01T00:00:00"}, 422, "request.invalid"),
        ({"from": "yesterday"}, 422, "request.invalid"),
        ({"limit": 0}, 422, "request.invalid"),
        ({"limit": 10_001}, 422, "request.invalid"),
        ({"after": "x"}, 400, "query.after"),
        ({"after": "9999999999999999.1"}, 200, ""),
        ({"after": "1.4294967296"}, 400, "query.after"),
        ({"aggregate": "year"}, 422, "request.invalid"),
    ]
    for query, status, code in cases:
        answer = ask(rig, **query)
        assert (answer.status_code, answer.json().get("code", "")) == (status, code), query
    params = {"station": rig.stn, "from": FROM, "to": TO}
    assert rig.client.get("/v1/readings", params=params).status_code == 401


def test_old_dates_are_found(rig: Rig) -> None:
    at_ms = int(datetime(1999, 12, 31, 23, 59, tzinfo=UTC).timestamp()) * 1000
    rig.post(rig.next(records=minute(at_ms)))
    page = ask(rig, channel="nox", **{"from": "1999-01-01T00:00:00Z", "to": "2000-01-01T00:00:00+08:00"})
    assert page.json()["rows"] == []
    page = ask(rig, channel="nox", **{"from": "1999-01-01T00:00:00Z", "to": "2000-01-01T00:00:00Z"})
    assert page.json()["rows"][0]["at"] == "1999-12-31T23:59:00.000Z"
