"""Rebuild in numbered steps and one transaction: cut off anywhere, nothing has happened, and it is run again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from emdi.entry import Entry
from emdi.envelope import Envelope
from emdi.event import Event
from emdi.keys import Signer
from emdi.merkle import CompactRange
from emdi.tables import Disclosure
from stackwitness.db.unit import unit_of_work
from stackwitness.log.events import append_event
from stackwitness.log.fsck.records import QUERIES, Records
from stackwitness.log.fsck.report import Report
from stackwitness.log.rebuild.caches import Heads
from stackwitness.log.rebuild.guards import opened_tables
from stackwitness.log.rebuild.published import restore_previous
from stackwitness.log.rebuild.raw import RAW_TABLES, Staging, parse_body, repair_heads, repair_raw, rows_of
from stackwitness.log.rebuild.readings import Readings
from stackwitness.log.rebuild.records import Cause, repair_records
from stackwitness.log.rebuild.schema import DDL, read_known, repair_ddl
from stackwitness.log.rebuild.source import Progress, VerifiedLog
from stackwitness.log.rebuild.waiting import settle_waiting
from stackwitness.log.service_keys import live_key

NOT_IN_THE_LOG = (
    "envelope.envelope_no, channel.channel_no, log_entry.qid: numbers of this database, given anew where rows were gone",
    "log_head: the sizes between two checkpoints, and when they were reached",
    "flag.plot, flag_extension.plot, review.reason, explanation.why, account.display_name and their salts: the log"
    " holds their SHA-256; they live in backups of the database, the texts also in the disclosures of exported bundles"
    " (rebuild --disclosures brings them back)",
    "how far an export got; when a link was first used; detection_state, judgement, fleet_run (detectors start again);"
    " queued jobs",
)


@dataclass
class Rebuilt:
    """What was put right: named in `report`, counted by table; `lost` names what no log can give back.

    `files` counts those of heads and of the shard before that were written again.
    """

    size: int
    root: bytes
    report: Report = field(default_factory=Report)
    tables: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    files: int = 0

    @property
    def rows(self) -> int:
        """How many rows were written or taken out."""
        return sum(self.tables.values())


def rebuild(
    engine: sa.Engine,
    service_key: Signer,
    source: VerifiedLog,
    progress: Progress,
    disclosures: Sequence[Disclosure] = (),
) -> Rebuilt:
    """Make the database again what the verified log says; name every row that had to be changed.

    Entries the log does not hold yet stay queued. A change is sealed by the event `projection.rebuild`, unless the
    log is frozen; without a change nothing is written. `disclosures`, of bundles, give back the free texts that
    the log names by salted hash; one that no event names changes nothing. Raises LogCorrupt, EmdiError, DatabaseUnavailable.
    """
    done = Rebuilt(source.checkpoint.size, source.checkpoint.root)
    with unit_of_work(engine) as conn:
        conn.execute(sa.text("SELECT set_config('stackwitness.agency', '*', true)"))
        run = _Rebuild(conn, source, done, progress, disclosures)
        with opened_tables(
            conn, [*(table.name for table in RAW_TABLES), *QUERIES, "log_head", "log_previous"]
        ):
            run.run()
        run.repair_schema()
        frozen = conn.execute(sa.text("SELECT EXISTS (SELECT FROM log_freeze)")).scalar_one()
        if done.rows and not frozen:
            append_event(
                conn,
                service_key,
                typ="projection.rebuild",
                subj="log",
                act=f"service:{live_key(conn, service_key).kid}",
                data={
                    "from": "tiles",
                    "size": done.size,
                    "root": done.root.hex(),
                    "rows": done.rows,
                    "tables": done.tables,
                },
            )
    return done


class _Rebuild:
    """One run inside the caller's transaction."""

    def __init__(
        self,
        conn: sa.Connection,
        source: VerifiedLog,
        done: Rebuilt,
        progress: Progress,
        disclosures: Sequence[Disclosure],
    ) -> None:
        self.conn = conn
        self.source = source
        self.done = done
        self.report = done.report
        self.progress = progress
        self.texts = {(text.event_id, text.digest): text for text in disclosures}
        self.known = read_known(conn)  # before a trigger is taken off
        self.records = Records()
        self.causes: dict[bytes, Cause] = {}
        self.heads = Heads()
        self.genesis = b"{}"

    def run(self) -> None:
        """Stage, compare, replace: raw rows, then what events call for, readings, heads."""
        edge = self._stage()  # 1
        waiting = settle_waiting(self.conn, edge, self.report)  # 2
        for _, entry in waiting:
            self._learn(None, entry, parse_body(entry))
        ids = [entry_id for entry_id, _ in waiting]
        for table in RAW_TABLES:  # 3
            self._note(table.name, repair_raw(self.conn, table, ids, edge.size, self.report))
        self._note("log_head", repair_heads(self.conn, self.source.roots, edge.size, self.report))
        changed, self.done.lost = repair_records(  # 4
            self.conn, self.records, self.causes, self.texts, self.known, self.report
        )
        for name, count in changed.items():
            self._note(name, count)
        self._note("reading", self._compare_readings(waiting))  # 5
        self._note("log_previous", restore_previous(self.conn, self.source, self.genesis))
        self._note("heads", self.heads.repair(self.conn, self.report))  # 6

    def repair_schema(self) -> None:
        """Put right what is written of the schema's changes, once the tables are closed: that writes some itself."""
        count, lost = repair_ddl(self.conn, self.records.tables[DDL], self.report)
        self._note(DDL, count)
        self.done.lost += lost

    def _stage(self) -> CompactRange:
        staging, edge, size = Staging(self.conn), CompactRange(), self.source.checkpoint.size
        for idx, entry, leaf in self.source.entries():
            if idx % 1024 == 0:
                self.progress("Reading entries", idx, size)
            parsed = parse_body(entry)
            if idx == 0:
                self.genesis = entry.body
            staging.add(rows_of(idx, entry, leaf, parsed))
            self._learn(idx, entry, parsed)
            edge.append(leaf)
        staging.close()
        return edge

    def _learn(self, idx: int | None, entry: Entry, parsed: Envelope | Event | None) -> None:
        self.heads.take(entry.kind, parsed)
        if isinstance(parsed, Event):
            self.records.expect(parsed, idx)
            self.causes[parsed.event_id] = Cause(parsed.act, parsed.ts_ms, parsed.data)

    def _compare_readings(self, waiting: Sequence[tuple[bytes, Entry]]) -> int:
        readings, size = Readings(self.conn, self.report), self.source.checkpoint.size
        numbers = Numbers(self.conn)
        for idx, entry, _ in self.source.entries():
            if idx % 1024 == 0:
                self.progress("Comparing readings", idx, size)
            if entry.kind == 1:
                envelope = parse_body(entry)
                if isinstance(envelope, Envelope):
                    readings.take(idx, envelope, numbers.of(envelope))
        for _, entry in waiting:
            if entry.kind == 1 and isinstance(envelope := parse_body(entry), Envelope):
                readings.take(None, envelope, numbers.of(envelope))
        readings.close()
        return readings.changed

    def _note(self, table: str, count: int) -> None:
        if count:
            self.done.tables[table] = self.done.tables.get(table, 0) + count


class Numbers:
    """Look up envelopes' numbers, thousands at a time: they come in nearly the order of the log."""

    def __init__(self, conn: sa.Connection) -> None:
        self._conn = conn
        self._known: dict[bytes, int] = {}

    def of(self, envelope: Envelope) -> int:
        """Return the number of a stored envelope."""
        if envelope.env_id not in self._known:
            self._fetch(envelope)
        return self._known[envelope.env_id]

    def _fetch(self, envelope: Envelope) -> None:
        """Keep the numbers around this one's, and only those."""
        rows = self._conn.execute(
            sa.text(
                "SELECT env_id, envelope_no FROM envelope WHERE envelope_no >="
                " (SELECT envelope_no FROM envelope WHERE env_id = :id) ORDER BY envelope_no LIMIT 10000"
            ),
            {"id": envelope.env_id},
        )
        if len(self._known) > 200_000:
            self._known = {}
        self._known |= {bytes(row.env_id): row.envelope_no for row in rows}
