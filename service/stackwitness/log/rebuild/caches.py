"""The heads of stations and subjects: caches, recomputed from the log and from what waits for it."""

from dataclasses import dataclass, field

import sqlalchemy as sa

from emdi.envelope import Envelope
from emdi.event import Event
from emdi.shard import chains_of
from stackwitness.log.fsck.history import at_of
from stackwitness.log.fsck.report import Report
from stackwitness.log.previous import read_previous


@dataclass
class Heads:
    """Where every chain stands after the entries taken so far."""

    stations: dict[str, tuple[int, int, bytes]] = field(default_factory=dict)
    last_ms: dict[str, int] = field(default_factory=dict)
    subjects: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def take(self, kind: int, parsed: Envelope | Event | None) -> None:
        """Move the head of one chain."""
        if isinstance(parsed, Event):
            self.subjects[parsed.subj] = (parsed.sseq, parsed.event_id)
        elif isinstance(parsed, Envelope) and kind == 1:
            stn = parsed.stn
            self.stations[stn] = (parsed.ep, parsed.seq, parsed.env_id)
            last_ms = max(record.at_ms for record in parsed.records)
            self.last_ms[stn] = max(last_ms, self.last_ms.get(stn, last_ms))

    def repair(self, conn: sa.Connection, report: Report) -> int:
        """Put both tables right; name each row; return how many."""
        rows = conn.execute(sa.text("SELECT stn, ep, seq, env_id, last_at FROM station_head")).all()
        stored = {row.stn: (row.ep, row.seq, bytes(row.env_id), row.last_at) for row in rows}
        wanted = {stn: (*head, at_of(self.last_ms[stn])) for stn, head in self.stations.items()}
        before = read_previous(conn)
        for stn, head in chains_of(*before).items() if before else ():
            # Silent since the shard began: the epoch says that its last reading is not known here.
            if stn not in wanted:
                wanted[stn] = (*head, stored[stn][3] if stn in stored else at_of(0))
        changed = sorted(stn for stn in stored.keys() | wanted.keys() if stored.get(stn) != wanted.get(stn))
        for stn in changed:
            report.tamper("station_head.edited", "station_head", stn, "put right: the head of the chain")
            conn.execute(sa.text("DELETE FROM station_head WHERE stn = :stn"), {"stn": stn})
            if stn in wanted:
                ep, seq, env_id, last_at = wanted[stn]
                conn.execute(
                    sa.text("INSERT INTO station_head VALUES (:stn, :ep, :seq, :env_id, :last_at)"),
                    {"stn": stn, "ep": ep, "seq": seq, "env_id": env_id, "last_at": last_at},
                )
        return len(changed) + self._repair_subjects(conn, report)

    def _repair_subjects(self, conn: sa.Connection, report: Report) -> int:
        rows = conn.execute(sa.text("SELECT subj, sseq, event_id FROM subject_head")).all()
        stored = {row.subj: (row.sseq, bytes(row.event_id)) for row in rows}
        everyone = stored.keys() | self.subjects.keys()
        changed = sorted(subj for subj in everyone if stored.get(subj) != self.subjects.get(subj))
        for subj in changed:
            report.tamper("subject_head.edited", "subject_head", subj, "put right: the head of the chain")
            conn.execute(sa.text("DELETE FROM subject_head WHERE subj = :subj"), {"subj": subj})
            if subj in self.subjects:
                sseq, event_id = self.subjects[subj]
                conn.execute(
                    sa.text("INSERT INTO subject_head VALUES (:subj, :sseq, :event_id)"),
                    {"subj": subj, "sseq": sseq, "event_id": event_id},
                )
        return len(changed)
