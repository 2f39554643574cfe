"""An agency sees its own stations: through the API, the console and the database's own rules."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from stackwitness.accounts.command import issue_account
from stackwitness.app import create_app
from stackwitness.db.embedded import Cluster
from stackwitness.db.roles import EVERY_AGENCY, act_as
from stackwitness.flags.domain import Flag
from stackwitness.wiring import wire
from tests.service.console_seed import Plant, raise_one
from tests.service.rig import Rig, station_form
from tests.support.database import TEST_URL
from tests.support.service import Service

# Every relation that says something about one station, and the roles that act for people.
OF_A_STATION = (
    *("station", "channel", "envelope_seen", "reading_seen", "station_head", "flag", "export_request"),
    *("event",),
)
FOR_PEOPLE = ("sw_read", "sw_review", "sw_export")


@dataclass
class Two:
    """Two stations of two agencies, each with readings, a flag and an export; a client per account."""

    service: Service
    client: TestClient
    flags: dict[str, Flag]
    exports: dict[str, str]
    tokens: dict[str, str]

    def get(self, who: str, path: str, **query: str) -> sa.Any:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"}
        return self.client.get(path, params=query, headers=headers, follow_redirects=False)


@pytest.fixture
def two(service: Service, request: pytest.FixtureRequest) -> Iterator[Two]:
    flags = {}
    for stn, agency in (("A1", "Bureau A"), ("B1", "Bureau B")):
        form = {**station_form(stn), "agency": agency}
        rig = Rig(service, stn, form=form)
        assert rig.post(rig.next()).status_code < 300
        flags[stn] = raise_one(service, stn, Plant(1, 1_767_225_600_000), 1)
    tokens = {
        name: issue_account(service.wiring, name, name, role, agency)
        for name, role, agency in (
            ("inspector-a", "inspector", "Bureau A"),
            ("regulator-a", "regulator", "Bureau A"),
            ("regulator-b", "regulator", "Bureau B"),
            ("operator-a", "operator", "Bureau A"),
            ("auditor-all", "auditor", None),
        )
    }
    settings = service.settings
    if TEST_URL not in os.environ:  # as in production: a login that has no right but to take a role
        cluster: Cluster = request.getfixturevalue("cluster")
        url = cluster.app_url((settings.database_url or "").rpartition("/")[2])
        settings = settings.model_copy(update={"database_url": url})
    wiring = wire(settings)
    with TestClient(create_app(wiring), raise_server_exceptions=False) as client:
        made = Two(service, client, flags, {}, tokens)
        for who, stn in (("regulator-a", "A1"), ("regulator-b", "B1")):
            answer = ask_for_export(made, who, stn)
            assert answer.status_code == 202, answer.text
            made.exports[stn] = answer.json()["export_id"]
        yield made
    wiring.engine.dispose()


def ask_for_export(two: Two, who: str, stn: str) -> sa.Any:
    wanted = {
        "station": stn,
        "from": "2026-01-01T00:00:00Z",
        "to": "2026-01-02T00:00:00Z",
        "purpose": "to see who may",
    }
    headers = {"Authorization": f"Bearer {two.tokens[who]}"}
    return two.client.post("/v1/exports", json=wanted, headers=headers)


def test_the_api_shows_an_inspector_the_own_agency_only(two: Two) -> None:
    own, other = two.flags["A1"], two.flags["B1"]
    span = {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
    who = "inspector-a"
    assert [s["stn"] for s in two.get(who, "/v1/stations").json()["stations"]] == ["A1"]
    assert [f["flag_id"] for f in two.get(who, "/v1/flags").json()["flags"]] == [own.flag_id]
    assert [e["station"] for e in two.get(who, "/v1/exports").json()["exports"]] == ["A1"]
    assert [s["stn"] for s in two.get(who, "/v1/detection").json()["stations"]] == ["A1"]
    assert two.get(who, "/v1/readings", station="A1", **span).json()["rows"]
    paths = [
        "/v1/stations/{stn}",
        "/v1/stations/{stn}/keys",
        "/v1/flags/{flag}",
        "/v1/flags/{flag}/plot",
        "/v1/flags/{flag}/reviews",
        "/v1/events/{event}",
        "/v1/exports/{export}",
    ]
    for path in paths:
        for stn, flag, status in (("A1", own, 200), ("B1", other, 404)):
            filled = path.format(
                stn=stn, flag=flag.flag_id, event=flag.event_id.hex(), export=two.exports[stn]
            )
            assert two.get(who, filled).status_code == status, filled
    assert two.get(who, "/v1/readings", station="B1", **span).status_code == 404
    assert two.get(who, f"/v1/exports/{two.exports['B1']}/bundle").status_code == 404


def test_an_auditor_of_no_agency_sees_all(two: Two) -> None:
    assert [s["stn"] for s in two.get("auditor-all", "/v1/stations").json()["stations"]] == ["A1", "B1"]
    assert len(two.get("auditor-all", "/v1/flags").json()["flags"]) == 2
    assert two.get("auditor-all", f"/v1/flags/{two.flags['B1'].flag_id}").status_code == 200


def test_nobody_acts_on_another_agency_s_station(two: Two) -> None:
    headers = {"Authorization": f"Bearer {two.tokens['inspector-a']}"}
    decision = {"decision": "dismissed", "reason": "nothing to see here, please move on"}
    path = f"/v1/flags/{two.flags['B1'].flag_id}/reviews"
    assert two.client.post(path, json=decision, headers=headers).status_code == 404
    assert ask_for_export(two, "regulator-a", "B1").status_code == 404
    operator = {"Authorization": f"Bearer {two.tokens['operator-a']}"}
    form = {**station_form("A9"), "agency": "Bureau B"}
    assert two.client.post("/v1/stations", json=form, headers=operator).status_code == 403
    form["agency"] = "Bureau A"
    assert two.client.post("/v1/stations", json=form, headers=operator).status_code == 201


def test_the_console_shows_an_inspector_the_own_agency_only(two: Two) -> None:
    other = two.flags["B1"]
    for path in ("/", "/stations", "/flags?state=all", "/exports"):
        answer = two.get("inspector-a", path)
        assert answer.status_code == 200, path
        assert "A1" in answer.text, path
        assert not re.search(r"\bB1\b|Bureau B", answer.text), path
    for path in ("/stations/B1", f"/flags/{other.flag_id}", f"/exports/{two.exports['B1']}"):
        assert two.get("inspector-a", path).status_code == 404, path
    assert "B1" in two.get("auditor-all", "/stations").text


@pytest.mark.parametrize("role", FOR_PEOPLE)
def test_the_database_itself_keeps_them_apart(two: Two, role: str) -> None:
    whose = "SELECT count(*) FROM {} WHERE true"
    with two.service.wiring.engine.connect() as conn:
        for agency, of_a, of_b in (("", False, False), ("Bureau A", True, False), (EVERY_AGENCY, True, True)):
            for table in OF_A_STATION:
                with conn.begin():
                    total = conn.scalar(sa.text(whose.format(table.removesuffix("_seen")))) or 0
                    act_as(conn, role, agency)  # type: ignore[arg-type]
                    seen = conn.scalar(sa.text(whose.format(table))) or 0
                    kept = conn.scalars(sa.text("SELECT stn FROM station")).all()
                if table != "event":  # the events of accounts and of the log belong to no agency
                    assert (seen == 0, seen == total) == (not of_a, of_b), (table, agency)
                assert (("A1" in kept), ("B1" in kept)) == (of_a, of_b)


def test_a_transaction_without_the_setting_sees_nothing(two: Two) -> None:
    with two.service.wiring.engine.begin() as conn:
        conn.execute(sa.text("SET LOCAL ROLE sw_read"))
        for table in OF_A_STATION[:-1]:
            assert conn.scalar(sa.text(f"SELECT count(*) FROM {table}")) == 0, table
        subjects = "SELECT count(*) FROM event WHERE subj LIKE 'station:%'"
        assert conn.scalar(sa.text(subjects)) == 0


def test_the_owner_is_held_to_it_too(two: Two) -> None:
    with two.service.wiring.engine.begin() as conn:
        conn.execute(sa.text("SET LOCAL ROLE stackwitness_owner"))
        assert conn.scalar(sa.text("SELECT count(*) FROM station")) == 0
