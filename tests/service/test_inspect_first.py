"""Whom to inspect first: what counts, what does not, and that the page says so."""

from dataclasses import replace
from pathlib import Path

import pytest

from stackwitness.console.inspect_first import Compared, choose_visits
from stackwitness.console.views import ChannelView, FlagView, StationView
from stackwitness.db.unit import unit_of_work
from stackwitness.detection.fleet.domain import FleetFinding
from stackwitness.flags import flow
from stackwitness.settings import Settings
from stackwitness_detectors.ranking import MONTH_MS, TESTS
from tests.service.console_seed import seed
from tests.service.test_console import sign_in
from tests.service.test_console_lapses import lapse
from tests.support.service import Service

NOW_MS = 1_800_000_000_000
NOX = ChannelView("nox", "NOx", "mg/m3", "pollutant", 50.0)
STATIONS = [StationView(stn, stn, "north", "glass", None, None, 0, (NOX,), NOW_MS) for stn in ("a", "b")]
STRONG = TESTS * 20.0  # of two stations one is named from 2 / 0.1 on
FLAG = FlagView(
    "f", "a", "a", 0, "hold", "hold", "unusual", NOW_MS - 1, NOW_MS, ("nox",), STRONG, "", "", NOW_MS, None
)
APART = FleetFinding(
    "b", "x", "foreign", "foreign", "unusual", NOW_MS - 1, NOW_MS, ("nox",), STRONG, "like a", "", (), {}
)
NOBODY = Compared({}, 0, None)


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """Give settings with sign-in links, as in development."""
    home = tmp_path / "home"
    home.mkdir()
    return Settings(mode="test", dev_links=True, home=home, database_url=database_url)


def named(flags: list[FlagView], compared: Compared = NOBODY) -> list[tuple[str, int, int]]:
    return [
        (one.station.stn, one.flags, len(one.apart))
        for one in choose_visits(STATIONS, flags, compared).visits
    ]


def test_what_stands_open_or_apart_counts_and_what_lapsed_or_is_old_does_not() -> None:
    assert named([FLAG]) == [("a", 1, 0)]
    assert named([replace(FLAG, e_value=STRONG - 1)]) == []
    assert named([replace(FLAG, lapsed_ms=NOW_MS)]) == []
    assert named([replace(FLAG, to_ms=NOW_MS - MONTH_MS)]) == []
    beside = Compared({"b": (APART,)}, 2, NOW_MS)
    assert named([], beside) == [("b", 0, 1)]
    assert named([FLAG], beside) == [("a", 1, 0), ("b", 0, 1)]
    assert choose_visits(STATIONS, [FLAG], beside).flags == 1
    # Another agency's comparison names no station of ours.
    assert named([], Compared({"z": (APART,)}, 2, NOW_MS)) == []


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
