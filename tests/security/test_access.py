"""Who may come in is a matter of signed events: rows written or edited by hand let nobody in, and are named."""

from typing import Any

import pytest
from sqlalchemy import text

from stackwitness.accounts import flow
from stackwitness.accounts.command import issue_account, revoke_account
from stackwitness.accounts.flow import hash_token
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Conflict, NotFound
from stackwitness.log.fsck import fsck
from tests.service.rig import Rig
from tests.support.service import Service


def status(service: Service, token: str) -> int:
    answer = service.client.get("/v1/account", headers={"Authorization": f"Bearer {token}"})
    return int(answer.status_code)


def run(service: Service, *statements: str, **given: Any) -> None:
    """Act as the owner of the database, who switches the guards off first."""
    with service.wiring.engine.begin() as conn:
        for table in ("account", "access_token", "event"):
            conn.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        for statement in statements:
            conn.execute(text(statement), given)


def found(service: Service) -> set[tuple[str, str]]:
    service.settle()
    report = fsck(service.wiring.engine, service.settings.log_dir)
    return {(one.code, one.key) for one in report.findings if not one.code.startswith("guard.")}


@pytest.fixture
def checked(service: Service) -> Service:
    """Give a service whose state is spoilt on purpose: the whole-state check would rightly complain."""
    service.check = lambda: None  # type: ignore[method-assign]
    return service


def test_a_revoked_account_is_out_at_once(service: Service) -> None:
    token = issue_account(service.wiring, "mira", "Mira", "inspector")
    assert status(service, token) == 200
    assert issue_account(service.wiring, "mira", "Mira", "inspector") != token
    with pytest.raises(Conflict, match=r"account\.fixed"):
        issue_account(service.wiring, "mira", "Mira", "operator")
    revoke_account(service.wiring, "mira", "left the bureau")
    assert status(service, token) == 401
    with pytest.raises(Conflict, match=r"account\.revoked"):
        issue_account(service.wiring, "mira", "Mira", "inspector")
    with pytest.raises(Conflict, match=r"account\.revoked"):
        revoke_account(service.wiring, "mira", "again")
    with pytest.raises(NotFound):
        revoke_account(service.wiring, "nobody", "x")
    events = service.rows("SELECT typ FROM event WHERE subj = 'account:mira' ORDER BY sseq")
    assert [row.typ for row in events] == ["access.grant", "access.token", "access.token", "access.revoke"]
    assert found(service) == set()


def test_a_token_put_into_the_table_opens_nothing_and_is_named(checked: Service) -> None:
    checked.headers("auditor")
    forged = hash_token("forged")
    columns = "(token_hash, account_id, kind, expires_at, event_id)"
    steal = f"""
        INSERT INTO access_token {columns}
        SELECT :hash, 'operator', 'bearer', now() + interval '1 day', event_id FROM event
        WHERE typ = 'access.grant' LIMIT 1"""
    run(checked, steal, hash=forged)
    assert status(checked, "forged") == 401
    assert ("access_token.surplus", forged.hex()) in found(checked)


def test_a_token_given_to_another_account_opens_nothing(checked: Service) -> None:
    token = checked.headers("auditor")["Authorization"].removeprefix("Bearer ")
    assert status(checked, token) == 200
    run(checked, "UPDATE access_token SET account_id = 'operator' WHERE account_id = 'auditor'")
    assert status(checked, token) == 401
    assert ("access_token.edited", hash_token(token).hex()) in found(checked)


def test_a_token_made_to_last_opens_nothing(checked: Service) -> None:
    token = checked.headers("auditor")["Authorization"].removeprefix("Bearer ")
    run(checked, "UPDATE access_token SET expires_at = expires_at + interval '1 day'")
    assert status(checked, token) == 401
    assert ("access_token.edited", hash_token(token).hex()) in found(checked)


def test_a_role_raised_by_hand_gives_no_right(checked: Service) -> None:
    token = checked.headers("auditor")["Authorization"].removeprefix("Bearer ")
    run(checked, "UPDATE account SET role = 'operator' WHERE account_id = 'auditor'")
    assert status(checked, token) == 401
    assert ("account.edited", "auditor") in found(checked)


