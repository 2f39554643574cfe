"""Who asked for which evidence, when and why, is an event on every station asked about; rows are held to it."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from emdi.event import parse_event
from emdi.keys import LocalKey
from stackwitness.accounts.domain import Account
from stackwitness.db.unit import unit_of_work
from stackwitness.evidence import flow
from stackwitness.log.fsck import fsck
from stackwitness.settings import Settings
from tests.service.evidence_support import Shop, make_shop
from tests.service.log_station import SmallStation

REGULATOR = Account("regulator-1", "r", "regulator")


@pytest.fixture
def shop(settings: Settings, engine: sa.Engine) -> Shop:
    made = make_shop(settings, engine)
    SmallStation(made.log, "S2", LocalKey.from_seed(b"2" * 32, "k2")).register()
    with unit_of_work(engine, "sw_export", "*") as conn:
        flow.request_export(
            conn, made.service_key, REGULATOR, stn=["S2", "S1"], to_at=datetime(2026, 3, 1, 1, 2, 3, 456789, UTC),
            entries=(0, 900), purpose="case 12", defer=False,
        )  # fmt: skip
    made.loop.sequence()
    made.loop.publish()
    return made


def test_each_station_s_chain_says_who_asked_and_the_reason_stays_out(shop: Shop) -> None:
    with shop.engine.begin() as conn:
        jws = conn.scalars(
            sa.text("SELECT jws FROM event WHERE typ = 'export.requested' ORDER BY subj")
        ).all()
    events = [parse_event(bytes(each)) for each in jws]
    assert [(event.subj, event.act) for event in events] == [
        ("station:S1", "regulator-1"),
        ("station:S2", "regulator-1"),
    ]
    assert events[0].data["entries"] == [0, 900]
    assert all(b"case 12" not in bytes(each) for each in jws)
    assert fsck(shop.engine, shop.settings.log_dir).findings == []
    with unit_of_work(shop.engine, "sw_export", "*") as conn:
        (found,) = flow.list_exports(conn, "S2")
    assert (found.purpose, found.stns) == ("case 12", ("S1", "S2"))


EDITS = {
    "UPDATE export_request SET account_id = 'operator-1'": "account_id is 'operator-1'",
    "UPDATE export_request SET to_at = to_at + interval '1 day'": "to_at is",
    "UPDATE export_request SET redacted = true": "redacted is True",
    "UPDATE export_request SET requested_at = requested_at - interval '1 day'": "requested_at is",
    "UPDATE export_request SET first_idx = 5": "first_idx is 5",
    "DELETE FROM export_station WHERE stn = 'S2'": "export_station x",
    "UPDATE explanation SET why = 'case 13'": "why is",
    "UPDATE account SET created_at = created_at - interval '1 day' WHERE account_id = 'regulator-1'": "created_at is",
}


@pytest.mark.parametrize("statement", EDITS)
def test_fsck_names_what_is_not_as_the_log_says(shop: Shop, statement: str) -> None:
    with shop.engine.begin() as conn:
        for table in ("export_station", "explanation", "account"):
            conn.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER append_only_row"))
        conn.execute(sa.text("SET LOCAL session_replication_role = replica"))
        assert conn.execute(sa.text(statement)).rowcount > 0
    lines = [finding.line() for finding in fsck(shop.engine, shop.settings.log_dir).findings]
    assert [line for line in lines if EDITS[statement] in line], lines


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO export_request (export_id, stn, stns, from_at, to_at, account_id, requested_at)"
        " VALUES ('x1', 'S1', '{S1}', now(), now(), 'regulator-1', now())",
        "INSERT INTO export_request (export_id, stn, stns, from_at, to_at, account_id, requested_at, event_id)"
        " SELECT 'x1', 'S1', '{S1}', now(), now(), 'regulator-1', now(), event_id FROM event WHERE typ = 'flag.raised' LIMIT 1",
    ],
)
def test_no_request_without_its_event(shop: Shop, statement: str) -> None:
    with pytest.raises(sa.exc.IntegrityError), unit_of_work(shop.engine, "sw_export", "*") as conn:
        conn.execute(sa.text(statement))
