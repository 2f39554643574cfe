"""Someone with every right on the database and the disk changes things: the checker names what."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from emdi.policy import Policy
from stackwitness.db.embedded import Cluster
from stackwitness.db.engine import make_engine
from stackwitness.log.fsck import Report, fsck
from stackwitness.log.publisher import publish
from stackwitness.log.sequencer import read_head
from stackwitness.log.watching import watch_database
from stackwitness.settings import Settings
from tests.service.log_station import SmallStation
from tests.service.log_support import SmallLog, make_log

SEVENTEEN = "(SELECT envelope_no FROM envelope WHERE seq = 17)"
FLIP = "set_byte(jws, 90, 65 + (get_byte(jws, 90) + 1) % 26)"
EVIDENCE = (
    "event", "envelope", "flag", "review", "log_entry", "log_head", "log_genesis", "station_key", "channel",
)  # fmt: skip
GUARDS = """
SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relname = ANY (:tables) AND NOT t.tgisinternal AND t.tgenabled = 'A'
"""


@dataclass
class Victim:
    """A log with one station, 300 envelopes, two flags and a review, all published."""

    log: SmallLog
    station: SmallStation
    flags: list[str]
    policy: Policy

    def run(self, *statements: str) -> None:
        """Run SQL as the owner, with triggers and foreign keys out of the way."""
        with self.log.engine.begin() as conn:
            guards = conn.execute(sa.text(GUARDS), {"tables": list(EVIDENCE)}).all()
            for table in EVIDENCE:
                conn.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            conn.execute(sa.text("SET LOCAL session_replication_role = replica"))
            for statement in statements:
                assert conn.execute(sa.text(statement)).rowcount > 0
            conn.execute(sa.text("SET LOCAL session_replication_role = origin"))
            for table, guard in guards:  # every one of them fires always
                conn.execute(sa.text(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {guard}"))

    def value(self, query: str) -> object:
        with self.log.engine.begin() as conn:
            return conn.execute(sa.text(query)).scalar_one()

    def check(self) -> Report:
        settings = self.log.settings
        return fsck(self.log.engine, settings.log_dir, self.policy, signer_dir=settings.signer_dir)


@dataclass
class Mould:
    """A finished log to copy for each test: the database's name, the home folder and what built them."""

    database: str
    home: Path
    station: SmallStation
    flags: list[str]
    policy: Policy


@pytest.fixture(scope="module")
def mould(cluster: Cluster, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mould]:
    name = "insider_mould"
    _create(cluster, name, template)
    home = tmp_path_factory.mktemp("mould")
    engine = make_engine(cluster.url(name))
    log = make_log(Settings(mode="test", home=home, database_url=cluster.url(name)), engine)
    loop = log.start()
    station = SmallStation(log)
    station.register()
    station.push(300)
    loop.sequence()
    flags = [station.raise_flag(), station.raise_flag()]
    station.review(flags[0])
    watch_database(engine, log.service_key)
    loop.sequence()
    loop.publish()
    engine.dispose()
    yield Mould(name, home, station, flags, log.policy)
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def victim(mould: Mould, cluster: Cluster, tmp_path: Path) -> Iterator[Victim]:
    name = "insider_victim"
    _create(cluster, name, mould.database)
    shutil.copytree(mould.home, tmp_path / "home")
    engine = make_engine(cluster.url(name))
    settings = Settings(mode="test", home=tmp_path / "home", database_url=cluster.url(name))
    log = make_log(settings, engine)
    yield Victim(log, replace(mould.station, log=log), mould.flags, mould.policy)
    engine.dispose()
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _create(cluster: Cluster, name: str, template: str) -> None:
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")


def test_nothing_to_name_in_an_honest_log(victim: Victim) -> None:
    report = victim.check()
    assert report.findings == []
    assert (report.exit_code, report.envelopes, report.readings, report.pending) == (0, 300, 600, 0)
    victim.station.push(3)
    report = victim.check()
    assert (report.exit_code, report.pending) == (0, 3)


