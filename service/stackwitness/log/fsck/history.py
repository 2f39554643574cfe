"""Replay the log from leaf 0: keys, signatures, chains, and the rows its entries call for."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from emdi.chain import StationHead, check_next, check_subject
from emdi.entry import KIND_EVENT, KIND_GENESIS, KIND_QUARANTINED, KIND_READING, Entry
from emdi.envelope import Envelope, parse_envelope
from emdi.errors import ChainError, EmdiError, EnvelopeError
from emdi.event import Event, parse_event
from emdi.event_form import check_form
from emdi.keyring import KeyRing
from emdi.keys import PublicKey
from emdi.officers import Officers
from emdi.policy import read_change
from emdi.shard import FREEZE, chains_of, parse_previous
from stackwitness.log.fsck.records import Records
from stackwitness.log.fsck.report import Report
from stackwitness.log.fsck.signatures import Signatures
from stackwitness.log.genesis import Genesis, parse_genesis
from stackwitness.log.logkeys import LogKeys

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class History:
    """What the entries so far establish. `take` them in log order, pending ones last."""

    report: Report
    signatures: Signatures
    previous_head: bytes = b""
    genesis: Genesis | None = None
    log_keys: LogKeys | None = None
    keys: KeyRing = field(default_factory=KeyRing)
    officers: Officers = field(default_factory=Officers)
    frozen: int | None = None  # where log.freeze stands, until what stands behind it is named
    place: int = -1  # the index of the entry in hand; what waits for the log takes those after its last
    stations: dict[str, StationHead] = field(default_factory=dict)
    last_at_ms: dict[str, int] = field(default_factory=dict)
    subjects: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    records: Records = field(default_factory=Records)

    def take(self, idx: int | None, entry: Entry) -> Envelope | Event | Genesis | None:
        """Check one entry against everything before it and return it parsed; None when it cannot be read."""
        self.place = self.place + 1 if idx is None else idx
        if self.frozen is not None:
            text = f"the log goes on behind log.freeze (idx {self.frozen}), its last entry"
            self.report.tamper("freeze.broken", "log_entry", str(self.place), text, idx)
            self.frozen = None
        try:
            if entry.kind == KIND_GENESIS:
                return self._take_genesis(idx, entry.body)
            if entry.kind == KIND_EVENT:
                event = parse_event(entry.body)
                self._take_event(idx, event, entry.recv_ms)
                return event
            envelope = parse_envelope(entry.body)
            self._take_envelope(idx, envelope, quarantined=entry.kind == KIND_QUARANTINED)
            return envelope
        except EmdiError as error:
            self.report.tamper("entry.malformed", "log_entry", str(idx), str(error), idx)
            return None

    def _take_genesis(self, idx: int | None, body: bytes) -> Genesis:
        genesis = parse_genesis(body)
        if idx != 0 or self.genesis is not None:
            self.report.tamper(
                "genesis.place", "log_genesis", str(idx), "a genesis stands behind leaf 0", idx
            )
            return genesis
        self.keys.take_genesis(idx, body)
        self.genesis, self.log_keys = genesis, LogKeys(genesis)
        if genesis.previous is not None:
            self._take_previous(idx, genesis.previous)
        return genesis

    def _take_previous(self, idx: int | None, members: dict[str, Any]) -> None:
        """Let the stations' chains go on where the shard before this one ended."""
        try:
            self.stations |= chains_of(parse_previous(members), self.previous_head)
        except EmdiError as error:
            text = f"where the chains of the shard before ended: {error}"
            self.report.tamper("log_previous.edited", "log_previous", members.get("origin", "?"), text, idx)

    def _take_envelope(self, idx: int | None, envelope: Envelope, *, quarantined: bool) -> None:
        table = "quarantine" if quarantined else "envelope"
        name = f"{envelope.stn}/{envelope.ep}/{envelope.seq}"
        key = self.keys.public_of(envelope.stn, envelope.kid)
        try:
            key = self.keys.station_key(envelope.stn, envelope.kid, self.place)
        except EnvelopeError as error:
            self.report.tamper(error.code, table, name, error.message, idx)
        if key is not None:
            self._verify(idx, table, name, envelope, key)
        if quarantined:
            return
        self.report.envelopes += 1
        try:
            check_next(self.stations.get(envelope.stn), envelope)
        except ChainError as error:
            note = self.report.miss if error.code == "chain.gap" else self.report.tamper
            note(error.code, table, name, f"the station's chain breaks here: {error.message}", idx)
        self.stations[envelope.stn] = StationHead(envelope.ep, envelope.seq, envelope.env_id)
        last_ms = max(record.at_ms for record in envelope.records)
        self.last_at_ms[envelope.stn] = max(last_ms, self.last_at_ms.get(envelope.stn, last_ms))

    def _take_event(self, idx: int | None, event: Event, recv_ms: int) -> None:
        name = f"{event.subj} #{event.sseq} {event.typ}"
        self.report.events += 1
        if event.typ == FREEZE and event.subj == "log":
            self.frozen = self.place
        valid = True
        try:
            self._verify(idx, "event", name, event, self.keys.service_key(event.kid, self.place))
        except EnvelopeError as error:
            self.report.tamper(error.code, "event", name, error.message, idx)
            valid = False
        try:
            check_subject(self.subjects.get(event.subj), event)
        except ChainError as error:
            note = self.report.miss if error.code == "chain.gap" else self.report.tamper
            note(error.code, "event", name, f"the subject's chain breaks here: {error.message}", idx)
        self.subjects[event.subj] = (event.sseq, event.event_id)
        if self.log_keys is not None:
            self.log_keys.take(event)
        # What no key in use signed teaches nothing: monitor and verifier do not believe it either.
        if valid:
            self._learn(idx, event, recv_ms, name)

    def _learn(self, idx: int | None, event: Event, recv_ms: int, name: str) -> None:
        """Take what an event says, and name it when it says nothing."""
        try:
            self.keys.take_event(self.place, event)
        except EmdiError as error:
            self.report.tamper(error.code, "event", name, error.message, idx)
        try:
            self.officers.take_event(self.place, event, recv_ms)
            if event.typ == "policy.change" and self.genesis is not None:
                read_change(event.data, self.genesis.origin)
        except EmdiError as error:
            self.report.tamper(error.code, "event", name, error.message, idx)
        formed = True
        try:
            check_form(event)
        except EmdiError as error:
            self.report.tamper("event.data", "event", name, error.message, idx)
            formed = False
        try:
            self.records.expect(event, idx)
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, EmdiError) as error:
            if formed:
                self.report.tamper("event.data", "event", name, f"its data cannot be read: {error!r}", idx)

    def _verify(
        self, idx: int | None, table: str, name: str, signed: Envelope | Event, key: PublicKey
    ) -> None:
        if signed.alg == key.alg:
            self.signatures.add(idx, table, name, key, signed.jws)
        else:
            text = f"signed with {signed.alg}, the key is registered for {key.alg}"
            self.report.tamper("envelope.alg", table, name, text, idx)


def entry_id_of(kind: int, parsed: Envelope | Event | Genesis) -> bytes | None:
    """Return the id an entry is stored under, where it follows from its content."""
    if isinstance(parsed, Envelope):
        return parsed.env_id if kind in (KIND_READING, KIND_QUARANTINED) else None
    return parsed.event_id if isinstance(parsed, Event) else None


def at_of(at_ms: int) -> datetime:
    """Return the aware UTC datetime of Unix milliseconds."""
    return EPOCH + timedelta(milliseconds=at_ms)
