"""Whom to inspect first: what counts, what does not, and that the page says so."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from stackwitness.db.unit import unit_of_work
from stackwitness.detection.fleet.domain import Candidate, FleetFinding
from stackwitness.detection.fleet.routes import cut_page
from stackwitness.detection.fleet.visits import Compared, choose_visits
from stackwitness.errors import BadRequest
from stackwitness.flags import flow
from stackwitness.flags.domain import Flag
from stackwitness.settings import Settings
from stackwitness_detectors.ranking import MONTH_MS, TESTS
from tests.service.console_seed import seed
from tests.service.test_console import sign_in
from tests.service.test_console_lapses import lapse
from tests.support.service import Service

NOW_MS = 1_800_000_000_000
NOW = flow.at_of(NOW_MS)
STATIONS = [Candidate(stn, stn, "north", NOW, 1) for stn in ("a", "b")]
STRONG = TESTS * 20.0  # of two stations one is named from 2 / 0.1 on
FLAG = Flag(
    "a-1", "a", "hold", "1", "hold", "unusual", "unusual", NOW, NOW, ("nox",), STRONG, "e", "", "", NOW, b"", None, None
)  # fmt: skip
APART = FleetFinding(
    "foreign", "foreign", "unusual", NOW_MS - 1, NOW_MS, ("nox",), STRONG, "like a", "", "b", "x", (), {}
)
NOBODY = Compared({}, 0, None)


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """Give settings with sign-in links, as in development."""
    home = tmp_path / "home"
    home.mkdir()
    return Settings(mode="test", dev_links=True, home=home, database_url=database_url)


def named(flags: list[Flag], compared: Compared = NOBODY) -> list[tuple[str, int, int]]:
    return [
        (one.station.stn, one.flags, len(one.apart))
        for one in choose_visits(STATIONS, flags, compared).visits
    ]


def test_what_stands_open_or_apart_counts_and_what_is_old_does_not() -> None:
    assert named([FLAG]) == [("a", 1, 0)]
    assert named([replace(FLAG, e_value=STRONG - 1)]) == []
    assert named([replace(FLAG, to_at=NOW - timedelta(milliseconds=MONTH_MS))]) == []
    beside = Compared({"b": (APART,)}, 2, NOW)
    assert named([], beside) == [("b", 0, 1)]
    assert named([FLAG], beside) == [("a", 1, 0), ("b", 0, 1)]
    assert choose_visits(STATIONS, [FLAG], beside).flags == 1
    # Another agency's comparison names no station of ours.
    assert named([], Compared({"z": (APART,)}, 2, NOW)) == []


def test_the_page_says_what_was_weighed_and_lapsed_matters_come_last(service: Service) -> None:
    first, second = seed(service, stations=2, flags_each=1, days=1)
    browser = sign_in(service)
    assert "Nothing is judged at this station yet." in browser.get(f"/stations/{first.stn}").text
    assert "Weighed over 2 stations: the open flags of their last 30 days (2)" in browser.get("/").text
    listed = browser.get("/flags").text
    gravest, other = sorted((first, second), key=lambda flag: listed.index(flag.flag_id))
    lapse(service, gravest)
    page, listed = browser.get("/").text, browser.get("/flags").text
    assert "Weighed over 2 stations: the open flags of their last 30 days (1)" in page
    assert "not compared with their neighbours yet" in page
    assert listed.index(other.flag_id) < listed.index(gravest.flag_id)
    with unit_of_work(service.wiring.engine, "sw_read", "*") as conn:
        assert flow.find_flag(conn, gravest.flag_id).decision is None
    # The API chooses the same: the lapsed one no longer counts, the other is named.
    answer = service.client.get("/v1/inspect-first", headers=service.headers("auditor")).json()
    assert (answer["stations_weighed"], answer["flags_weighed"]) == (2, 1)
    assert (answer["stations_compared"], answer["compared_upto"], answer["next"]) == (0, None, None)
    assert [(one["stn"], one["open_flags"], one["apart"]) for one in answer["visits"]] == [(other.stn, 1, [])]
    assert answer["visits"][0]["e_value"] * 2 >= 2 / answer["false_discovery_rate"]


def test_tiles_and_map_count_what_stands_and_name_what_lapsed(service: Service) -> None:
    first, second = seed(service, stations=2, flags_each=1, days=1)
    assert (first.verdict, second.verdict) == ("cannot be", "very unlikely")
    browser = sign_in(service)
    assert "/flags?verdict=lapsed" not in browser.get("/").text
    lapse(service, first)
    page = browser.get("/").text
    tiles = dict(re.findall(r'href="/flags\?verdict=([a-z%0-9]+)"><b>(\d+)</b>', page))
    assert {name: count for name, count in tiles.items() if count != "0"} == {
        "very%20unlikely": "1",
        "lapsed": "1",
    }
    tone_of = dict(re.findall(r'href="/stations/([^"]+)" class="place tone-(\w+)"', page))
    assert tone_of == {first.stn: "quiet", second.stn: "unlikely"}
    # What a tile counts is what it leads to.
    for verdict, stn in (("very unlikely", second.stn), ("lapsed", first.stn)):
        listed = browser.get("/flags", params={"verdict": verdict}).text
        assert re.findall(r'<a href="/stations/([^"]+)" class="plain">', listed) == [stn]


def test_pages_meet_every_row_once_and_a_strange_cursor_is_refused() -> None:
    rows = [f"row {n}" for n in range(7)]
    for limit in range(1, 9):
        met: list[str] = []
        after = None
        while True:
            page, after = cut_page(rows, str, after, limit)
            met += page
            if after is None:
                break
        assert met == rows
    for strange in ("", "row 1", "!!"):
        with pytest.raises(BadRequest, match="begin with the first page"):
            cut_page(rows, str, strange, 1)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/neighbours?after=AAAA", 400, "detection.cursor"),
        ("/v1/inspect-first?after=AAAA", 400, "detection.cursor"),
        ("/v1/neighbours?limit=0", 422, None),
        ("/v1/neighbours?station=%00", 422, None),
        ("/v1/inspect-first?limit=x", 422, None),
    ],
)
def test_bad_input_is_refused_with_a_typed_problem(
    service: Service, path: str, status: int, code: str | None
) -> None:
    answer = service.client.get(path, headers=service.headers("inspector"))
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert code is None or answer.json()["code"] == code
    assert service.client.get(path.partition("?")[0]).status_code == 401
