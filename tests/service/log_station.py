"""A station in a small log: registered, with readings, a flag and a review, all as the service stores
them.
"""

import hashlib
from dataclasses import dataclass, field
from decimal import Decimal

import sqlalchemy as sa

from emdi.envelope import Envelope, seal_envelope
from emdi.event import seal_key_proof
from emdi.keys import LocalKey
from emdi.pack import Record
from stackwitness.accounts.domain import Account
from stackwitness.accounts.flow import grant_access
from stackwitness.db.timescale import ensure_months
from stackwitness.log.events import append_event
from stackwitness.log.fsck.history import at_of
from stackwitness.stations.domain import Channel, NewKey, Station
from stackwitness.stations.flow import register_station
from stackwitness.stations.keys import approve_key, request_key
from tests.service.log_support import SmallLog

START_MS = 1_767_312_000_000  # 2026-01-02T00:00:00Z
MINUTE_MS = 60_000
PLOT = '{"kind":"hold"}'


@dataclass
class SmallStation:
    """Push envelopes, raise flags, decide; straight into the tables, as ingest and flags do."""

    log: SmallLog
    stn: str = "S1"
    key: LocalKey = field(default_factory=lambda: LocalKey.from_seed(b"k" * 32, "k1"))
    seq: int = 0
    prev: bytes = bytes(32)
    channels: dict[str, int] = field(default_factory=dict)

    def register(self) -> None:
        with self.log.engine.begin() as conn:
            station = Station(self.stn, "Test stack", "agency", "power", 30.0, 120.0, 480)
            channels = [
                Channel("SO2", "SO2", "mg/m3", "pollutant", limit=35.0, resolution=0.1),
                Channel("flow", "flow", "m3/h", "flow"),
            ]
            for name in ("operator-1", "operator-2"):
                grant_access(conn, self.log.service_key, Account(name, name, "operator"), act="service:test")
            register_station(conn, self.log.service_key, station, channels, act="operator-1")
            proof = seal_key_proof(self.key, self.stn)
            new = NewKey(self.key.kid, self.key.public.alg, self.key.public.raw, proof)
            request_key(conn, self.log.service_key, self.stn, new, act="operator-1")
            approve_key(conn, self.log.service_key, self.stn, new.kid, act="operator-2")
            rows = conn.execute(
                sa.text("SELECT name, channel_no FROM channel WHERE stn = :stn"), {"stn": self.stn}
            )
            self.channels = {row.name: row.channel_no for row in rows}

    def push(self, count: int = 1) -> list[Envelope]:
        """Store envelopes of one minute each: two values and now and then a missing one."""
        made = []
        with self.log.engine.begin() as conn:
            ensure_months(conn, at_of(START_MS), at_of(START_MS + 31 * 86_400_000))
            for _ in range(count):
                envelope = self._seal()
                self._store(conn, envelope)
                made.append(envelope)
        return made

    def raise_flag(self) -> str:
        with self.log.engine.begin() as conn:
            sseq = conn.execute(
                sa.text("SELECT sseq + 1 FROM subject_head WHERE subj = :subj"), {"subj": self.subj}
            ).scalar_one()
            flag_id = f"{self.stn}-{sseq}"
            row = {
                "flag_id": flag_id,
                "detector": "hold",
                "detector_version": "1",
                "kind": "hold",
                "verdict": "cannot be",
                "channels": ["SO2"],
                "e_value": 12.5,
                "episode": f"e{sseq}",
                "text_en": "Held, too long",
                "text_zh": "保持",
            }
            data = {
                **row,
                "kinds": ["hold"],
                "from_ms": START_MS,
                "to_ms": START_MS + MINUTE_MS,
                "statistic": {"name": "run", "value": 9},
                "numbers": {},
                "innocent": [],
                "look_at_en": "",
                "look_at_zh": "",
                "config_hash": "c",
                "state_hash": "s",
                "input": {"ep": 0, "seq_first": 0, "seq_last": 1},
                "plot_sha256": hashlib.sha256(PLOT.encode()).hexdigest(),
            }
            event = append_event(
                conn, self.log.service_key, typ="flag.raised", subj=self.subj, act="detection", data=data
            )
            conn.execute(
                sa.text(
                    "INSERT INTO flag VALUES (:flag_id, :stn, :detector, :detector_version, :kind, "
                    ":verdict, :from_at, :to_at, :channels, :e_value, :episode, "
                    ":text_en, :text_zh, :plot, :raised_at, :event_id)"
                ),
                {
                    **row,
                    "stn": self.stn,
                    "from_at": at_of(START_MS),
                    "to_at": at_of(START_MS + MINUTE_MS),
                    "plot": PLOT,
                    "raised_at": at_of(event.ts_ms),
                    "event_id": event.event_id,
                },
            )
        return flag_id

    def review(self, flag_id: str, reason: str = "The analyser was held by hand.") -> str:
        salt = b"n" * 32
        with self.log.engine.begin() as conn:
            grant_access(
                conn, self.log.service_key, Account("inspector-1", "i", "inspector"), act="service:test"
            )
            sseq = conn.execute(
                sa.text("SELECT sseq + 1 FROM subject_head WHERE subj = :subj"), {"subj": self.subj}
            ).scalar_one()
            row = {"review_id": f"{self.stn}-{sseq}", "flag_id": flag_id, "decision": "confirmed_odd"}
            digest = hashlib.sha256(salt + reason.encode()).hexdigest()
            event = append_event(
                conn,
                self.log.service_key,
                typ="review.decision",
                subj=self.subj,
                act="inspector-1",
                data={**row, "reason_sha256": digest},
            )
            conn.execute(
                sa.text(
                    "INSERT INTO review VALUES (:review_id, :flag_id, 'inspector-1', :decision, "
                    ":reason, :salt, :decided_at, :event_id)"
                ),
                {
                    **row,
                    "reason": reason,
                    "salt": salt,
                    "decided_at": at_of(event.ts_ms),
                    "event_id": event.event_id,
                },
            )
        return row["review_id"]

    @property
    def subj(self) -> str:
        return f"station:{self.stn}"

    def _seal(self) -> Envelope:
        at_ms = START_MS + self.seq * MINUTE_MS
        missing = self.seq % 5 == 4
        records = [
            Record(
                "SO2",
                at_ms,
                "mg/m3",
                None if missing else Decimal("35.1") + self.seq,
                "D" if missing else "N",
            ),
            Record("flow", at_ms, "m3/h", Decimal("120000.5"), "N"),
        ]
        envelope = seal_envelope(
            self.key, stn=self.stn, ep=0, seq=self.seq, prev=self.prev, iat_ms=at_ms, cp=None, records=records
        )
        self.seq, self.prev = self.seq + 1, envelope.env_id
        return envelope

    def _store(self, conn: sa.Connection, envelope: Envelope) -> None:
        times = [record.at_ms for record in envelope.records]
        row = {
            "env_id": envelope.env_id,
            "stn": self.stn,
            "ep": envelope.ep,
            "seq": envelope.seq,
            "kid": envelope.kid,
            "iat_ms": envelope.iat_ms,
            "recv_ms": envelope.iat_ms + 5,
            "jws": envelope.jws,
            "first_at": at_of(min(times)),
            "last_at": at_of(max(times)),
            "count": len(times),
        }
        number = conn.execute(
            sa.text(
                "INSERT INTO envelope VALUES (nextval('envelope_no_seq'), :env_id, :stn, :ep, :seq, :kid, "
                ":iat_ms, :recv_ms, :first_at, :last_at, :count, :jws) RETURNING envelope_no"
            ),
            row,
        ).scalar_one()
        for record in envelope.records:
            conn.execute(
                sa.text("INSERT INTO reading VALUES (:at, :channel_no, :number, :value, :status)"),
                {
                    "at": at_of(record.at_ms),
                    "channel_no": self.channels[record.name],
                    "number": number,
                    "value": None if record.value is None else float(record.value),
                    "status": record.status,
                },
            )
        conn.execute(
            sa.text(
                "INSERT INTO station_head VALUES (:stn, :ep, :seq, :env_id, :last_at) "
                "ON CONFLICT (stn) DO UPDATE SET ep = excluded.ep, seq = excluded.seq, "
                "env_id = excluded.env_id, last_at = excluded.last_at"
            ),
            row,
        )