Change = Callable[[Victim], None]


def index_of(victim: Victim, seq: int) -> int:
    """Return where an envelope stands in the log."""
    query = f"SELECT e.idx FROM log_entry e JOIN envelope v ON v.env_id = e.entry_id WHERE v.seq = {seq}"
    return int(str(victim.value(query)))


def edit_value(victim: Victim) -> None:
    victim.run(
        f"UPDATE reading SET value = 12.0 WHERE envelope_no = {SEVENTEEN} "
        "AND channel_no = (SELECT channel_no FROM channel WHERE name = 'SO2')"
    )


def edit_status(victim: Victim) -> None:
    victim.run(f"UPDATE reading SET status = 'M' WHERE envelope_no = {SEVENTEEN}")


def drop_reading(victim: Victim) -> None:
    victim.run(f"DELETE FROM reading WHERE envelope_no = {SEVENTEEN}")


def add_reading(victim: Victim) -> None:
    victim.run("INSERT INTO reading SELECT at, channel_no, 999999, 1.0, 'N' FROM reading LIMIT 1")


def move_reading(victim: Victim) -> None:
    victim.run(
        "UPDATE reading SET at = at + interval '1 second' WHERE envelope_no = "
        "(SELECT envelope_no FROM envelope WHERE seq = 17)"
    )


def edit_jws(victim: Victim) -> None:
    victim.run(f"UPDATE envelope SET jws = {FLIP} WHERE seq = 17")


def edit_seq_column(victim: Victim) -> None:
    victim.run("UPDATE envelope SET recv_ms = recv_ms - 3600000 WHERE seq = 17")


def delete_envelope(victim: Victim) -> None:
    victim.run(
        f"DELETE FROM reading WHERE envelope_no = {SEVENTEEN}",
        "DELETE FROM envelope WHERE seq = 17",
    )


def delete_flag(victim: Victim) -> None:
    victim.run(f"DELETE FROM flag WHERE flag_id = '{victim.flags[1]}'")


def delete_flag_and_event(victim: Victim) -> None:
    victim.run(
        f"DELETE FROM event WHERE event_id = (SELECT event_id FROM flag WHERE flag_id = '{victim.flags[1]}')",
        f"DELETE FROM flag WHERE flag_id = '{victim.flags[1]}'",
    )


def soften_flag(victim: Victim) -> None:
    victim.run(f"UPDATE flag SET verdict = 'unusual' WHERE flag_id = '{victim.flags[1]}'")


def edit_reason(victim: Victim) -> None:
    victim.run("UPDATE review SET reason = 'All was well.'")


def delete_review(victim: Victim) -> None:
    victim.run("DELETE FROM review")


def edit_leaf(victim: Victim) -> None:
    victim.run("UPDATE log_entry SET leaf = sha256('other') WHERE idx = 21")


def edit_entry_and_leaf(victim: Victim) -> None:
    victim.run(
        f"UPDATE envelope SET jws = {FLIP} WHERE seq = 17",
        "UPDATE log_entry e SET leaf = sha256('\\x00'::bytea || log_prefix(1, e.recv_ms) || v.jws) "
        "FROM envelope v WHERE v.env_id = e.entry_id AND v.seq = 17",
    )


def truncate_tail(victim: Victim) -> None:
    victim.run("DELETE FROM log_entry WHERE idx >= 300", "DELETE FROM log_head WHERE size > 300")


def flip_bit(victim: Victim, name: str, at: int) -> None:
    path = victim.log.settings.log_dir / name
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def edit_bundle(victim: Victim) -> None:
    flip_bit(victim, "tile/entries/000", -3)


def edit_tile(victim: Victim) -> None:
    flip_bit(victim, "tile/0/000", 32 * index_of(victim, 17))


def remove_bundle(victim: Victim) -> None:
    (victim.log.settings.log_dir / "tile/entries/000").unlink()


def edit_station_head(victim: Victim) -> None:
    victim.run("UPDATE station_head SET seq = 400")