def test_an_account_made_by_hand_is_named(checked: Service) -> None:
    checked.headers("auditor")
    run(
        checked,
        "ALTER TABLE account DROP CONSTRAINT account_granted",
        "INSERT INTO account (account_id, display_name, role) VALUES ('ghost', 'Ghost', 'operator')",
    )
    with unit_of_work(checked.wiring.engine) as conn:
        token = flow.issue_token(conn, checked.wiring.service_key, "ghost", act="service:test")
    assert status(checked, token) == 401
    assert ("account.surplus", "ghost") in found(checked)


def test_hiding_a_revocation_breaks_the_accounts_chain(checked: Service) -> None:
    token = issue_account(checked.wiring, "mira", "Mira", "inspector")
    revoke_account(checked.wiring, "mira", "left")
    checked.settle()
    run(
        checked,
        "UPDATE subject_head SET sseq = 1, event_id = (SELECT event_id FROM event WHERE subj = 'account:mira'"
        " AND sseq = 1) WHERE subj = 'account:mira'",
        "ALTER TABLE explanation DISABLE TRIGGER USER",
        "DELETE FROM explanation",
        "DELETE FROM event WHERE typ = 'access.revoke'",
    )
    assert status(checked, token) == 200  # the database alone cannot know: the log does
    codes = {name for name, _ in found(checked)}
    assert {"event.missing", "subject_head.edited"} <= codes


# what the owner of the database does to a row of governance, and what fsck calls it
EDITS = [
    ("key_compromise", "UPDATE key_compromise SET suspect_from_idx = 999", "key_compromise.edited"),
    ("key_compromise", "DELETE FROM key_compromise", "key_compromise.missing"),
    ("key_request", "UPDATE key_request SET account_id = 'somebody'", "key_request.edited"),
    ("epoch", "DELETE FROM epoch", "epoch.missing"),
    ("epoch_ack", "UPDATE epoch_ack SET account_id = 'auditor'", "epoch_ack.edited"),
    ("gap", "UPDATE gap SET seq_last = seq_first", "gap.edited"),
    ("channel_limit", "UPDATE channel_limit SET limit_value = 500", "channel_limit.edited"),
    ("channel_limit", "DELETE FROM channel_limit", "channel_limit.missing"),
    ("explanation", "UPDATE explanation SET why = 'all was well' WHERE why = 'stolen'", "explanation.edited"),
    ("explanation", "UPDATE explanation SET salt = sha256('x') WHERE why = 'p'", "explanation.edited"),
    (
        "explanation",
        "UPDATE explanation SET why = '', salt = decode(repeat('00', 32), 'hex') WHERE why = 'p'",
        "explanation.text",
    ),
    ("explanation", "DELETE FROM explanation WHERE why = 'logger replaced'", "explanation.missing"),
]


def test_no_act_of_an_officer_can_be_edited_unseen(checked: Service) -> None:
    rig = Rig(checked)
    inspector = checked.headers("inspector")
    rig.post(rig.next())
    rig.post(rig.skip(3))
    rig.ep, rig.seq, rig.prev = 2, 0, bytes(32)
    rig.post(rig.next())
    stn = "/v1/stations/4711"
    acts: list[tuple[str, dict[str, Any], dict[str, str]]] = [
        (f"{stn}/epochs/2/ack", {"why": "logger replaced"}, inspector),
        (f"{stn}/keys/{rig.key.kid}/compromise", {"why": "stolen", "suspect_from_idx": 1}, rig.operator),
        (
            f"{stn}/limits",
            {"channel": "nox", "limit": 9, "from": "2026-03-01T00:00:00Z", "why": "p"},
            rig.operator,
        ),
    ]
    for path, form, headers in acts:
        assert rig.client.post(path, json=form, headers=headers).status_code in (200, 201)
    assert found(checked) == set()
    engine = checked.wiring.engine
    for table, statement, code in EDITS:
        with engine.begin() as conn:
            conn.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            assert conn.execute(text(statement)).rowcount == 1, statement
        report = fsck(engine, checked.settings.log_dir)
        assert code in {one.code for one in report.findings}, statement
