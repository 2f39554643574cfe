"""A monitor over a log of files that a test may spoil, and the clock it reads."""

import random
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from emdi.checkpoint import Checkpoint
from emdi.encoding import b64u_encode
from emdi.entry import KIND_EVENT, KIND_READING, encode_entry
from emdi.envelope import ZERO_HASH, seal_envelope
from emdi.event import seal_event
from emdi.head import head_root, station_line, subject_line
from emdi.note import NoteSigner, sign_note
from emdi.pack import Record
from emdi.policy import parse_policy
from emdi.proof_check import Account, check_proof
from emdi.proof_file import parse_proof
from emdi.shard import Previous
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor.loop import Monitor, Turn
from tests.emdi.making import START_MS, STN, Log, seed
from tests.support.static_log import StaticLog

DAY_MS = 86_400_000


@dataclass
class Watch:
    """A log in memory, published as files, and a monitor of it with a clock of its own."""

    log: Log
    site: StaticLog
    home: Path
    now_ms: int = START_MS + 600_000
    turns: list[Turn] = field(default_factory=list)
    link: ServerLink | None = None

    def publish(self, entries: list[bytes] | None = None) -> None:
        self.site.publish(self.log.entries if entries is None else entries, self.now_ms)

    def look(self) -> Turn:
        if self.link is None or self.link.url != self.site.url:
            self.link = ServerLink(self.site.url)
        policy = parse_policy(self.site.policy)
        monitor = Monitor(self.home, self.link, policy, now_ms=lambda: self.now_ms, rng=random.Random(1))
        try:
            self.turns.append(monitor.turn())
        finally:
            monitor.close()
        return self.turns[-1]

    def later(self, seconds: int = 60) -> None:
        self.now_ms += 1000 * seconds

    def alarms(self) -> list[str]:
        return sorted(path.stem.partition("-")[2] for path in (self.home / "alarms").glob("*.json"))

    def check(self, kind: str) -> Account:
        """Check the one alarm of this type as a stranger would: file and policy, nothing else."""
        [path] = (self.home / "alarms").glob(f"*-{kind}.json")
        return check_proof(parse_proof(path.read_bytes()), parse_policy(self.site.policy))

    def append(self, kind: int, body: bytes, recv_ms: int | None = None) -> int:
        at_ms = self.now_ms if recv_ms is None else recv_ms
        self.log.entries.append(encode_entry(kind, at_ms, body))
        return len(self.log.entries) - 1

    def envelope(self, **changes: Any) -> int:
        """Append the station's next envelope, with these claims changed."""
        last = self.log.envelopes[-1]
        claims: dict[str, Any] = {
            "stn": STN,
            "ep": last.ep,
            "seq": last.seq + 1,
            "prev": last.env_id,
            "cp": None,
        }
        claims |= {"iat_ms": self.now_ms, "records": [record(self.now_ms)]}
        kind, recv_ms = changes.pop("kind", KIND_READING), changes.pop("recv_ms", None)
        made = seal_envelope(changes.pop("signer", self.log.station), **{**claims, **changes})
        self.log.envelopes.append(made)
        return self.append(kind, made.jws, recv_ms)

    def event(self, subj: str, typ: str, data: dict[str, Any], **changes: Any) -> int:
        """Append the first event of a subject of its own."""
        claims: dict[str, Any] = {"sseq": 0, "sprev": ZERO_HASH, "act": "system", "ts_ms": self.now_ms}
        signer = changes.pop("signer", self.log.service)
        made = seal_event(signer, subj=subj, typ=typ, data=data, **{**claims, **changes})
        return self.append(KIND_EVENT, made.jws)


def last_note(previous: Previous) -> bytes:
    """Return the checkpoint a shard ended with, signed by a key nobody here asks for."""
    text = Checkpoint(previous.origin, previous.size, previous.root).text()
    return sign_note(text, NoteSigner(previous.origin or "nobody", seed("the log before")))


def record(at_ms: int, value: str = "41.5") -> Record:
    return Record("nox-0", at_ms, "mg/m3", Decimal(value), "N")


def head_lines(log: Log) -> list[str]:
    last = log.envelopes[-1]
    lines = [station_line(STN, last.ep, last.seq, last.env_id)]
    lines += [subject_line(one.subj, one.sseq, one.event_id) for one in (log.events[-1], *log.grants)]
    return sorted(lines)


def head_data(lines: list[str], as_of: int) -> dict[str, Any]:
    root = b64u_encode(head_root(lines))
    return {
        "as_of": as_of,
        "date": "2026-09-21",
        "lines": len(lines),
        "root_b64u": root,
        "occasion": "demand",
    }
