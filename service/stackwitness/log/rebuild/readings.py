"""The projection: rows of `reading`, compared with their envelopes as the checker does, replaced where they differ."""

import sqlalchemy as sa

from emdi.envelope import Envelope
from stackwitness.db.timescale import ensure_months
from stackwitness.log.fsck.history import at_of
from stackwitness.log.fsck.projection import Projection
from stackwitness.log.fsck.report import Report

GROUP_ROWS = 100_000
DAY_MS = 86_400_000


class Readings:
    """Take the envelopes in log order; collect those whose rows differ, and rewrite them at the end."""

    def __init__(self, conn: sa.Connection, report: Report) -> None:
        self._conn = conn
        self._report = report
        rows = conn.execute(sa.text("SELECT stn, name, channel_no FROM channel")).all()
        self._channels = {(row.stn, row.name): row.channel_no for row in rows}
        self._stored = conn.execute(sa.text("SELECT EXISTS (SELECT FROM reading)")).scalar_one()
        self._projection = Projection(conn, self._channels, report)
        self._differing: list[tuple[Envelope, int]] = []
        self._waiting_rows = 0
        self.changed = 0

    def take(self, idx: int | None, envelope: Envelope, envelope_no: int) -> None:
        """Compare one envelope's rows with what was signed."""
        if not self._stored:  # everything is lost: nothing to compare, and no million names to print
            self._differing.append((envelope, envelope_no))
            self._report.missing += len(envelope.records)
            self._waiting_rows += len(envelope.records)
            if self._waiting_rows >= GROUP_ROWS:
                self._write()
            return
        before = self._report.tampered + self._report.missing
        self._projection.check(idx, envelope, envelope_no)
        if self._report.tampered + self._report.missing != before:
            self._differing.append((envelope, envelope_no))

    def close(self) -> None:
        """Take out rows of no envelope, and write what differs."""
        if self._stored:
            before = self._report.tampered
            self._projection.close()
            surplus = self._report.tampered - before
            numbers = [number for _, number in self._differing]
            if surplus:
                self.changed += self._conn.execute(
                    sa.text(
                        "DELETE FROM reading r WHERE NOT EXISTS"
                        " (SELECT FROM envelope e WHERE e.envelope_no = r.envelope_no)"
                    )
                ).rowcount
            if numbers:
                self._conn.execute(
                    sa.text("DELETE FROM reading WHERE envelope_no = ANY(:numbers)"), {"numbers": numbers}
                )
        self._write()

    def _write(self) -> None:
        if self._differing:
            self._make_months()
            cursor = self._conn.connection.cursor()
            with cursor.copy("COPY reading (at, channel_no, envelope_no, value, status) FROM STDIN") as copy:
                for envelope, number in self._differing:
                    for record in envelope.records:
                        channel_no = self._channels.get((envelope.stn, record.name))
                        if channel_no is not None:
                            value = None if record.value is None else float(record.value)
                            copy.write_row((at_of(record.at_ms), channel_no, number, value, record.status))
                            self.changed += 1
            cursor.close()
        self._differing, self._waiting_rows = [], 0

    def _make_months(self) -> None:
        days = {record.at_ms // DAY_MS for envelope, _ in self._differing for record in envelope.records}
        # Another connection would wait for the locks this rebuild holds, and this one for it.
        for day in sorted(days):
            ensure_months(self._conn, at_of(day * DAY_MS), at_of(day * DAY_MS), within=True)
