"""Replay the log from leaf 0: keys, signatures, chains, and the rows its entries call for."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from emdi.chain import StationHead, check_next, check_subject
from emdi.encoding import b64u_decode
from emdi.entry import KIND_EVENT, KIND_GENESIS, KIND_QUARANTINED, KIND_READING, Entry
from emdi.envelope import Envelope, parse_envelope
from emdi.errors import ChainError, EmdiError
from emdi.event import Event, parse_event
from emdi.keys import PublicKey
from stackwitness.log.fsck.records import Records
from stackwitness.log.fsck.report import Report
from stackwitness.log.fsck.signatures import Signatures
from stackwitness.log.genesis import Genesis, parse_genesis

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class KnownKey:
    """A station's key as the log pinned it; `revoked_by` names the event that ended it."""

    stn: str
    public: PublicKey
    revoked_by: str | None = None


@dataclass
class History:
    """What the entries so far establish. `take` them in log order, pending ones last."""

    report: Report
    signatures: Signatures
    genesis: Genesis | None = None
    service_public: PublicKey | None = None
    keys: dict[str, KnownKey] = field(default_factory=dict)
    stations: dict[str, StationHead] = field(default_factory=dict)
    last_at_ms: dict[str, int] = field(default_factory=dict)
    subjects: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    records: Records = field(default_factory=Records)

    def take(self, idx: int | None, entry: Entry) -> Envelope | Event | Genesis | None:
        """Check one entry against everything before it and return it parsed; None when it cannot be read."""
        try:
            if entry.kind == KIND_GENESIS:
                return self._take_genesis(idx, entry.body)
            if entry.kind == KIND_EVENT:
                event = parse_event(entry.body)
                self._take_event(idx, event)
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
        self.genesis, self.service_public = genesis, genesis.service_public
        return genesis

    def _take_envelope(self, idx: int | None, envelope: Envelope, *, quarantined: bool) -> None:
        table = "quarantine" if quarantined else "envelope"
        name = f"{envelope.stn}/{envelope.ep}/{envelope.seq}"
        key = self.keys.get(envelope.kid)
        if key is None:
            text = f"signed with {envelope.kid}, which no earlier event registered"
            self.report.tamper("key.unknown", table, name, text, idx)
        elif key.stn != envelope.stn:
            self.report.tamper("key.station", table, name, f"key {envelope.kid} is that of {key.stn}", idx)
        elif key.revoked_by is not None and not quarantined:
            text = f"key {envelope.kid} was revoked by {key.revoked_by}"
            self.report.tamper("key.revoked", table, name, text, idx)
        if key is not None:
            self._verify(idx, table, name, envelope, key.public)
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

    def _take_event(self, idx: int | None, event: Event) -> None:
        name = f"{event.subj} #{event.sseq} {event.typ}"
        self.report.events += 1
        if self.service_public is None or self.genesis is None or event.kid != self.genesis.service_kid:
            self.report.tamper("key.unknown", "event", name, f"signed with unknown key {event.kid}", idx)
        else:
            self._verify(idx, "event", name, event, self.service_public)
        try:
            check_subject(self.subjects.get(event.subj), event)
        except ChainError as error:
            note = self.report.miss if error.code == "chain.gap" else self.report.tamper
            note(error.code, "event", name, f"the subject's chain breaks here: {error.message}", idx)
        self.subjects[event.subj] = (event.sseq, event.event_id)
        try:
            self._learn(event, idx)
            self.records.expect(event, idx)
        except (KeyError, TypeError, ValueError, EmdiError) as error:
            self.report.tamper("event.data", "event", name, f"its data cannot be read: {error!r}", idx)

    def _learn(self, event: Event, idx: int | None) -> None:
        if event.typ in ("key.register", "key.rotate"):
            data = event.data
            public = PublicKey.from_bytes(data["alg"], b64u_decode(data["public_b64u"]))
            if data["kid"] in self.keys:
                text = f"key {data['kid']} is registered twice"
                self.report.tamper("key.twice", "station_key", data["kid"], text, idx)
            self.keys[data["kid"]] = KnownKey(data["stn"], public)
        elif event.typ == "key.revoke" and event.data["kid"] in self.keys:
            self.keys[event.data["kid"]].revoked_by = f"event {event.subj} #{event.sseq}"

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
