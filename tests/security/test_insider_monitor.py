"""Someone with every right on the database changes what people are shown; the log stays as it is. A monitor that
sees only what any auditor may see names the row.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import uvicorn

from emdi.encoding import b64u_encode
from emdi.head import format_head, head_root, parse_head
from emdi.policy import Policy, parse_policy
from emdi.proof_check import Account, check_proof
from emdi.proof_file import parse_proof
from stackwitness.db.unit import unit_of_work
from stackwitness.flags import flow as flags
from stackwitness.flags.domain import Provenance
from stackwitness.log.disk import Disk
from stackwitness.log.events import append_event
from stackwitness.log.heads import make_head
from stackwitness.log.watching import watch_database
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor import Monitor, Turn
from stackwitness_client.monitor.loop import wall_ms
from stackwitness_client.monitor.state import State
from stackwitness_detectors.contract import Finding, Verdict
from tests.service.rig import MINUTE_MS, START_MS, Rig
from tests.support.service import Service

STN = "4711"
ENVELOPES = 40


@dataclass
class Site:
    """A real service over HTTP with a station, readings, three flags and a decision; and a monitor that followed it."""

    service: Service
    rig: Rig
    url: str
    home: Path
    flags: list[str]
    policy: Policy
    now_ms: int

    def look(self, *, token: bool = True) -> Turn:
        auditor = self.service.headers("auditor")["Authorization"].removeprefix("Bearer ")
        link = ServerLink(self.url, token=auditor if token else None)
        monitor = Monitor(self.home, link, self.policy, api=token, now_ms=lambda: self.now_ms)
        try:
            return monitor.turn()
        finally:
            monitor.close()
            link.close()

    def sql(self, *statements: str) -> None:
        """Run SQL as a superuser who first switches off what is in the way, and afterwards tidies up."""
        with self.superuser() as conn:
            guards = conn.execute(
                "SELECT tgrelid::regclass::text, tgname, tgenabled::text FROM pg_trigger"
                " WHERE NOT tgisinternal AND tgparentid = 0 AND tgrelid::regclass::text IN ('reading', 'flag', 'review', 'station')"
            ).fetchall()
            for table, name, _ in guards:
                conn.execute(f"ALTER TABLE {table} DISABLE TRIGGER {name}".encode())
            conn.execute("SET LOCAL session_replication_role = replica")
            for statement in statements:
                assert conn.execute(statement.encode()).rowcount > 0, statement
            conn.execute("SET LOCAL session_replication_role = origin")
            for table, name, enabled in guards:
                always = "ALWAYS " if enabled == "A" else ""
                conn.execute(f"ALTER TABLE {table} ENABLE {always}TRIGGER {name}".encode())

    def superuser(self) -> psycopg.Connection:
        url = self.service.settings.database_url
        assert url is not None
        address = url.replace("postgresql+psycopg", "postgresql").partition("?")[0]
        return psycopg.connect(address, prepare_threshold=None)

    def alarms(self) -> list[str]:
        return sorted(path.stem.partition("-")[2] for path in (self.home / "alarms").glob("*.json"))

    def check(self, kind: str) -> Account:
        """Check the one alarm of this type with file and policy alone."""
        [path] = (self.home / "alarms").glob(f"*-{kind}.json")
        return check_proof(parse_proof(path.read_bytes()), self.policy)


def finding(episode: str, hours: int = 3, verdict: Verdict = "cannot be", e_value: float = 3.1e4) -> Finding:
    return Finding(
        detector="hold", version="1", family="freeze", kind="freeze", kinds=("freeze",), verdict=verdict,
        from_ms=START_MS, to_ms=START_MS + hours * 3_600_000, channels=("so2",),
        statistic=("hold_h", float(hours)), e_value=e_value, numbers={"hours": hours},
        text_en=f"so2 stayed for {hours} h", text_zh=f"so2 保持 {hours} 小时", innocent=("held",),
        look_at_en="the log book", look_at_zh="日志", plot={"kind": "hold"}, episode=episode, extends=False,
    )  # fmt: skip


@pytest.fixture
def site(service: Service, tmp_path: Path) -> Iterator[Site]:
    rig = Rig(service)
    for _ in range(ENVELOPES // 20):
        assert rig.post(*[rig.next() for _ in range(20)]).status_code == 202
    raised = []
    with unit_of_work(service.wiring.engine) as conn:
        given = Provenance(STN, 1, 0, 3, "ab" * 32, "cd" * 32)
        for episode in ("hold:so2:1", "hold:so2:2", "hold:so2:3"):
            flag = flags.raise_flag(conn, service.wiring.service_key, finding(episode), given)
            assert flag is not None
            raised.append(flag.flag_id)
        # An episode whose evidence grows is shown in stronger words than were signed first: no lie of the server.
        for grown in (
            finding("drift:so2:1", 3, "unusual", 9.0),
            finding("drift:so2:1", 6, "very unlikely", 40.0),
        ):
            flag = flags.raise_flag(conn, service.wiring.service_key, grown, given)
        assert flag is not None
        assert (flag.verdict_signed, flag.verdict) == ("unusual", "very unlikely")
    form = {"decision": "confirmed_odd", "reason": "The analyser was held by hand."}
    answer = service.client.post(
        f"/v1/flags/{raised[0]}/reviews", json=form, headers=service.headers("inspector")
    )
    assert answer.status_code == 201, answer.text
    service.headers("auditor")
    size = service.settle()
    make_head(service.wiring.engine, Disk(service.settings.log_dir), service.wiring.service_key, size)
    watch_database(service.wiring.engine, service.wiring.service_key)
    service.settle()
    # The state is spoiled on purpose; what matters is that the monitor says so.
    service.check = lambda: None  # type: ignore[method-assign]
    server = uvicorn.Server(uvicorn.Config(service.client.app, port=0, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    policy = parse_policy(service.client.get("/log/policy").text)
    made = Site(service, rig, url, tmp_path / "monitor", raised, policy, wall_ms())
    turn = made.look()
    assert (turn.exit_code, turn.raised) == (0, []), turn
    assert (turn.readings >= 3 * ENVELOPES, turn.flags) == (True, 4)
    yield made
    server.should_exit = True
    thread.join()


def at_minute(number: int) -> str:
    return f"to_timestamp({(START_MS + number * MINUTE_MS) / 1000})"


CHANNEL = "(SELECT channel_no FROM channel WHERE name = 'nox')"
Change = Callable[[Site], None]


def edit_value(site: Site) -> None:
    site.sql(f"UPDATE reading SET value = 4.0 WHERE channel_no = {CHANNEL} AND at = {at_minute(6)}")


def edit_status(site: Site) -> None:
    site.sql(f"UPDATE reading SET status = 'M' WHERE channel_no = {CHANNEL} AND at = {at_minute(7)}")


def drop_reading(site: Site) -> None:
    site.sql(f"DELETE FROM reading WHERE channel_no = {CHANNEL} AND at = {at_minute(8)}")


def forge_earlier_value(site: Site) -> None:
    """The value seen first is shown: a row put before the signed one hides it."""
    site.sql(
        "INSERT INTO reading (at, channel_no, envelope_no, value, status)"
        f" SELECT at, channel_no, 0, 1.0, status FROM reading WHERE channel_no = {CHANNEL} AND at = {at_minute(9)}"
    )


def drop_flag(site: Site) -> None:
    site.sql(f"DELETE FROM flag WHERE flag_id = '{site.flags[2]}'")


def soften_flag(site: Site) -> None:
    site.sql(f"UPDATE flag SET verdict = 'unusual' WHERE flag_id = '{site.flags[1]}'")


def drop_decision(site: Site) -> None:
    site.sql(f"DELETE FROM review WHERE flag_id = '{site.flags[0]}'")


READING = "station 4711, nox at 2026-01-01T00:{}:00.000Z: entry {} signs 12.5 (N), the server shows {}"
FLAG = "flag {}: the log says {} = '{}', the server shows {}"


def test_what_is_shown_otherwise_than_signed_is_named(site: Site) -> None:
    """Each change is found at the next look, named by station, channel, time, entry, signed and shown value."""
    table: list[tuple[Change, str, int, str]] = [
        (edit_value, "value", 6, "4.0 (N)"),
        (edit_status, "value", 7, "12.5 (M)"),
        (drop_reading, "value", 8, "nothing"),
        (forge_earlier_value, "value", 9, "1.0 (N)"),
        (drop_flag, "missing-flag", 2, "is not among the flags the server lists"),
        (soften_flag, "flag", 1, FLAG.format(site.flags[1], "verdict", "cannot be", "'unusual'")),
        (drop_decision, "flag", 0, FLAG.format(site.flags[0], "decision", "confirmed_odd", "None")),
    ]
    for change, kind, number, shown in table:
        change(site)
        rewind(site)
        turn = site.look()
        [(alarm, says)] = turn.raised
        assert (turn.exit_code, alarm.type) == (1, kind), turn
        if kind == "value":
            idx = index_of(site, "envelope", "env_id", f"v.seq = {number}")
            assert says == READING.format(f"0{number}", idx, shown)
        else:
            idx = index_of(site, "event", "event_id", f"'{site.flags[number]}' = '{STN}-' || v.sseq")
            assert shown in says
        account = check_proof(parse_proof(alarm.path.read_bytes()), site.policy)
        assert account.says == says
        assert any(line.startswith(f"entry {idx} ") for line in account.proven), account
        assert account.observed or kind == "flag"
    assert (site.look().raised, len(site.alarms())) == ([], len(table))


def index_of(site: Site, table: str, key: str, where: str) -> int:
    subject = "AND v.subj = 'station:4711'" if table == "event" else ""
    query = f"SELECT e.idx FROM log_entry e JOIN {table} v ON e.entry_id = v.{key} WHERE {where} {subject}"
    [[idx]] = site.service.rows(query)
    return int(idx)


def rewind(site: Site) -> None:
    """Let the monitor look at everything again: whether it does in one turn is otherwise up to chance."""
    state = State(site.home / "state.db")
    state.put("projected", 0)
    state.close()


def test_a_reading_nobody_signed_is_named_once_it_should_be_logged(site: Site) -> None:
    # Shown, but its entry waits for the log: no alarm, now or later.
    site.rig.post(site.rig.next(), site.rig.next())
    rewind(site)
    assert site.look().exit_code == 0
    site.service.settle()
    site.now_ms += 61_000
    assert (site.look().exit_code, site.alarms()) == (0, [])
    # Shown, and no entry ever comes.
    at = START_MS + (ENVELOPES - 1) * MINUTE_MS + 30_000
    number = "(SELECT max(envelope_no) FROM envelope)"
    site.sql(
        "INSERT INTO reading (at, channel_no, envelope_no, value, status)"
        f" VALUES (to_timestamp({at / 1000}), {CHANNEL}, {number}, 1.0, 'N')"
    )
    # A flag nobody raised, dated far ahead.
    copied = "stn, detector, detector_version, kind, verdict, from_at, to_at, channels, e_value, text_en, text_zh, plot"
    site.sql(
        f"INSERT INTO flag (flag_id, episode, raised_at, event_id, {copied}) SELECT '4711-999', 'x',"
        f" raised_at + interval '1 year', sha256('x'), {copied} FROM flag LIMIT 1"
    )
    rewind(site)
    assert (site.look().exit_code, site.alarms()) == (0, [])
    site.now_ms += 61_000
    assert (site.look().exit_code, site.alarms()) == (1, ["unsigned", "unsigned"])
    accounts = [
        check_proof(parse_proof(p.read_bytes()), site.policy) for p in site.home.glob("alarms/*.json")
    ]
    assert all("no entry of the log signs it" in account.observed[0] for account in accounts)
    assert "flag 4711-999" in "".join(account.says for account in accounts)


def test_the_sample_alone_finds_an_edit(site: Site) -> None:
    edit_value(site)
    for _ in range(20):
        if site.look().exit_code:
            break
    assert site.alarms() == ["value"]
    # And a station that the server says it never had.
    site.sql("DELETE FROM station WHERE stn = '4711'")
    rewind(site)
    raised = [says for alarm, says in site.look().raised if alarm.type == "value"]
    assert len(raised) > ENVELOPES
    assert all(says.endswith("the server shows nothing") for says in raised)


def test_guards_switched_off_and_heads_that_hide_are_named(site: Site) -> None:
    with site.superuser() as conn:
        conn.execute("ALTER TABLE envelope DISABLE TRIGGER append_only_row")
    assert (site.look().exit_code, site.alarms()) == (1, ["catalog"])
    told = site.check("catalog").observed
    assert any("append_only_row" in line for line in told), told
    # The service key signs a head as if the station's last envelopes had never come.
    engine, key = site.service.wiring.engine, site.service.wiring.service_key
    disk = Disk(site.service.settings.log_dir)
    [[size]] = site.service.rows("SELECT max(size) FROM log_head")
    [path] = (disk.root / "heads").iterdir()
    lines = [line for line in parse_head(path.read_bytes()) if not line.startswith("station 4711")]
    data = {
        "as_of": size,
        "date": "2026-01-01",
        "lines": len(lines),
        "root_b64u": b64u_encode(head_root(lines)),
    }
    with unit_of_work(engine) as conn:
        append_event(conn, key, typ="head.daily", subj="log", act="test", data={**data, "occasion": "demand"})
    disk.write(f"heads/{size}", format_head(lines))
    site.service.settle()
    assert (site.look().exit_code, site.alarms()) == (1, ["catalog", "head"])
    assert f"the head of {size} entries was signed" in "".join(site.check("head").proven)


def test_an_honest_service_is_mirrored_byte_for_byte(site: Site) -> None:
    log, mirror = site.service.settings.log_dir, site.home / "mirror"
    mirrored = [path.relative_to(mirror) for path in mirror.rglob("*") if path.is_file()]
    assert len(mirrored) >= 4
    for path in mirrored:
        assert (mirror / path).read_bytes() == (log / path).read_bytes(), path


def test_without_a_token_no_more_is_claimed(site: Site) -> None:
    edit_value(site)
    turn = site.look(token=False)
    assert (turn.exit_code, turn.notes[-1]) == (0, "readings, flags and catalog not checked: no token")
