"""Names that turn, hide or borrow letters: refused where they would be signed, spelled out where an old log has them."""

import json
from typing import Any

import pytest

from stackwitness.accounts.domain import Account
from stackwitness.accounts.flow import grant_access
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Unprocessable
from stackwitness.evidence.report import print_report
from stackwitness.settings import Settings
from tests.service.rig import CHANNELS, station_form
from tests.service.test_console import sign_in
from tests.support.service import Service

TURNED, LATIN = "Works \u202enortS", "B\u0430otou steel"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Give settings with sign-in links, as in development."""
    return settings.model_copy(update={"dev_links": True})


@pytest.mark.parametrize("name", [TURNED, LATIN, "a\u200bb", "\u3164", "Test\u00a0bureau", "Bu\u0308ro"])
def test_no_deceiving_name_is_registered(service: Service, name: str) -> None:
    operator = service.headers("operator")
    service.settle()
    before = service.rows("SELECT count(*) FROM event")
    for field in ("name", "agency", "industry"):
        answer = service.client.post(
            "/v1/stations", json={**station_form("s1"), field: name}, headers=operator
        )
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (
            422,
            "name.letters",
            field,
        )
        assert name not in answer.json()["detail"]
    channels: list[dict[str, Any]] = [{**CHANNELS[0], "quantity": name}]
    answer = service.client.post("/v1/stations", json=station_form("s1", channels), headers=operator)
    assert (answer.status_code, answer.json()["code"]) == (422, "name.letters")
    for account in (
        Account("o9", name, "operator"),
        Account("o9", "Nine", "operator", name),
        Account(name, "N", "auditor"),
    ):
        with (
            pytest.raises(Unprocessable, match=r"name\.letters"),
            unit_of_work(service.wiring.engine, "sw_review") as conn,
        ):
            grant_access(conn, service.wiring.service_key, account, act="test")
    assert service.rows("SELECT count(*) FROM event") == before
    assert service.rows("SELECT 1 FROM station") == []


def test_an_old_log_is_shown_with_its_letters_spelled_out(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("stackwitness.stations.flow.check_names", lambda **_: None)
        form = {**station_form("s1"), "name": TURNED, "agency": LATIN}
        assert (
            service.client.post("/v1/stations", json=form, headers=service.headers("operator")).status_code
            == 201
        )
    for path in ("/", "/stations", "/stations/s1"):
        page = sign_in(service).get(path, headers={"accept-language": "en"})
        assert page.status_code == 200
        assert not {"\u202e", "\u0430"} & set(page.text), path
    assert "Works \\u202enortS" in page.text


def test_paper_shows_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    typst = pytest.importorskip("typst")
    given: dict[str, str] = {}

    def compile_report(*_: object, sys_inputs: dict[str, str], **__: object) -> bytes:
        given.update(sys_inputs)
        return b"%PDF-1.7"

    monkeypatch.setattr(typst, "compile", compile_report)
    print_report(json.dumps({"flags": [], "stations": [{"name": TURNED}, {"agency": LATIN}]}).encode())
    assert json.loads(given["report"])["stations"] == [
        {"name": "Works \\u202enortS"},
        {"agency": "B\\u0430otou steel"},
    ]
