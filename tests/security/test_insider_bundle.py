"""Someone with every right on the database deletes at the end of a chain, where no later link misses it."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from stackwitness.accounts.domain import Account
from stackwitness.db.unit import unit_of_work
from stackwitness.evidence import flow
from stackwitness.settings import Settings
from stackwitness_client.verify import Report, verify_bundle
from tests.service.evidence_support import Shop, make_shop

REGULATOR = Account("regulator-1", "r", "regulator")
DAY = (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC))
LAST = "(SELECT max(seq) FROM envelope)"
LAST_FLAG = "(SELECT max(sseq) FROM event WHERE typ = 'flag.raised')"
LATEST = "(SELECT max(sseq) FROM event WHERE subj = 'station:S1')"
ENTRIES = "DELETE FROM log_entry e WHERE kind = 1 AND NOT EXISTS (SELECT FROM envelope v WHERE v.env_id = e.entry_id)"
EVENTS = "DELETE FROM log_entry e WHERE kind = 2 AND NOT EXISTS (SELECT FROM event w WHERE w.event_id = e.entry_id)"
ROLL_HEAD_BACK = (
    "UPDATE subject_head h SET sseq = w.sseq, event_id = w.event_id FROM event w "
    f"WHERE h.subj = 'station:S1' AND w.subj = h.subj AND w.sseq = {LATEST}"
)
ROLL_STATION_BACK = (
    "UPDATE station_head h SET seq = v.seq, env_id = v.env_id FROM envelope v WHERE v.seq = " + LAST
)
READINGS = f"DELETE FROM reading WHERE envelope_no = (SELECT envelope_no FROM envelope WHERE seq = {LAST})"
TAIL = [READINGS, f"DELETE FROM envelope WHERE seq = {LAST}", ROLL_STATION_BACK]
UNDECIDE = [f"DELETE FROM event WHERE sseq = {LATEST} AND subj = 'station:S1'", "DELETE FROM review"]
UNFLAG = [
    *UNDECIDE,
    f"DELETE FROM flag WHERE event_id = (SELECT event_id FROM event WHERE sseq = {LAST_FLAG} AND subj = 'station:S1')",
    f"DELETE FROM event WHERE sseq = {LAST_FLAG} AND subj = 'station:S1'",
]
# Rows that say another station, or another subject, than their station or the service signed.
ASCRIBE_TAIL = [
    f"UPDATE envelope SET stn = 'S9', seq = seq + 1000 WHERE seq >= {LAST} - 2",
    "UPDATE station_head h SET seq = v.seq, env_id = v.env_id FROM envelope v WHERE v.stn = 'S1' "
    "AND v.seq = (SELECT max(seq) FROM envelope WHERE stn = 'S1')",
]
ASCRIBE_DECISION = [
    f"UPDATE event SET subj = 'station:S9', sseq = 0 WHERE sseq = {LATEST} AND subj = 'station:S1'",
    "DELETE FROM review",
    ROLL_HEAD_BACK,
]
# statements, exit code, text that names what is gone
ATTACKS = {
    "last envelope": (TAIL, 1, "though it is signed and logged"),
    "last envelope with its log row": ([*TAIL, ENTRIES], 1, "though it is signed and logged"),
    "last three envelopes ascribed to another station": (ASCRIBE_TAIL, 1, "envelope S1 ep 0 seq 39"),
    "last decision ascribed to another station": (ASCRIBE_DECISION, 1, "review S1-"),
    "last decision and head": ([*UNDECIDE, ROLL_HEAD_BACK], 1, "review S1-"),
    "last decision, head and log row": ([*UNDECIDE, ROLL_HEAD_BACK, EVENTS], 1, "review S1-"),
    "last flag, its decision, head and log rows": ([*UNFLAG, ROLL_HEAD_BACK, EVENTS], 1, "flag S1-"),
}


@pytest.fixture
def shop(settings: Settings, engine: sa.Engine) -> Shop:
    return make_shop(settings, engine)


def export_after(shop: Shop, statements: list[str]) -> Report:
    with shop.engine.begin() as conn:
        for table in ("event", "envelope", "flag", "review", "log_entry"):
            for trigger in ("append_only_row", "append_only_table"):
                conn.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}"))
        conn.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            assert conn.execute(sa.text(statement)).rowcount > 0, statement
    with unit_of_work(shop.engine) as conn:
        export = flow.request_export(
            conn,
            shop.service_key,
            REGULATOR,
            stn="S1",
            from_at=DAY[0],
            to_at=DAY[1],
            purpose="audit",
            defer=False,
        )
    with shop.running_log():
        bundle = flow.build_export(shop, export.export_id)
    return verify_bundle(bundle, shop.policy_text)


@pytest.mark.parametrize("name", ATTACKS)
def test_what_the_log_published_stands_in_the_bundle(shop: Shop, name: str) -> None:
    statements, code, text = ATTACKS[name]
    report = export_after(shop, statements)
    lines = [finding.line() for finding in report.findings]
    assert report.exit_code == code, report.text()
    assert [line for line in lines if text in line], report.text()


def test_an_event_deleted_alone_is_taken_from_the_published_log(shop: Shop) -> None:
    report = export_after(shop, [f"DELETE FROM event WHERE sseq = {LAST_FLAG} AND subj = 'station:S1'"])
    assert (report.exit_code, report.counts["flags"]) == (0, 2), report.text()