def swap_key(victim: Victim) -> None:
    victim.run("UPDATE station_key SET public_key = sha256('mine')")


def raise_limit(victim: Victim) -> None:
    victim.run("UPDATE channel SET limit_value = 350 WHERE name = 'SO2'")


def insert_unlogged_envelope(victim: Victim) -> None:
    victim.run(
        "INSERT INTO envelope SELECT 999999, sha256('x'), stn, 7, seq, kid, iat_ms, recv_ms, first_at, last_at, "
        "reading_count, jws FROM envelope WHERE seq = 17"
    )


def lose_signer_state(victim: Victim) -> None:
    (victim.log.settings.signer_dir / "state").unlink()


def backdate_flag(victim: Victim) -> None:
    victim.run(
        f"UPDATE flag SET raised_at = raised_at - interval '40 days' WHERE flag_id = '{victim.flags[1]}'"
    )


def backdate_review(victim: Victim) -> None:
    victim.run("UPDATE review SET decided_at = decided_at - interval '40 days'")


def swap_entries(victim: Victim) -> None:
    first = index_of(victim, 16)
    victim.run(
        f"UPDATE log_entry SET idx = 99999 WHERE idx = {first}",
        f"UPDATE log_entry SET idx = {first} WHERE idx = {first + 1}",
        f"UPDATE log_entry SET idx = {first + 1} WHERE idx = 99999",
    )


def swap_channels(victim: Victim) -> None:
    for old, new in (("SO2", "x"), ("flow", "SO2"), ("x", "flow")):
        victim.run(f"UPDATE channel SET name = '{new}' WHERE name = '{old}'")


def null_the_value(victim: Victim) -> None:
    victim.run(f"UPDATE reading SET value = 'NaN' WHERE envelope_no = {SEVENTEEN}")


def edit_log_head(victim: Victim) -> None:
    victim.run("UPDATE log_head SET root = sha256('x') WHERE size > 300")


def replace_service_key(victim: Victim) -> None:
    victim.run(
        "UPDATE log_genesis SET body = convert_to(replace(convert_from(body, 'UTF8'), 'service-1', 'mine'), 'UTF8')"
    )


def silence_detectors(victim: Victim) -> None:
    victim.run("INSERT INTO detection_state VALUES ('S1', '2099-01-01', 'x', sha256('x'), 0, 0)")


def queue_junk(victim: Victim) -> None:
    victim.run(
        "INSERT INTO log_pending (kind, entry_id, recv_ms, leaf) VALUES (1, sha256('x'), 1, log_leaf(1, 1, 'junk'))"
    )


def queue_twin(victim: Victim) -> None:
    victim.run(
        "INSERT INTO log_pending (kind, entry_id, recv_ms, leaf) "
        "SELECT 1, env_id, recv_ms, log_leaf(1, recv_ms, 'another body') FROM envelope LIMIT 1"
    )


def switch_guard_off(victim: Victim) -> None:
    with victim.log.engine.begin() as conn:
        conn.execute(sa.text("ALTER TABLE envelope DISABLE TRIGGER queue_envelope"))


def drop_guard(victim: Victim) -> None:
    with victim.log.engine.begin() as conn:
        conn.execute(sa.text("DROP TRIGGER append_only_row ON flag"))


def empty_guard(victim: Victim) -> None:
    with victim.log.engine.begin() as conn:
        body = "BEGIN RETURN coalesce(NEW, OLD); END"
        conn.execute(
            sa.text(
                f"CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS '{body}'"
            )
        )


