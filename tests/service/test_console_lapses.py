"""A flag that lapsed stays on every page, said to have lapsed, and is decided on as before."""

from pathlib import Path

import pytest

from stackwitness.db.unit import unit_of_work
from stackwitness.flags import flow as flags
from stackwitness.settings import Settings
from tests.service.console_seed import seed
from tests.service.test_console import REASON, csrf_of, sign_in
from tests.support.service import Service

LAPSED = "Lapsed: later readings changed the picture"


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """Give settings with sign-in links, as in development."""
    home = tmp_path / "home"
    home.mkdir()
    return Settings(mode="test", dev_links=True, home=home, database_url=database_url)


def lapse(service: Service, flag: flags.Flag) -> None:
    claims = {"flag_id": flag.flag_id, "episode": flag.episode, "to_ms": round(flag.to_at.timestamp() * 1000)}
    with unit_of_work(service.wiring.engine, "sw_detect") as conn:
        flags.lapse_flag(conn, service.wiring.service_key, flag.stn, flag.event_id, claims)


def test_a_lapsed_flag_is_shown_as_such_and_decided_as_before(service: Service) -> None:
    first, second = seed(service, stations=1, flags_each=2, days=1)
    browser = sign_in(service)
    assert LAPSED not in browser.get("/flags").text + browser.get(f"/flags/{first.flag_id}").text
    lapse(service, first)
    assert "1 flag of it lapsed" in browser.get("/flags").text
    lapse(service, second)
    page = browser.get(f"/flags/{first.flag_id}").text
    assert LAPSED in browser.get("/flags").text
    assert LAPSED in page
    assert 'class="lapsed"' in page  # beside the other flag of the matter
    form = {"csrf": csrf_of(page), "decision": "needs_visit", "reason": REASON}
    assert browser.post(f"/flags/{first.flag_id}", data=form).status_code == 200
    assert LAPSED in browser.get(f"/flags/{first.flag_id}").text
    chinese = browser.get(f"/flags/{first.flag_id}", headers={"accept-language": "zh-CN"})
    assert "已失效" in chinese.text
