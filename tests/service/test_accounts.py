"""Accounts: who may come in, how, and for how long."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from emdi.keys import LocalKey
from stackwitness import clock
from stackwitness.accounts import flow
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Forbidden, NotFound, Unauthorized
from tests.support.service import Service

KEY = LocalKey.from_seed(b"s" * 32, "service-1")


def test_bearer_token_opens_and_only_its_hash_is_stored(service: Service) -> None:
    headers = service.headers("inspector")
    answer = service.client.get("/v1/account", headers=headers)
    assert answer.json() == {
        "account_id": "inspector",
        "display_name": "Development inspector",
        "role": "inspector",
        "agency": None,
    }
    token = headers["Authorization"].removeprefix("Bearer ")
    (row,) = service.rows("SELECT token_hash FROM access_token WHERE account_id = 'inspector'")
    assert bytes(row.token_hash) == flow.hash_token(token)


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer nonsense", "Basic dXNlcjpwYXNz", "Bearer " + "a" * 500, "Bearer \xe9"],
)
def test_wrong_credentials_are_401(service: Service, header: str) -> None:
    answer = service.client.get("/v1/account", headers={"Authorization": header.encode("latin-1")})
    assert (answer.status_code, answer.json()["code"]) == (401, "account.token")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_nobody_is_401(service: Service) -> None:
    assert service.client.get("/v1/account").status_code == 401


def test_link_becomes_a_session_which_ends(service: Service) -> None:
    engine, key = service.wiring.engine, service.wiring.service_key
    with unit_of_work(engine) as conn:
        flow.ensure_development_accounts(conn, key, "test")
        session = flow.redeem_link(conn, key, flow.issue_link(conn, key, "regulator"))
    cookie = {"Cookie": f"sw_session={session.token}"}
    assert service.client.get("/v1/account", headers=cookie).json()["role"] == "regulator"
    bearer = {"Authorization": f"Bearer {session.token}"}
    assert service.client.get("/v1/account", headers=bearer).status_code == 401
    cross = {**cookie, "Sec-Fetch-Site": "cross-site"}
    answer = service.client.post("/v1/stations", json={}, headers=cross)
    assert (answer.status_code, answer.json()["code"]) == (403, "account.cross_site")
    with unit_of_work(engine) as conn:
        flow.end_session(conn, session.token)
    assert service.client.get("/v1/account", headers=cookie).status_code == 401


def test_tokens_end(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with unit_of_work(engine) as conn:
        flow.ensure_development_accounts(conn, KEY, "development")
        link = flow.issue_link(conn, KEY, "inspector")
        bearer = flow.issue_token(conn, KEY, "operator", act="service:test")
        assert flow.account_of(conn, KEY, bearer, "bearer") is not None
        later = datetime.now(UTC) + timedelta(days=366)
        monkeypatch.setattr(clock, "now_utc", lambda: later)
        assert flow.account_of(conn, KEY, bearer, "bearer") is None
        with pytest.raises(Unauthorized):
            flow.redeem_link(conn, KEY, link)


def test_no_development_accounts_in_production(engine: Engine) -> None:
    with unit_of_work(engine) as conn:
        with pytest.raises(Forbidden):
            flow.ensure_development_accounts(conn, KEY, "production")
        with pytest.raises(NotFound):
            flow.issue_link(conn, KEY, "inspector")