# change, exit code, table and text that must stand in one finding
CHANGES: list[tuple[Change, int, str, str]] = [
    (edit_value, 1, "reading", "at 2026-01-02T00:17:00.000Z of envelope S1/0/17: signed 52.1 (N), stored"),
    (edit_status, 1, "reading", "channel flow at 2026-01-02T00:17:00.000Z of envelope S1/0/17"),
    (drop_reading, 2, "reading", "channel SO2 at 2026-01-02T00:17:00.000Z of envelope S1/0/17 has no row"),
    (add_reading, 1, "reading", "envelope_no 999999, which is not in the log"),
    (move_reading, 1, "reading", "00:17:01.000Z of envelope S1/0/17 was never signed"),
    (edit_jws, 1, "envelope", "the stored bytes of envelope S1/0/17 are not those that were logged"),
    (edit_seq_column, 1, "envelope", "recv_ms"),
    (delete_envelope, 2, "envelope", "the row of envelope S1/0/17 is gone"),
    (delete_flag, 2, "flag", "is event idx"),
    (delete_flag_and_event, 2, "event", "flag.raised"),
    (soften_flag, 1, "flag", "verdict is 'unusual', the event says 'cannot be'"),
    (edit_reason, 1, "review", "reason is"),
    (delete_review, 2, "review", "but has no row"),
    (edit_leaf, 1, "log_entry", "the leaf hash of envelope"),
    (edit_entry_and_leaf, 1, "envelope", "the stored bytes of envelope S1/0/17 are not"),
    (truncate_tail, 1, "log_entry", "the row of"),
    (edit_bundle, 1, "disk", "was edited on disk"),
    (edit_tile, 1, "disk", "the hash of envelope"),
    (remove_bundle, 2, "disk", "the file is gone"),
    (edit_station_head, 1, "station_head", "400"),
    (swap_key, 1, "station_key", "public_key"),
    (raise_limit, 1, "channel", "limit_value is 350.0, the event says 35.0"),
    (insert_unlogged_envelope, 1, "envelope", "neither a log entry nor a place in the queue"),
    (lose_signer_state, 2, "signer", "state is gone"),
    (backdate_flag, 1, "flag", "raised_at"),
    (backdate_review, 1, "review", "decided_at"),
    (swap_entries, 1, "log_entry", "the leaf hash of envelope S1/0/16 was edited"),
    (swap_channels, 1, "reading", "channel flow at 2026-01-02T00:17:00.000Z of envelope S1/0/17"),
    (null_the_value, 1, "reading", "signed 52.1 (N), stored nan (N)"),
    (edit_log_head, 1, "log_head", "the entries do not give this root"),
    (replace_service_key, 1, "log_genesis", "are not those that were logged"),
    (silence_detectors, 1, "detection_state", "the readings end at"),
    (queue_junk, 2, "envelope", "it waits for the log, but its row is gone"),
    (queue_twin, 1, "log_pending", "the queued leaf hash is not that of the row"),
    (switch_guard_off, 1, "envelope", "the trigger queue_envelope is switched off"),
    (drop_guard, 1, "flag", "the trigger append_only_row is gone"),
    (empty_guard, 1, "pg_proc", "the function refuse_change was changed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "code", "table", "text"), CHANGES, ids=[row[0].__name__ for row in CHANGES]
)
def test_change_is_named(victim: Victim, change: Change, code: int, table: str, text: str) -> None:
    change(victim)
    report = victim.check()
    lines = [finding.line() for finding in report.findings]
    assert report.exit_code == code, lines
    assert [line for line in lines if table in line.partition(": ")[2] and text in line], lines


def test_history_rewritten_everywhere_fails_at_the_signed_root(victim: Victim) -> None:
    edit_entry_and_leaf(victim)
    log_dir = victim.log.settings.log_dir
    note = (log_dir / "checkpoint").read_bytes()
    with victim.log.engine.begin() as conn:
        head = read_head(conn)
    (log_dir / "checkpoint").unlink()
    with victim.log.engine.begin() as conn:
        publish(conn, log_dir, head.size)  # the insider republishes every tile over the edited entry
    (log_dir / "checkpoint").write_bytes(note)
    report = victim.check()
    codes = {finding.code for finding in report.findings}
    assert report.exit_code == 1
    assert {"checkpoint.root", "signer.root", "entry.malformed"} <= codes
