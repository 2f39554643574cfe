"""The limits a station's page shows: the one in force among the channels, every change below."""

import re

import pytest

from stackwitness.settings import Settings
from tests.service.rig import Rig
from tests.service.test_console import sign_in
from tests.support.service import Service


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Give settings with sign-in links, as in development."""
    return settings.model_copy(update={"dev_links": True})


def test_the_limit_in_force_stands_among_the_channels(service: Service) -> None:
    rig = Rig(service)
    for value, from_at in ((48, "2026-01-01"), (35.5, "2026-02-01"), (20, "2999-01-01")):
        change = {"channel": "nox", "limit": value, "from": f"{from_at}T00:00:00Z", "why": f"permit {value}"}
        answer = service.client.post("/v1/stations/4711/limits", json=change, headers=rig.operator)
        assert answer.status_code == 201, answer.text
    page = sign_in(service).get("/stations/4711").text
    channels, changes = page.split('id="channels-title"')[1].split("<h3>")
    assert re.search(r"<td>nox</td>.*?<td class=\"num\">([^<]*)</td>", channels)[1] == "35.5"  # type: ignore[index]
    assert re.findall(r"<td>nox</td><td class=\"num\">([^<]*)</td>", changes) == ["50", "48", "35.5", "20"]
